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

"""Every "is this significant" question: sources of the PSF's shape against the
noise of the pixels they lie on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import oaconvolve

from .boxes import Box, box_at, nearest_pixel, overlap, strips
from .scene import DEFAULT_BAD_PLANES, Array, Positions, Scene

__all__ = [
    "correlate",
    "expected_snr",
    "flat_spectrum_snr",
    "n_bands_seen",
    "point_source_flux",
    "point_source_sums",
    "psf_smoothed",
    "significance",
    "snr_over_bands",
]

# From so many times the scatter on one band stands out, and several together have
# seen something.
_ALONE, _TOGETHER = 5.0, 1.0

# Of a PSF that falls on bad pixels but for a tenth of its weight nothing is
# known.
_LEAST_SEEN = 0.1

# Double precision carries this much between the quietest and the loudest
# pixel; what is noisier has no information.
_DYNAMIC_RANGE = 1e10


def correlate(image: npt.NDArray[Any], kernel: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Sum of the pixels around each pixel, weighted by a centred kernel.

    In double precision: the rounding errors of an FFT are relative to the
    brightest pixels of a block, and variances span many orders of magnitude.
    All blocks at once take a hundred bytes a pixel: of a large image `strips`.

    Parameters
    ----------
    image : `numpy.ndarray`, (y, x)
        Pixels; 0 beyond the edges.
    kernel : `numpy.ndarray`, (h, w)
        Weights, odd sides.

    Returns
    -------
    sums : `numpy.ndarray`, (y, x), float64
        The sums.
    """
    sums: npt.NDArray[np.float64] = oaconvolve(
        image.astype(np.float64), kernel[::-1, ::-1].astype(np.float64), mode="same"
    )
    return sums


def _seen(good: npt.NDArray[np.bool_], psf: Array, least: float) -> npt.NDArray[np.bool_]:
    """Where good pixels have more than a part of the PSF's weight."""
    squared = np.square(psf, dtype=np.float64)
    seen: npt.NDArray[np.bool_] = correlate(good, squared) > least * squared.sum()
    return seen


def point_source_sums(
    image: Array, weights: npt.NDArray[Any], psf: Array, *, least_seen: float = _LEAST_SEEN
) -> tuple[Array, Array]:
    """Sums from which a point source's best flux at each pixel follows.

    With ``d`` the data, ``w`` the inverse variance and ``p`` the PSF centred
    on a pixel, the sums are ``sum(w p d)`` and ``sum(w p^2)``; their ratio is
    the maximum-likelihood flux, and the first over the root of the second
    its signal-to-noise ratio (e.g. Bosch et al. 2018, PASJ 70, S5, sec. 4.7).

    Parameters
    ----------
    image, weights : `numpy.ndarray`, (y, x), float
        Pixels and inverse variances; weight 0 leaves a pixel out.
    psf : `numpy.ndarray`, (h, w), float
        PSF image, odd sides.
    least_seen : `float`, optional
        Part of the PSF's ``sum(p^2)`` that must fall on good pixels, however
        noisy they are.

    Returns
    -------
    signal, norm : `numpy.ndarray`, (y, x)
        The two sums, of the image's type; both 0 where good pixels see less.
    """
    signal = correlate(np.multiply(image, weights, dtype=np.float64), psf)
    norm = correlate(weights, np.square(psf, dtype=np.float64))
    unseen = ~_seen(weights > 0, psf, least_seen) | ~(norm > 0)
    signal[unseen] = 0
    norm[unseen] = 0
    return signal.astype(image.dtype), norm.astype(image.dtype)


