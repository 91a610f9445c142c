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


"""Whether PSFs are what they say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from astropy.stats import gaussian_sigma_to_fwhm
from scipy import ndimage

from ..scene import Scene
from .remarks import Remarks

__all__ = ["check_psf"]

_MAX_OFF_PIX = 0.25
_MIN_FWHM_PIX = 2.0
_FWHM_ARCSEC = (0.04, 4.0)
_MAX_NEGATIVE = 0.05
# Of the light, if the edge's level were everywhere.
_MAX_PEDESTAL = 0.05

# Maxima of so many sigma show how sharp an image is. Nothing that the
# atmosphere or a telescope has seen is sharper than a star; galaxies are less
# sharp, but where there are many sources some are stars.
_SHARP_SNR = 50.0
_MIN_SHARP, _MIN_BLUNT = 3, 8
_MAX_SHARPER = 2.0


def _sharpness(image: npt.NDArray[np.floating], places: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Minus the second derivative of an image's logarithm at places that have
    neighbours: of a Gaussian 1 / (2 sigma^2), wherever in its pixel it is.
    """
    y, x = np.nonzero(places)
    with np.errstate(divide="ignore", invalid="ignore"):
        beside = [np.log(image[y + dy, x + dx]) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        sharpness = np.log(image[y, x]) - np.mean(beside, axis=0)
    return sharpness[np.isfinite(sharpness)]


def _check_sharpness(
    scene: Scene, index: int, good: npt.NDArray[np.bool_], sigma: float, remarks: Remarks, what: str
) -> None:
    """Whether the image's sources are as sharp as the PSF."""
    image, psf = scene.images[index], scene.psfs[index]
    middle = np.zeros(psf.shape, bool)
    middle[psf.shape[0] // 2, psf.shape[1] // 2] = True
    of_psf = _sharpness(psf.astype(np.float64), middle) if min(psf.shape) > 2 else np.zeros(0)
    if not sigma > 0 or not of_psf.size or not of_psf[0] > 0:
        return
    bright = good & (image > _SHARP_SNR * sigma) & (image == ndimage.maximum_filter(image, 5))
    bright &= ndimage.minimum_filter(good, 3, mode="constant")
    seen = _sharpness(image, bright) / of_psf[0]
    if len(seen) >= _MIN_SHARP and np.median(seen) > _MAX_SHARPER:
        remarks.doubt(
            f"{what}: bright sources are {np.median(seen) ** 0.5:.2g} times as sharp as the PSF; likely it "
            "is oversampled, or of another image"
        )
    elif len(seen) >= _MIN_BLUNT and seen.max() < 1 / _MAX_SHARPER:
        remarks.doubt(
            f"{what}: the sharpest of {len(seen)} bright sources is {seen.max() ** -0.5:.2g} times as wide "
            "as the PSF; likely it is of another image or pixel scale"
        )


def check_psf(
    scene: Scene, index: int, good: npt.NDArray[np.bool_], sigma: float, remarks: Remarks, what: str
) -> None:
    """Tell what is likely wrong with the PSF of a band.

    Parameters
    ----------
    scene : `Scene`
        What was read.
    index : `int`
        Which band.
    good : `numpy.ndarray`, (y, x), bool
        Pixels to use.
    sigma : `float`
        Standard deviation of their noise.
    remarks : `Remarks`
        Is told.
    what : `str`
        What to call the band.
    """
    psf = scene.psfs[index].astype(np.float64)
    core = np.where(psf > 0.1 * psf.max(), psf, 0)
    off = np.array(ndimage.center_of_mass(core)) - (np.array(psf.shape) - 1) / 2
    if np.abs(off).max() > _MAX_OFF_PIX:
        remarks.doubt(
            f"{what}: the PSF lies y={off[0]:+.2f}, x={off[1]:+.2f} pixels off its image's centre; all "
            "sources would be off by that"
        )
    fwhm = float(scene.psf_sigmas_pix[index]) * gaussian_sigma_to_fwhm
    if fwhm < _MIN_FWHM_PIX:
        remarks.doubt(
            f"{what}: the PSF is {fwhm:.2f} pixels wide (FWHM); below {_MIN_FWHM_PIX:g} the pixels are "
            "too coarse for it, and models bad"
        )
    arcsec = fwhm * scene.pixel_scale_arcsec
    if not _FWHM_ARCSEC[0] < arcsec < _FWHM_ARCSEC[1]:
        remarks.doubt(
            f"{what}: the PSF is {arcsec:.3g} arcsec wide (FWHM) with pixels of "
            f"{scene.pixel_scale_arcsec:.4g} arcsec; likely the pixel scale is wrong"
        )
    negative = -psf[psf < 0].sum()
    if negative > _MAX_NEGATIVE:
        remarks.doubt(
            f"{what}: {negative:.0%} of the PSF is negative; likely its sky was subtracted too much"
        )
    stamp = psf[ndimage.find_objects((psf != 0).astype(np.int8))[0]]  # all bands' are as large as the largest
    edge = np.concatenate([stamp[0], stamp[-1], stamp[1:-1, 0], stamp[1:-1, -1]])
    pedestal = float(np.median(edge)) * stamp.size
    if pedestal > _MAX_PEDESTAL:
        remarks.doubt(
            f"{what}: the level of the PSF at its edge would have {pedestal:.0%} of its light; likely "
            "it is cut off, or its sky was not subtracted"
        )
    _check_sharpness(scene, index, good, sigma, remarks, what)
