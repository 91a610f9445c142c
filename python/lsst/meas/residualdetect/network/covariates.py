# This file is part of meas_residualdetect.
#
# This program is free software: you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation, either version 3 of the License, or
# (at your option) any later version.
#
# This program is distributed in the hope that it will be useful,
# but WITHOUT ANY WARRANTY; without even the implied warranty of
# MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
# GNU General Public License for more details.
#
# You should have received a copy of the GNU General Public License
# along with this program.  If not, see <https://www.gnu.org/licenses/>.


"""What decides, beside its score, how far a detection is to be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import logit

from ..boxes import Box, nearest_pixel
from ..scene import Array, Positions
from ..threads import in_parallel

__all__ = [
    "COVARIATES",
    "FORMULA",
    "MAX_LOG_ODDS",
    "covariates",
    "filtered_noise",
    "light_at",
    "noise_boxes",
]

FORMULA = 1
"""Version of the formula behind `covariates`: a package is calibrated with one."""

COVARIATES = (
    "log_odds",
    "log_odds_squared",
    "log_snr",
    "bands",
    "log_light",
    "log_distance",
    "log_distance_squared",
    "log_chi2",
    "log_noise",
)
"""Names of what `covariates` gives, in its order."""

# The weight that sources are measured with: a Gaussian about as wide as the PSF
# of a good site. It need not be the PSF, for it is the same in the calibration.
_SIGMA_PIX = 1.6
_REACH = 8  # of a window, in pixels
_AT_ONCE = 512  # windows
_CORE_PIX = 3.0  # what lies farther out is a candidate's surroundings

# Below the first signal-to-noise ratio a band has not seen a candidate, above
# the second it has, and between them in part: no probability jumps.
_BAND_SNR = (2.0, 4.0)

# A score of 0 or 1 has no log-odds, and none in float32 is beyond 1 - 6e-8.
_LEAST_SCORE = 1e-6

MAX_LOG_ODDS = float(-logit(_LEAST_SCORE))
"""Log-odds of scores lie between this and its negative."""

_MAX_DISTANCE_PIX = 20.0

# Where the noise is measured: pieces of an image, and pixels without a model.
_PER_SIDE, _NOISE_SIDE = 4, 256
_NO_LIGHT, _LEAST_PIXELS = 0.1, 200
_DEVIATIONS_PER_MAD = 1.4826


def noise_boxes(shape: tuple[int, int]) -> list[Box]:
    """Pieces of an image on which `filtered_noise` may be measured: all of a
    small one, else 16, evenly spread.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        Height and width in pixels.

    Returns
    -------
    boxes : `list` [`tuple` [`slice`, `slice`]]
        At most 256 pixels a side if there are several.
    """
    if shape[0] * shape[1] <= (_PER_SIDE * _NOISE_SIDE) ** 2:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    sides = [
        [
            slice(int(first), int(first) + _NOISE_SIDE)
            for first in np.unique(np.linspace(0, max(n - _NOISE_SIDE, 0), _PER_SIDE).astype(int))
        ]
        for n in shape
    ]
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]


def filtered_noise(pieces: Iterable[tuple[Array, Array]]) -> npt.NDArray[np.float64]:
    """By how much the sky's noise exceeds what its variance says, once it is
    summed over a source's pixels.

    Where noise is correlated, as in resampled coadds, a sum over pixels is
    noisier than their variances tell, and what passes for a faint source is
    none.

    Parameters
    ----------
    pieces : `~collections.abc.Iterable` [`tuple`]
        Residual and expected light (6, y, x) of pieces of a scene; see
        `in_noise_units` and `noise_boxes`.

    Returns
    -------
    noise : `numpy.ndarray`, (6,), float64
        Standard deviation, from the median absolute deviation, of the
        residual's signal-to-noise ratio under a Gaussian weight, at pixels
        where the model has less light than a tenth of the noise; from 1 to 3,
        and 1 where there are fewer than 200 such pixels.
    """

    def empty_sums(planes: tuple[Array, Array]) -> Array:
        pixels, light = planes
        empty = (pixels != 0) & (np.abs(light) < _NO_LIGHT)
        summed: Array = ndimage.gaussian_filter(pixels, _SIGMA_PIX, mode="constant")
        return summed[ndimage.minimum_filter(empty, 2 * int(2 * _SIGMA_PIX) + 1)]

    of_pieces = [in_parallel(empty_sums, zip(*piece, strict=True)) for piece in pieces]
    values = [np.concatenate(of_band) for of_band in zip(*of_pieces, strict=True)]
    noise = np.ones(len(values))
    for band, there in enumerate(values):
        if len(there) >= _LEAST_PIXELS:
            deviation = np.median(np.abs(there - np.median(there))) * _DEVIATIONS_PER_MAD
            # White noise would give what the root of the sum of the squared weights is.
            noise[band] = np.clip(deviation * 2 * np.sqrt(np.pi) * _SIGMA_PIX, 1, 3)
    return noise


def _windows(image: Array, places: npt.NDArray[np.intp]) -> Array:
    """Pixels about each of some places (n, 2): (band, n, y, x); 0 beyond the
    edges.
    """
    steps = np.arange(-_REACH, _REACH + 1)
    rows, columns = (places[:, axis, None] + steps for axis in (0, 1))
    inside = ((rows >= 0) & (rows < image.shape[1]))[:, :, None] & (
        (columns >= 0) & (columns < image.shape[2])
    )[:, None, :]
    rows, columns = np.clip(rows, 0, image.shape[1] - 1), np.clip(columns, 0, image.shape[2] - 1)
    cut = image[:, rows[:, :, None], columns[:, None, :]]
    return np.where(inside, cut, np.float32(0))


def _weighted(residual: Array, expected: Array, places: Positions) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Pixels about some places (band, n, y, x), which of them are good, their
    squared distances (n, y, x), and signal-to-noise ratios (band, n) of
    residual and model under the Gaussian, with whether that is of enough
    pixels.
    """
    nearest = nearest_pixel(places)
    pixels, light = _windows(residual, nearest), _windows(expected, nearest)
    good = pixels != 0
    steps = np.arange(-_REACH, _REACH + 1)
    y, x = (nearest[:, axis, None] + steps - places[:, axis, None] for axis in (0, 1))
    squared = y[:, :, None] ** 2 + x[:, None, :] ** 2
    weight = np.exp(-0.5 * squared / _SIGMA_PIX**2).astype(np.float32)
    seen = np.sqrt(np.einsum("nyx,bnyx->bn", weight**2, good))
    enough = seen > 0.2 * np.sqrt(np.pi) * _SIGMA_PIX
    per = np.where(enough, 1 / np.maximum(seen, 1e-9), 0)
    snr = np.einsum("nyx,bnyx->bn", weight, pixels) * per
    model = np.einsum("nyx,bnyx->bn", weight, light * good) * per
    return pixels, good, squared, snr, model, enough


