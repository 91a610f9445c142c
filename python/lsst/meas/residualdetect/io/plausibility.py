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
from ..noise import psf_smoothed
from ..scene import Array, Scene
from .remarks import Remarks

__all__ = ["check_plausible", "inverted", "pixel_noise"]

# Noise that is correlated, or that lacks the sources' own, is off by less.
_NOISE_AGREES = 2.0
# Faint sources and wings lift the sky, by 0.4 sigma at LSST's ten-year depth
# and 1 in a cutout of a bright blend; nothing but subtraction lowers it.
_MAX_SKY_SIGMA, _MIN_SKY_SIGMA = 1.0, -0.5
_MAX_PSF_OFF_PIX = 0.25
_MIN_PSF_FWHM_PIX = 2.0
_PSF_FWHM_ARCSEC = (0.04, 4.0)
_MAX_NEGATIVE_PSF = 0.05
_MAX_MISSING = 0.5
_MIN_FLAT_TOP = 6
_PEAK_SNR = 3.0
_MIN_PEAKS, _MAX_PEAKS_OFF_PIX = 4, 0.7
_MAX_PEAKS_OFF = 0.5

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


def _check_pixels(scene: Scene, index: int, good: npt.NDArray[np.bool_], remarks: Remarks, what: str) -> None:
    missing = 1 - good.mean()
    if missing > _MAX_MISSING:
        remarks.doubt(f"{what}: {missing:.0%} of the pixels are masked or hold no number")
    image = scene.images[index]
    if not good.any():
        return
    top = image[good].max()
    flat = int((image[good] == top).sum())
    if _MIN_FLAT_TOP <= flat < good.sum():
        remarks.doubt(
            f"{what}: {flat} pixels have the highest value, {top:.6g}, and no mask; likely they are saturated"
        )
    for other in range(index):
        if np.array_equal(image, scene.images[other]):
            remarks.doubt(f"{what}: has the pixels of band {scene.bands[other]!r}")


def _check_psf(scene: Scene, index: int, remarks: Remarks, what: str) -> None:
    psf = scene.psfs[index].astype(np.float64)
    core = np.where(psf > 0.1 * psf.max(), psf, 0)
    off = np.array(ndimage.center_of_mass(core)) - (np.array(psf.shape) - 1) / 2
    if np.abs(off).max() > _MAX_PSF_OFF_PIX:
        remarks.doubt(
            f"{what}: the PSF lies y={off[0]:+.2f}, x={off[1]:+.2f} pixels off its image's centre; all "
            "sources would be off by that"
        )
    fwhm = float(scene.psf_sigmas_pix[index]) * np.sqrt(8 * np.log(2))
    if fwhm < _MIN_PSF_FWHM_PIX:
        remarks.doubt(
            f"{what}: the PSF is {fwhm:.2f} pixels wide (FWHM); below {_MIN_PSF_FWHM_PIX:g} the pixels are "
            "too coarse for it, and models bad"
        )
    arcsec = fwhm * scene.pixel_scale_arcsec
    if not _PSF_FWHM_ARCSEC[0] < arcsec < _PSF_FWHM_ARCSEC[1]:
        remarks.doubt(
            f"{what}: the PSF is {arcsec:.3g} arcsec wide (FWHM) with pixels of "
            f"{scene.pixel_scale_arcsec:.4g} arcsec; likely the pixel scale is wrong"
        )
    negative = -psf[psf < 0].sum()
    if negative > _MAX_NEGATIVE_PSF:
        remarks.doubt(
            f"{what}: {negative:.0%} of the PSF is negative; likely its sky was subtracted too much"
        )


def _check_peaks(
    scene: Scene, peaks: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_], remarks: Remarks
) -> None:
    """Whether peaks lie on light, and on its maxima."""
    snr = np.zeros(scene.shape)
    for image, variance, masked, psf in zip(scene.images, scene.variance, bad, scene.psfs, strict=True):
        smooth, sigma = psf_smoothed(image, variance, ~masked, psf)
        snr += smooth / sigma / np.sqrt(len(scene.bands))

    def on_light(positions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        pixels = nearest_pixel(positions, scene.origin)
        inside = is_inside(pixels, scene.shape)
        lit = np.zeros(len(pixels), bool)
        lit[inside] = snr[tuple(pixels[inside].T)] > _PEAK_SNR
        return lit

    lit = on_light(peaks)
    what = f"the {len(peaks)} peaks"
    # A deep catalogue has sources that nobody sees here, but not at random.
    by_chance = len(peaks) * (snr > _PEAK_SNR).mean()
    if lit.mean() < 0.5 and lit.sum() <= by_chance + 2 * np.sqrt(by_chance):
        swapped = on_light((peaks - scene.origin)[:, ::-1] + scene.origin).mean()
        reason = f"; with x and y swapped {swapped:.0%} do" if swapped > max(0.5, 2 * lit.mean()) else ""
        remarks.doubt(f"{what}: {lit.mean():.0%} lie on light of {_PEAK_SNR:g} sigma{reason}")
        return
    pixels = nearest_pixel(peaks, scene.origin)[lit]
    maxima = np.argwhere((snr == ndimage.maximum_filter(snr, size=5)) & (snr > 2 * _PEAK_SNR))
    if not len(maxima):
        return
    offsets = maxima[None, :, :] - pixels[:, None, :]
    nearest = np.abs(offsets).max(axis=2).argmin(axis=1)
    off = offsets[np.arange(len(pixels)), nearest] + (pixels - (peaks[lit] - scene.origin))
    off = off[np.abs(off).max(axis=1) < 6]
    if len(off) < _MIN_PEAKS:
        return
    middle = np.median(off, axis=0)
    agree = (np.abs(off - middle).max(axis=1) < _MAX_PEAKS_OFF_PIX).mean()
    if np.abs(middle).max() > _MAX_PEAKS_OFF_PIX and agree > 0.6:
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
        good = ~bad[index]
        _check_pixels(scene, index, good, remarks, of_band)
        sigma = _check_noise(scene, index, good, remarks, of_band)
        _check_sky(scene, index, good, sigma, remarks, of_band)
        _check_psf(scene, index, remarks, of_band)
    pixels = None
    if peaks is not None and len(peaks) and np.isfinite(peaks).all():
        _check_peaks(scene, peaks, bad, remarks)
        pixels = nearest_pixel(peaks, scene.origin)
        pixels = pixels[is_inside(pixels, scene.shape)]
    if footprints is not None:
        reason = inverted(footprints, scene.images, pixels)
        if reason:
            remarks.doubt(f"{scene.name}: footprints: {reason}")
