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

"""What the network sees: residual, model and known peaks as channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ..boxes import Box, box_at, grown, nearest_pixel, overlap
from ..scene import DEFAULT_BAD_PLANES, Array, Positions, Scene
from .significance import PSF_SIDE, matched_psfs, psf_significance

__all__ = ["CANONICAL_BANDS", "FeatureOptions", "channels_in_box", "in_noise_units", "network_input"]

CANONICAL_BANDS: tuple[str, ...] = ("u", "g", "r", "i", "z", "y")

# Beyond this a pixel tells nothing more, and float16 ends soon after.
_LIMIT = 3e4

# Side of the noise in place of masked pixels, which repeats itself beyond.
_NOISE_SIDE = 256


@dataclass(frozen=True)
class FeatureOptions:
    """How pixels become channels.

    Parameters
    ----------
    softening : `float`
        Values x in units of the noise become
        ``scale`` * arcsinh(x / ``softening``): linear below, logarithmic
        above.
    residual_scale, model_scale : `float`
        Factor of the residual's and of the model's channels.
    peak_channel : `bool`
        Whether a last channel shows where the known peaks are.
    peak_sigma_pix : `float`
        Width of a peak's Gaussian there.
    significance : `bool`
        Whether six more channels show the significance of the residual in
        each band for sources of the PSF's shape, squeezed and scaled as the
        residual is; see `psf_significance`. A network without them knows
        nothing of the PSF.
    hide_masks : `bool`
        Whether pixels that are masked in all bands are shown as empty sky
        with noise. A network that sees where masks are learns from them what
        they say of the training set: that of real blends is masked beyond
        the blend, where little is to be found.
    """

    softening: float = 3.0
    residual_scale: float = 1.5
    model_scale: float = 1.0
    peak_channel: bool = True
    peak_sigma_pix: float = 1.0
    significance: bool = False
    hide_masks: bool = False

    def __post_init__(self) -> None:
        for name in ("softening", "residual_scale", "model_scale", "peak_sigma_pix"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return (2 + self.significance) * len(CANONICAL_BANDS) + self.peak_channel


def in_noise_units(
    scene: Scene,
    model: Array,
    bad_planes: Sequence[str] = DEFAULT_BAD_PLANES,
    box: Box = (slice(None), slice(None)),
) -> tuple[Array, Array]:
    """Residual and model over the standard deviation of each pixel.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    model : `numpy.ndarray`, (band, y, x), float32
        All deblended sources summed, convolved to each band's PSF.
    bad_planes : `~collections.abc.Sequence` [`str`], optional
        Mask planes whose pixels are not used.
    box : `tuple` [`slice`, `slice`], optional
        Array indices (y, x) of the pixels wanted; all if absent.

    Returns
    -------
    residual, model : `numpy.ndarray`, (6, y, x), float32
        In ugrizy; 0 at bad pixels and in bands the scene lacks. Bands that
        are none of ugrizy are left out.

    Raises
    ------
    ValueError
        Raised if the scene has none of ugrizy, or the model is not finite.
    """
    if not set(scene.bands) & set(CANONICAL_BANDS):
        raise ValueError(f"scene {scene.name!r} has bands {list(scene.bands)}, none of {CANONICAL_BANDS}")
    per_sigma = np.sqrt(scene.weights(bad_planes, box))
    shape = (len(CANONICAL_BANDS), *per_sigma.shape[1:])
    residuals, models = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for index, band in enumerate(scene.bands):
        if band in CANONICAL_BANDS:
            place = CANONICAL_BANDS.index(band)
            pixels = model[index, *box]
            if not np.isfinite(pixels).all():
                raise ValueError(f"scene {scene.name!r}: the model's image is not finite in band {band!r}")
            # In double precision nothing finite overflows.
            scale = per_sigma[index].astype(np.float64)
            models[place] = np.clip(pixels * scale, -_LIMIT, _LIMIT)
            difference = np.subtract(scene.images[index, *box], pixels, dtype=np.float64)
            residuals[place] = np.clip(difference * scale, -_LIMIT, _LIMIT)
    return residuals, models


def _peak_image(peaks: npt.NDArray[np.floating], shape: tuple[int, int], sigma_pix: float) -> Array:
    """A Gaussian of unit height at each peak; the highest where they meet."""
    image = np.zeros(shape, np.float32)
    reach = int(np.ceil(4 * sigma_pix))
    near = np.all((peaks > -reach - 1) & (peaks < np.add(shape, reach)), axis=1)
    for y, x in peaks[near]:
        row, column = nearest_pixel((y, x)).tolist()
        box, _ = overlap(box_at((0, 0), shape), grown(box_at((row, column), (1, 1)), reach))
        rows, columns = np.ogrid[box]
        height = np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / sigma_pix**2).astype(np.float32)
        np.maximum(image[box], height, out=image[box])
    return image


@cache
def _noise() -> Array:
    """White noise of unit variance that repeats itself: (6, y, x)."""
    shape = (len(CANONICAL_BANDS), _NOISE_SIDE, _NOISE_SIDE)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _without_masks(residual: Array, model: Array, corner: Sequence[int]) -> Array:
    """The residual with noise where no band has a good pixel."""
    rows, columns = np.nonzero(~(residual.any(axis=0) | model.any(axis=0)))
    if not len(rows):
        return residual
    there = np.flatnonzero(residual.any(axis=(1, 2)))[:, None]
    residual = residual.copy()
    place = (rows + corner[0]) % _NOISE_SIDE, (columns + corner[1]) % _NOISE_SIDE
    residual[there, rows, columns] = _noise()[there, *place]
    return residual


def network_input(
    residual: Array,
    model: Array,
    peaks: npt.NDArray[np.floating],
    options: FeatureOptions,
    psfs: Array | None = None,
    corner: Sequence[int] = (0, 0),
) -> Array:
    """Channels of the network.

    Parameters
    ----------
    residual, model : `numpy.ndarray`, (6, y, x)
        In units of the noise; see `in_noise_units`.
    peaks : `numpy.ndarray`, (n, 2)
        Positions (y, x) of the known peaks, in array coordinates.
    options : `FeatureOptions`
        Scaling.
    psfs : `numpy.ndarray`, (6, h, w), optional
        PSFs in ugrizy; see `matched_psfs`. Needed for the significance.
    corner : `~collections.abc.Sequence` [`int`], optional
        Where the first pixel lies in the whole image, so that the noise that
        hides a mask is the same in all parts of it.

    Returns
    -------
    channels : `numpy.ndarray`, (channel, y, x), float32
        Residuals of ugrizy, models of ugrizy, the peaks if wanted, and the
        significances of ugrizy if wanted.

    Raises
    ------
    ValueError
        Raised if the significance is wanted and there are no PSFs.
    """
    channels = np.empty((options.n_channels, *residual.shape[1:]), np.float32)
    n = len(CANONICAL_BANDS)
    shown = _without_masks(residual, model, corner) if options.hide_masks else residual
    channels[:n] = options.residual_scale * np.arcsinh(shown / np.float32(options.softening))
    channels[n : 2 * n] = options.model_scale * np.arcsinh(model / np.float32(options.softening))
    if options.peak_channel:
        channels[2 * n] = _peak_image(peaks, residual.shape[1:], options.peak_sigma_pix)
    if options.significance:
        if psfs is None:
            raise ValueError("the network's channels include the significance, which needs the PSFs")
        found = psf_significance(shown, psfs) / np.float32(options.softening)
        channels[-n:] = options.residual_scale * np.arcsinh(found)
    return channels


def channels_in_box(
    scene: Scene, model: Array, peaks: Positions, box: Box, options: FeatureOptions
) -> tuple[Array, Array, Array]:
    """Channels of a part of a scene: to rounding those of the whole, cut out.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    model : `numpy.ndarray`, (band, y, x), float32
        All deblended sources summed, convolved to each band's PSF.
    peaks : `numpy.ndarray`, (n, 2)
        Positions (y, x) of the known peaks, in patch coordinates.
    box : `tuple` [`slice`, `slice`]
        Array indices (y, x); what lies beyond the last row or column is not
        there.
    options : `FeatureOptions`
        Scaling.

    Returns
    -------
    residual, model : `numpy.ndarray`, (6, y, x), float32
        In units of the noise; see `in_noise_units`.
    channels : `numpy.ndarray`, (channel, y, x), float32
        See `network_input`.
    """
    # The significance of a pixel comes from its neighbours too.
    reach = PSF_SIDE // 2 if options.significance else 0
    around, _ = overlap(box_at((0, 0), scene.shape), grown(box, reach))
    residual, expected = in_noise_units(scene, model, box=around)
    first = (around[0].start, around[1].start)
    corner = np.add(scene.origin, first)
    psfs = matched_psfs(scene.psfs, scene.bands, CANONICAL_BANDS) if options.significance else None
    channels = network_input(residual, expected, peaks - corner, options, psfs, first)
    inner, _ = overlap(around, box)
    return residual[:, *inner], expected[:, *inner], channels[:, *inner]