def psf_smoothed(
    image: Array, variance: Array, good: npt.NDArray[np.bool_], psf: Array
) -> tuple[Array, Array]:
    """An image filtered with its PSF, and the noise of that.

    The stack's detection: not weighted by the inverse variance, for where a
    source's own photons make the noise, weights would flatten the very peak
    that is looked for.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (y, x), float
        Pixels and their variance.
    good : `numpy.ndarray`, (y, x), bool
        Pixels to use.
    psf : `numpy.ndarray`, (h, w), float
        PSF image of unit sum, odd sides.

    Returns
    -------
    smooth, sigma : `numpy.ndarray`, (y, x)
        The filtered image and its standard deviation, of the image's type; 0
        and infinite at pixels that are not good or see hardly any good one.
    """
    if good.any():
        good = good & (variance < _DYNAMIC_RANGE * np.median(variance[good]))
    squared = np.square(psf, dtype=np.float64)
    smooth, sigma = np.zeros_like(image), np.full_like(image, np.inf)
    for around, inner, rows in strips(len(image), len(psf) // 2):
        there = good[around]
        seen = correlate(there, psf)[inner]
        total = correlate(np.where(there, image[around], 0), psf)[inner]
        noise = correlate(np.where(there, variance[around], 0), squared)[inner]
        usable = there[inner] & (seen > _LEAST_SEEN) & (noise > 0)
        smooth[rows][usable] = total[usable] / seen[usable]
        sigma[rows][usable] = np.sqrt(noise[usable]) / seen[usable]
    return smooth, sigma


def n_bands_seen(squares: npt.NDArray[np.floating], n_values: npt.NDArray[np.integer] | int = 1) -> int:
    """Count the bands in which a residual shows something.

    What a missing source leaves is light in some places and bands and too
    little in others, where its neighbour's model has taken it: the sum may be
    nothing where the squares are not. A faint source stands out in hardly any
    band by itself, but in all of them a little; an artefact in one band, and
    in the others not at all. So what counts is whether there is anything in
    the others together.

    Parameters
    ----------
    squares : `numpy.ndarray`, (band,)
        Sums of the squares of values in units of their noise.
    n_values : `numpy.ndarray`, (band,), or `int`, optional
        How many values are in each.

    Returns
    -------
    n_bands : `int`
        Largest n such that without the n - 1 best bands the squares of the
        others together exceed what noise gives by its scatter. Where no band
        stands out by itself, by five times the scatter, nothing speaks for
        one alone: all of them.
    """
    excess = (squares - n_values) / np.sqrt(2 * np.asarray(n_values))
    if not (excess >= _ALONE).any():
        return len(excess)
    worst_first = np.sort(excess)
    of_the_worst = np.cumsum(worst_first) / np.sqrt(np.arange(1, len(worst_first) + 1))
    return int((of_the_worst >= _TOGETHER).sum())


def significance(signal: Array, norm: Array) -> Array:
    """Signal-to-noise ratio from the two sums, 0 where ``norm`` is 0."""
    return np.divide(signal, np.sqrt(norm), out=np.zeros_like(signal), where=norm > 0)


def _around(
    scene: Scene, y: Positions, x: Positions, bad_planes: Sequence[str] = DEFAULT_BAD_PLANES
) -> Iterator[tuple[Box, Array, npt.NDArray[np.float64]]]:
    """For each place the pixels that a PSF there covers, their weights and the
    PSFs; the weights are 0 where good pixels see too little of the PSF.
    """
    height, width = scene.psfs.shape[1:]
    pixels = nearest_pixel(np.stack([y, x], axis=1), scene.origin).tolist()
    for (row, column), there in zip(pixels, map(scene.at, y, x), strict=True):
        totals = np.square(there.psfs, dtype=np.float64).sum(axis=(1, 2))
        stamp = box_at((row - height // 2, column - width // 2), (height, width))
        box, seen_part = overlap(box_at((0, 0), scene.shape), stamp)
        weights = scene.weights(bad_planes, box)
        psfs = there.psfs[:, *seen_part].astype(np.float64)
        seen = np.square(psfs).sum(axis=(1, 2), where=weights > 0)
        weights[~(seen > _LEAST_SEEN * totals)] = 0
        yield box, weights, psfs


def point_source_flux(
    images: Array, scene: Scene, y: Positions, x: Positions
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fluxes of point sources at given places, each as if alone.

    The same as from `point_source_sums` at the nearest pixels, worked out
    there alone.

    Parameters
    ----------
    images : `numpy.ndarray`, (band, y, x), float
        Pixels, such as a residual.
    scene : `Scene`
        Gives noise, bad pixels and PSFs.
    y, x : `numpy.ndarray`, (n,)
        Patch coordinates.

    Returns
    -------
    flux, sigma : `numpy.ndarray`, (n, band), float64
        Flux and its standard deviation in image units; 0 and infinite where
        good pixels see hardly anything of the PSF.
    """
    flux = np.zeros((len(y), len(scene.bands)))
    sigma = np.full_like(flux, np.inf)
    for place, (box, weights, psfs) in enumerate(_around(scene, y, x)):
        norm = (weights * psfs**2).sum(axis=(1, 2))
        seen = norm > 0
        flux[place, seen] = (weights * psfs * images[:, *box]).sum(axis=(1, 2))[seen] / norm[seen]
        sigma[place, seen] = norm[seen] ** -0.5
    return flux, sigma


def flat_spectrum_snr(
    scene: Scene, y: Positions, x: Positions, *, bad_planes: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Signal-to-noise ratios over all bands of point sources that are equally
    bright in each, at given places: (n,); 0 where nothing is known.
    """
    snr = np.zeros(len(y))
    for place, (box, weights, psfs) in enumerate(_around(scene, y, x, bad_planes)):
        norm = (weights * psfs**2).sum()
        if norm > 0:
            snr[place] = (weights * psfs * scene.images[:, *box]).sum() / np.sqrt(norm)
    return snr


def snr_over_bands(flux: npt.NDArray[np.float64], sigma: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Signal-to-noise ratios over all bands: (n,), from `point_source_flux`; a
    negative flux adds nothing.
    """
    return np.sqrt(np.square(np.maximum(flux, 0) / sigma).sum(axis=1))


def expected_snr(
    fluxes: npt.NDArray[np.float64], scene: Scene, y: Positions, x: Positions
) -> npt.NDArray[np.float64]:
    """Signal-to-noise ratios over all bands that isolated point sources of
    given fluxes, (n, band), are expected to have: (n,); with the noise of the
    pixels that each lies on, 0 where no band sees them.
    """
    return snr_over_bands(fluxes, point_source_flux(scene.images, scene, y, x)[1])
