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


"""Whether pixels, noise, PSFs and peaks are what they say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..boxes import is_inside, nearest_pixel
from ..scene import Scene
from .plausible_peaks import check_peaks, inverted
from .plausible_psf import check_psf
from .remarks import Remarks

__all__ = ["check_plausible", "pixel_noise"]

# Noise that is correlated, or that lacks the sources' own, is off by less.
_NOISE_AGREES = 2.0
# Faint sources and wings lift the sky, by 0.4 sigma at LSST's ten-year depth
# and 1 in a cutout of a bright blend; nothing but subtraction lowers it.
_MAX_SKY_SIGMA, _MIN_SKY_SIGMA = 1.0, -0.5
_MAX_MISSING = 0.5
_MAX_CONSTANT = 0.01
# A core of so many pixels that are level to a tenth is flat if it has this
# part of what is above half its height: Gaussians have .15, four equal sources
# that just merge .34, a Gaussian cut off at three quarters .4.
_LEVEL, _MIN_FLAT, _MIN_FLAT_PIX = 0.9, 0.4, 4
_FLAT_SNR = 100.0  # of a pixel, so that noise makes nothing level
_CORE_PIX = 40

# Of the absolute value of a standard Gaussian.
_QUARTILE = 0.31864
_SIXTEENTH = 0.99446  # the 16th percentile is this far below the middle

_NOT_ENOUGH = 100


def pixel_noise(image: npt.NDArray[np.floating], good: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of an image's noise, whatever light is in it.

    Parameters
    ----------
    image : `numpy.ndarray`, (y, x)
        Pixels.
    good : `numpy.ndarray`, (y, x), bool
        Pixels to use.

    Returns
    -------
    sigma : `float`
        From the smaller half of the second differences between pixels two
        apart, in which the gradients of sources cancel; NaN if there are too
        few.
    """
    differences = []
    for pixels, usable in ((image, good), (image.T, good.T)):
        three = usable[4:] & usable[2:-2] & usable[:-4]
        differences.append((pixels[4:] - 2 * pixels[2:-2] + pixels[:-4])[three])
    both = np.abs(np.concatenate(differences))
    if both.size < _NOT_ENOUGH:
        return float("nan")
    return float(np.quantile(both, 0.25) / (_QUARTILE * np.sqrt(6)))


def _check_noise(scene: Scene, index: int, good: npt.NDArray[np.bool_], remarks: Remarks, what: str) -> float:
    """Variance against scatter; gives the scatter."""
    sigma = pixel_noise(scene.images[index], good)
    if not np.isfinite(sigma):
        return sigma
    if sigma == 0:
        remarks.doubt(f"{what}: pixels have no noise at all; expected noise as the variance says")
        return sigma
    variance = float(np.median(scene.variance[index][good]))
    ratio = sigma / np.sqrt(variance)
    if 1 / _NOISE_AGREES <= ratio <= _NOISE_AGREES:
        return sigma
    guesses = {
        "an inverse variance given as variance": 1 / sigma**2,
        "an rms given as variance": sigma,
        "a variance given as rms": sigma**4,
        "an inverse variance given as rms": sigma**-4,
        "an rms given as inverse variance": 1 / sigma,
    }
    likely = next(
        (guess for guess, value in guesses.items() if 0.8 < np.sqrt(variance / value) < 1.25),
        "a variance in other units, or of other pixels",
    )
    remarks.doubt(
        f"{what}: pixels scatter by {sigma:.4g}, the variance says {np.sqrt(variance):.4g}; likely {likely}"
    )
    return sigma


def _check_sky(
    scene: Scene, index: int, good: npt.NDArray[np.bool_], sigma: float, remarks: Remarks, what: str
) -> None:
    if not sigma > 0:
        return
    pixels = scene.images[index][good]
    # Sources are above the sky, so that its lower side tells where it is.
    level = float(np.quantile(pixels, 0.16)) / sigma + _SIXTEENTH
    if not _MIN_SKY_SIGMA <= level <= _MAX_SKY_SIGMA:
        likely = "not subtracted, or sources fill the image" if level > 0 else "subtracted too much"
        remarks.doubt(
            f"{what}: blank pixels lie {level:+.2g} sigma ({level * sigma:.4g}) off zero; likely the "
            f"background was {likely}"
        )