def light_at(residual: Array, expected: Array, places: Positions) -> npt.NDArray[np.float64]:
    """Signal-to-noise ratio of the model's light at some places.

    Parameters
    ----------
    residual, expected, places
        As for `covariates`.

    Returns
    -------
    snr : `numpy.ndarray`, (n,), float64
        Under a Gaussian of 1.6 pixels, summed over bands in quadrature.
    """
    parts = [
        np.sqrt(np.square(_weighted(residual, expected, places[first : first + _AT_ONCE])[4]).sum(axis=0))
        for first in range(0, len(places), _AT_ONCE)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _measure(residual: Array, expected: Array, places: Positions, noise: npt.NDArray[np.float64]) -> Array:
    pixels, good, squared, snr, model, enough = _weighted(residual, expected, places)
    snr, model = snr / noise[:, None], model / noise[:, None]
    n_bands = np.maximum(enough.sum(axis=0), 1)
    ring = good & (squared > _CORE_PIX**2) & (squared <= _REACH**2)
    n_ring = np.maximum(ring.sum(axis=(0, 2, 3)), 1)
    # One pixel that a model leaves bright is not the surroundings.
    chi2 = np.where(ring, np.minimum(pixels**2, 100), 0).sum(axis=(0, 2, 3)) / n_ring
    return np.stack(
        [
            np.log(np.maximum(np.sqrt(np.square(np.maximum(snr, 0)).sum(axis=0)), 1)),
            np.where(enough, np.clip((snr - _BAND_SNR[0]) / (_BAND_SNR[1] - _BAND_SNR[0]), 0, 1), 0).sum(
                axis=0
            )
            / n_bands,
            np.arcsinh(np.sqrt(np.square(model).sum(axis=0))),
            np.log(np.clip(chi2, 0.3, 30)),
            np.log((noise[:, None] * enough).sum(axis=0) / n_bands + (~enough).all(axis=0)),
        ],
        axis=1,
    )


def covariates(
    residual: Array,
    expected: Array,
    known: Positions,
    centres: Positions,
    scores: npt.NDArray[np.floating],
    noise: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """What decides, beside the network's score, how far a detection is to be
    trusted.

    All of it is free of units, and is measured in windows of 17 pixels, so
    that a tile gives what the whole image would.

    Parameters
    ----------
    residual, expected : `numpy.ndarray`, (6, y, x)
        Residual and model in units of the noise, 0 at bad pixels; see
        `in_noise_units`.
    known : `numpy.ndarray`, (m, 2)
        Positions (y, x) of the known peaks, in array coordinates.
    centres : `numpy.ndarray`, (n, 2)
        Those of the detections.
    scores : `numpy.ndarray`, (n,)
        The network's own scores, 0 to 1.
    noise : `numpy.ndarray`, (6,)
        See `filtered_noise`; of the whole scene.

    Returns
    -------
    measured : `numpy.ndarray`, (n, k), float64
        In the order of `COVARIATES`: log-odds of the score, and their square
        / 10; ln of the signal-to-noise ratio of the residual under a Gaussian
        of 1.6 pixels, summed over bands in quadrature, at least 1; share of
        the bands in which that is 4 and more, those of 2 to 4 counting in
        part; arcsinh of the model's light measured alike; ln of the distance to the nearest known peak in
        pixels, 0.5 to 20, and its square; ln of the residual's mean square 3
        to 8 pixels away, a pixel counting 100 at most, 0.3 to 30; ln of the
        mean of ``noise``.
    """
    if not len(centres):
        return np.zeros((0, len(COVARIATES)))
    odds = logit(np.clip(np.asarray(scores, np.float64), _LEAST_SCORE, 1 - _LEAST_SCORE))
    away = cKDTree(known).query(centres)[0] if len(known) else np.full(len(centres), np.inf)
    away = np.log(np.clip(away, 0.5, _MAX_DISTANCE_PIX))
    measured = np.concatenate(
        [
            _measure(residual, expected, centres[first : first + _AT_ONCE], noise)
            for first in range(0, len(centres), _AT_ONCE)
        ]
    )
    snr, bands, light, chi2, correlated = measured.T
    return np.stack([odds, odds**2 / 10, snr, bands, light, away, away**2, chi2, correlated], axis=1)
