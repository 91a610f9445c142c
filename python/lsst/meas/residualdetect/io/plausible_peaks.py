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


"""Whether catalogues and segmentation maps of known sources fit the pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from ..boxes import is_inside, nearest_pixel
from ..noise import psf_smoothed
from ..scene import Array, Scene
from .remarks import Remarks

__all__ = ["check_peaks", "inverted"]

_SNR = 3.0
_MIN_PEAKS, _MAX_OFF_PIX = 4, 0.7
_MAX_PEAKS_OFF = 0.5
# What is nearer is one source, listed twice.
_TWICE_PIX = 0.3


def check_peaks(
    scene: Scene, peaks: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_], remarks: Remarks
) -> None:
    """Whether peaks lie on light, and on its maxima, and each but once.

    Parameters
    ----------
    scene : `Scene`
        The pixels.
    peaks : `numpy.ndarray`, (n, 2)
        Known sources (y, x), in patch coordinates.
    bad : `numpy.ndarray`, (band, y, x), bool
        Pixels not to use.
    remarks : `Remarks`
        Is told what is likely wrong.
    """
    twice = len(cKDTree(peaks).query_pairs(_TWICE_PIX))
    if twice:
        remarks.doubt(
            f"the {len(peaks)} peaks: {twice} pairs are nearer than {_TWICE_PIX} pixels; "
            "likely they are twice in the catalogue"
        )
    snr = np.zeros(scene.shape)
    for image, variance, masked, psf in zip(scene.images, scene.variance, bad, scene.psfs, strict=True):
        smooth, sigma = psf_smoothed(image, variance, ~masked, psf)
        snr += smooth / sigma / np.sqrt(len(scene.bands))

    def on_light(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        pixels = nearest_pixel(positions, scene.origin)
        inside = is_inside(pixels, scene.shape)
        lit = np.zeros(len(pixels), bool)
        lit[inside] = snr[tuple(pixels[inside].T)] > _SNR
        return lit

    lit = on_light(peaks)
    what = f"the {len(peaks)} peaks"
    # A deep catalogue has sources that nobody sees here, but not at random.
    by_chance = len(peaks) * (snr > _SNR).mean()
    if lit.mean() < 0.5 and lit.sum() <= by_chance + 2 * np.sqrt(by_chance):
        swapped = on_light((peaks - scene.origin)[:, ::-1] + scene.origin).mean()
        reason = f"; with x and y swapped {swapped:.0%} do" if swapped > max(0.5, 2 * lit.mean()) else ""
        remarks.doubt(f"{what}: {lit.mean():.0%} lie on light of {_SNR:g} sigma{reason}")
        return
    pixels = nearest_pixel(peaks, scene.origin)[lit]
    maxima = np.argwhere((snr == ndimage.maximum_filter(snr, size=5)) & (snr > 2 * _SNR))
    if not len(maxima):
        return
    offsets = maxima[None, :, :] - pixels[:, None, :]
    nearest = np.abs(offsets).max(axis=2).argmin(axis=1)
    off = offsets[np.arange(len(pixels)), nearest] + (pixels - (peaks[lit] - scene.origin))
    off = off[np.abs(off).max(axis=1) < 6]
    if len(off) < _MIN_PEAKS:
        return
    middle = np.median(off, axis=0)
    agree = (np.abs(off - middle).max(axis=1) < _MAX_OFF_PIX).mean()
    if np.abs(middle).max() > _MAX_OFF_PIX and agree > 0.6:
        counted = " (counted from 1?)" if np.abs(middle + 1).max() < 0.5 else ""
        remarks.doubt(
            f"{what}: the light's maxima lie y={middle[0]:+.1f}, x={middle[1]:+.1f} pixels off them{counted}"
        )


def inverted(
    labels: npt.NDArray[np.integer], images: Array, pixels: npt.NDArray[np.integer] | None = None
) -> str:
    """Why a segmentation map looks inverted; empty if it does not.

    Parameters
    ----------
    labels : `numpy.ndarray`, (y, x), int
        0 where there is no source.
    images : `numpy.ndarray`, (band, y, x), float32
        The pixels.
    pixels : `numpy.ndarray`, (n, 2), int, optional
        Array indices (y, x) of known sources.
    """
    inside = labels > 0
    message = "the map looks inverted; 0 must mean that there is no source"
    if pixels is not None and len(pixels):
        off = 1 - inside[tuple(pixels.T)].mean()
        if off > _MAX_PEAKS_OFF:
            return f"{off:.0%} of the {len(pixels)} peaks lie on no footprint; {message}"
    if inside.all():
        return f"every pixel belongs to a footprint; {message}"
    bright = images.mean(axis=0)
    if inside.any() and np.median(bright[inside]) < np.median(bright[~inside]):
        return f"pixels on footprints are fainter than those off them; {message}"
    return ""
