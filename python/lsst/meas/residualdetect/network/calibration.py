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


"""From a network's scores to probabilities that mean the same on any sky."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import expit, logit

from ..boxes import Box
from ..scene import Array, Positions

__all__ = [
    "COVARIATES",
    "FORMULA",
    "Calibration",
    "CovariateCalibration",
    "ScoreCalibration",
    "covariates",
    "filtered_noise",
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
_CORE_PIX = 3.0  # what lies farther out is a candidate's surroundings

# Signal-to-noise ratio from which a band has seen a candidate.
_BAND_SNR = 3.0

# A score of 0 or 1 has no log-odds, and none in float32 is beyond 1 - 6e-8.
_LEAST_SCORE = 1e-6

_MAX_DISTANCE_PIX = 20.0

# Where the noise is measured: pieces of an image, and pixels without a model.
_PER_SIDE, _NOISE_SIDE = 4, 256
_NO_LIGHT, _LEAST_PIXELS = 0.1, 200
_DEVIATIONS_PER_MAD = 1.4826


class Calibration(Protocol):
    """How scores become probabilities."""

    @property
    def needs_covariates(self) -> bool:
        """Whether it uses more than the score."""

    def probability(
        self, scores: npt.NDArray[np.floating], measured: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Probability that detections with these scores (n,), and these
        `covariates` (n, k) if they are used, are right: (n,).
        """


@dataclass(frozen=True)
class ScoreCalibration:
    """A table of scores alone.

    Parameters
    ----------
    score, probability_at : `tuple` [`float`, ...]
        Scores, and the probability at each that a detection is right;
        linear in between.
    """

    score: tuple[float, ...]
    probability_at: tuple[float, ...]

    @property
    def needs_covariates(self) -> bool:
        """See `Calibration`."""
        return False

    def probability(
        self, scores: npt.NDArray[np.floating], measured: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """See `Calibration`."""
        return np.interp(scores, self.score, self.probability_at)


@dataclass(frozen=True)
class CovariateCalibration:
    """A logistic function of the score and of what any sky has.

    Parameters
    ----------
    intercept : `float`
        Log-odds where all covariates are 0.
    coefficients : `tuple` [`float`, ...]
        Log-odds per unit of each of `COVARIATES`.
    """

    intercept: float
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(COVARIATES):
            raise ValueError(f"{len(self.coefficients)} coefficients; expected {len(COVARIATES)}")

    @property
    def needs_covariates(self) -> bool:
        """See `Calibration`."""
        return True

    def probability(
        self, scores: npt.NDArray[np.floating], measured: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """See `Calibration`."""
        if measured is None:
            raise ValueError("this calibration needs covariates")
        return np.asarray(expit(self.intercept + measured @ np.array(self.coefficients)), np.float64)


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
    values: list[list[npt.NDArray[np.floating]]] = []
    for residual, expected in pieces:
        values = values or [[] for _ in residual]
        for band, (pixels, light) in enumerate(zip(residual, expected, strict=True)):
            summed = ndimage.gaussian_filter(pixels, _SIGMA_PIX, mode="constant")
            empty = (pixels != 0) & (np.abs(light) < _NO_LIGHT)
            values[band].append(summed[ndimage.minimum_filter(empty, 2 * int(2 * _SIGMA_PIX) + 1)])
    noise = np.ones(len(values))
    for band, of_pieces in enumerate(values):
        there = np.concatenate(of_pieces)
        if len(there) >= _LEAST_PIXELS:
            deviation = np.median(np.abs(there - np.median(there))) * _DEVIATIONS_PER_MAD
            # White noise would give what the root of the sum of the squared weights is.
            noise[band] = np.clip(deviation * 2 * np.sqrt(np.pi) * _SIGMA_PIX, 1, 3)
    return noise


def _windows(image: Array, places: npt.NDArray[np.int64]) -> Array:
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


def _measure(residual: Array, expected: Array, places: Positions, noise: npt.NDArray[np.float64]) -> Array:
    nearest = np.rint(places).astype(np.int64)
    pixels, light = _windows(residual, nearest), _windows(expected, nearest)
    good = pixels != 0
    steps = np.arange(-_REACH, _REACH + 1)
    y, x = (nearest[:, axis, None] + steps - places[:, axis, None] for axis in (0, 1))
    squared = y[:, :, None] ** 2 + x[:, None, :] ** 2
    weight = np.exp(-0.5 * squared / _SIGMA_PIX**2).astype(np.float32)
    seen = np.sqrt(np.einsum("nyx,bnyx->bn", weight**2, good))
    enough = seen > 0.2 * np.sqrt(np.pi) * _SIGMA_PIX
    per = np.where(enough, 1 / np.maximum(seen, 1e-9), 0) / noise[:, None]
    snr = np.einsum("nyx,bnyx->bn", weight, pixels) * per
    model = np.einsum("nyx,bnyx->bn", weight, light * good) * per
    n_bands = np.maximum(enough.sum(axis=0), 1)
    ring = good & (squared > _CORE_PIX**2) & (squared <= _REACH**2)
    n_ring = np.maximum(ring.sum(axis=(0, 2, 3)), 1)
    # One pixel that a model leaves bright is not the surroundings.
    chi2 = np.where(ring, np.minimum(pixels**2, 100), 0).sum(axis=(0, 2, 3)) / n_ring
    return np.stack(
        [
            np.log(np.maximum(np.sqrt(np.square(np.maximum(snr, 0)).sum(axis=0)), 1)),
            (snr >= _BAND_SNR).sum(axis=0) / n_bands,
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
        the bands in which that is 3 and more; arcsinh of the model's light
        measured alike; ln of the distance to the nearest known peak in
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
            _measure(residual, expected, centres[first : first + 512], noise)
            for first in range(0, len(centres), 512)
        ]
    )
    snr, bands, light, chi2, correlated = measured.T
    return np.stack([odds, odds**2 / 10, snr, bands, light, away, away**2, chi2, correlated], axis=1)