def _flat_top(image: npt.NDArray[np.floating], good: npt.NDArray[np.bool_], sigma: float) -> int:
    """Pixels of the brightest core that are level, if it is flat; else 0."""
    row, column = divmod(int(np.where(good, image, -np.inf).argmax()), image.shape[1])
    top = image[row, column]
    if not top > _FLAT_SNR * sigma:
        return 0
    y, x = max(row - _CORE_PIX, 0), max(column - _CORE_PIX, 0)
    core = np.where(good, image, 0)[y : row + _CORE_PIX + 1, x : column + _CORE_PIX + 1]
    islands, _ = ndimage.label(core > 0.5 * top)
    half = islands == islands[row - y, column - x]
    level = int((core[half] > _LEVEL * top).sum())
    return level if level >= _MIN_FLAT_PIX and level > _MIN_FLAT * half.sum() else 0


def _constant(image: npt.NDArray[np.floating], good: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels that are equal to their eight neighbours, all of them good."""
    same = good[1:, 1:] & good[:-1, :-1] & good[1:, :-1] & good[:-1, 1:]
    for other in (image[:-1, 1:], image[1:, :-1], image[:-1, :-1]):
        same &= image[1:, 1:] == other
    constant = np.zeros(image.shape, bool)
    constant[1:-1, 1:-1] = same[1:, 1:] & same[:-1, 1:] & same[1:, :-1] & same[:-1, :-1]
    return constant


def _check_constant(
    image: npt.NDArray[np.floating], good: npt.NDArray[np.bool_], remarks: Remarks, what: str
) -> npt.NDArray[np.bool_]:
    """Pixels in which there is something."""
    constant = _constant(image, good)
    if constant.sum() > _MAX_CONSTANT * good.sum():
        remarks.doubt(
            f"{what}: {constant.sum() / good.sum():.0%} of the pixels are equal to all around them, such as "
            f"{image[constant][0]:.6g}, and not masked; likely there is no data"
        )
    return good & ~constant


def _check_pixels(
    scene: Scene, index: int, good: npt.NDArray[np.bool_], sigma: float, remarks: Remarks, what: str
) -> None:
    missing = 1 - good.mean()
    if missing > _MAX_MISSING:
        remarks.doubt(f"{what}: {missing:.0%} of the pixels are masked or hold no number")
    image = scene.images[index]
    if not good.any():
        return
    if flat := _flat_top(image, good, sigma):
        remarks.doubt(
            f"{what}: the brightest core is flat, {flat} pixels near {image[good].max():.6g}, and not "
            "masked; likely it is saturated"
        )
    for other in range(index):
        if np.array_equal(image, scene.images[other]):
            remarks.doubt(f"{what}: has the pixels of band {scene.bands[other]!r}")


def check_plausible(
    scene: Scene,
    remarks: Remarks,
    peaks: npt.NDArray[np.float64] | None = None,
    footprints: npt.NDArray[np.integer] | None = None,
    *,
    what: str = "",
) -> None:
    """Tell what is likely wrong with an input.

    Variance against the pixels' scatter, background left over, pixels that
    are missing, saturated or of another band, PSFs off their centre, too
    narrow or of another pixel scale, and peaks off the light.

    Parameters
    ----------
    scene : `Scene`
        What was read.
    remarks : `Remarks`
        Is told of each, with the band, the number seen and what is likely
        wrong.
    peaks : `numpy.ndarray`, (n, 2), optional
        Known sources (y, x), in patch coordinates.
    footprints : `numpy.ndarray`, (y, x), int, optional
        Labels of their footprints, 0 = none.
    what : `str`, optional
        What to call it in messages; the scene's name if absent.

    Raises
    ------
    SceneError
        Raised where doubts are errors.
    """
    bad = scene.bad()
    name = what or scene.name
    for index, band in enumerate(scene.bands):
        of_band = f"{name}: band {band!r}" if name else f"band {band!r}"
        good = _check_constant(scene.images[index], ~bad[index], remarks, of_band)
        sigma = _check_noise(scene, index, good, remarks, of_band)
        _check_pixels(scene, index, good, sigma, remarks, of_band)
        _check_sky(scene, index, good, sigma, remarks, of_band)
        check_psf(scene, index, good, sigma, remarks, of_band)
    pixels = None
    if peaks is not None and len(peaks) and np.isfinite(peaks).all():
        check_peaks(scene, peaks, bad, remarks)
        pixels = nearest_pixel(peaks, scene.origin)
        pixels = pixels[is_inside(pixels, scene.shape)]
    if footprints is not None:
        reason = inverted(footprints, scene.images, pixels)
        if reason:
            remarks.doubt(f"{scene.name}: footprints: {reason}")
