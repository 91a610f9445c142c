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


"""PSFs from files, or from their width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from scipy.ndimage import fourier_shift

from ...psf_field import PsfSamples
from ...scene import SceneError
from ..fits_common import FitsError
from ..remarks import Remarks
from .fits_planes import FitsPath, find_plane, open_fits
from .known_table import positions_of
from .sky_wcs import SkyWcs

__all__ = ["PsfWidth", "centred_psf", "read_psf"]

Image = npt.NDArray[np.float64]

# A stack whose PSFs differ by more in width is said to vary.
_MAX_WIDTH_CHANGE = 0.05

# A polynomial of PSFEx is the same, for our purpose, over so many pixels.
_PSFEX_SIDE_PIX = 256

# Of PSFEx.
_LANCZOS_ORDER = 4
_PIXEL_NAMES = (("X_IMAGE", "Y_IMAGE"), ("XWIN_IMAGE", "YWIN_IMAGE"), ("XPSF_IMAGE", "YPSF_IMAGE"))


@dataclass(frozen=True)
class PsfWidth:
    """A PSF of which only the width is known.

    Parameters
    ----------
    fwhm_arcsec : `float`
        Full width at half maximum, of stars in the image.
    beta : `float`, optional
        Exponent of a Moffat profile, such as 2.5 (from the ground); a
        Gaussian if absent.
    """

    fwhm_arcsec: float
    beta: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.fwhm_arcsec) and self.fwhm_arcsec > 0):
            raise SceneError(f"the width of a PSF is {self.fwhm_arcsec} arcsec; it must be positive")
        if self.beta is not None and not self.beta > 1:
            raise SceneError(f"beta of a Moffat profile is {self.beta}; it must be above 1")

    @classmethod
    def parse(cls, text: str) -> PsfWidth:
        """From ``0.9``, ``0.9:moffat`` or ``0.9:moffat:3.5``."""
        width, *profile = text.split(":")
        try:
            if not profile or profile == ["gaussian"]:
                return cls(float(width))
            if profile[0] == "moffat" and len(profile) <= 2:
                return cls(float(width), float(profile[1]) if len(profile) == 2 else 2.5)
        except ValueError as error:
            if isinstance(error, SceneError):
                raise
        raise SceneError(f"PSF width {text!r}; expected arcsec, arcsec:moffat or arcsec:moffat:beta")

    def image(self, pixel_scale_arcsec: float) -> Image:
        """The profile at the centres of pixels, unit sum, odd sides: (h, w)."""
        fwhm = self.fwhm_arcsec / pixel_scale_arcsec
        half = int(np.ceil((2.2 if self.beta is None else 4.0) * fwhm)) + 1
        steps = np.arange(-half, half + 1)
        r2 = (steps[:, None] ** 2 + steps[None, :] ** 2) / fwhm**2
        if self.beta is None:
            profile = np.exp(-4 * np.log(2) * r2)
        else:
            profile = (1 + 4 * (2 ** (1 / self.beta) - 1) * r2) ** -self.beta
        return profile / profile.sum()


def centred_psf(image: npt.NDArray[np.floating], remarks: Remarks, what: str) -> Image:
    """A PSF image of odd sides with its centre in the middle.

    Parameters
    ----------
    image : `numpy.ndarray`, (h, w)
        PSF. An even side is cut by one where the centroid is nearer to a
        pixel's centre, and shifted by half a pixel where it lies between
        pixels.
    remarks : `Remarks`
        Is told of a shift.
    what : `str`
        The file, for messages.

    Returns
    -------
    psf : `numpy.ndarray`, (h, w), float64
        Odd sides.

    Raises
    ------
    FitsError
        Raised if the image has pixels that are not finite, or no light.
    """
    psf = np.array(image, np.float64)
    if not np.isfinite(psf).all():
        raise FitsError(f"{what}: the PSF has pixels that are not finite")
    if not psf.sum() > 0:
        raise FitsError(f"{what}: the PSF sums to {psf.sum():g}; it must be positive")
    for axis, side in enumerate(psf.shape):
        if side % 2:
            continue
        # Of the bright part: the sum over noisy wings has no centroid.
        core = np.where(psf > 0.1 * psf.max(), psf, 0)
        place = float((core.sum(axis=1 - axis) * np.arange(side)).sum() / core.sum())
        steps = round(2 * (place - (side - 1) / 2))
        if steps == 0:
            shift = [0.0, 0.0]
            shift[axis] = 0.5
            psf = np.fft.ifftn(fourier_shift(np.fft.fftn(psf), shift)).real
            remarks.note(f"{what}: the PSF is centred between pixels; it is shifted by half a pixel")
        psf = np.delete(psf, 0 if steps >= 0 else -1, axis=axis)
    return psf


def _is_psfex(hdu: Any) -> bool:
    """Whether an extension is a PSF model of PSFEx."""
    return "POLNAXIS" in hdu.header and "PSFAXIS1" in hdu.header


def _lanczos(offset: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    kernel = np.sinc(offset) * np.sinc(offset / _LANCZOS_ORDER)
    return np.where(np.abs(offset) < _LANCZOS_ORDER, kernel, 0)


def _psfex_image(hdu: Any, y: float, x: float, what: str) -> npt.NDArray[np.float64]:
    """The PSF at a place of a model of PSFEx (Bertin 2011, ASPC 442, 435),
    sampled at the image's pixels.

    The components are summed with the powers of the place as weights, x
    before y, up to a total degree, and interpolated by Lanczos's kernel, as
    SExtractor and GalSim do. They hold the pixel's own response.

    Parameters
    ----------
    hdu : `astropy.io.fits.BinTableHDU`
        The table of a ``.psf`` file.
    y, x : `float`
        Pixel from 0; the file counts from 1.
    what : `str`
        The file, for messages.

    Returns
    -------
    psf : `numpy.ndarray`, (h, w), float64
        Odd sides, centred, unit sum.

    Raises
    ------
    FitsError
        Raised if the PSF depends on something else than the place in the
        image, or the table is not as its cards say.
    """
    header = hdu.header
    components = np.asarray(hdu.data["PSF_MASK"][0], np.float64)
    components = components.reshape(-1, *components.shape[-2:])
    weights = np.ones(1)
    if header["POLNAXIS"]:
        names = tuple(str(header.get(f"POLNAME{axis + 1}", "")).strip() for axis in range(header["POLNAXIS"]))
        if names not in _PIXEL_NAMES or header.get("POLNGRP", 1) != 1:
            raise FitsError(f"{what}: this PSF depends on {', '.join(names)}; expected X_IMAGE, Y_IMAGE")
        degree = int(header["POLDEG1"])
        column, row = (
            (place + 1 - float(header[f"POLZERO{axis}"])) / float(header[f"POLSCAL{axis}"])
            for axis, place in ((1, x), (2, y))
        )
        weights = np.array([column**p * row**q for q in range(degree + 1) for p in range(degree + 1 - q)])
    if len(weights) != len(components):
        raise FitsError(f"{what}: a PSF of {len(components)} components; its cards say {len(weights)}")
    model = np.tensordot(weights, components, 1)

    # In its own pixels, counted from its centre, the image's are a step of
    # 1 / PSF_SAMP apart.
    step = 1 / float(header.get("PSF_SAMP", 1))
    kernels = []
    for size in model.shape:
        half = int((size // 2) / step)
        wanted = step * np.arange(-half, half + 1)
        kernels.append(_lanczos(wanted[:, None] - (np.arange(size) - size // 2)[None, :]))
    psf = kernels[0] @ model @ kernels[1].T
    return psf / psf.sum()


@dataclass(frozen=True)
class _PsfexField:
    """A model of PSFEx by position."""

    hdu: Any
    what: str

    def at(self, y: float, x: float) -> Image:
        return _psfex_image(self.hdu, y, x, self.what)


def _of_stack(hdus: fits.HDUList, path: FitsPath, wcs: SkyWcs | None, remarks: Remarks) -> PsfSamples:
    """A cube with a table of positions."""
    cube = next(hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 3).data
    tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
    if not tables:
        raise FitsError(
            f"{path}: a stack of {len(cube)} PSFs without a table of their positions (x, y or ra, dec)"
        )
    y, x = positions_of(tables[0].data, wcs, str(path))
    if len(y) != len(cube):
        raise FitsError(f"{path}: {len(cube)} PSFs, but {len(y)} positions")
    # Of the noise-equivalent area; see Scene.psf_sigmas_pix.
    unit = cube / cube.sum(axis=(1, 2), keepdims=True)
    widths = 1 / np.sqrt(np.square(unit, dtype=np.float64).sum(axis=(1, 2)))
    if widths.max() / widths.min() - 1 > _MAX_WIDTH_CHANGE:
        remarks.note(
            f"{path}: the PSF's width changes by {widths.max() / widths.min() - 1:.0%} over {len(y)} "
            "positions; sources have the nearest one's"
        )
    said = len(remarks.notes)
    images = np.stack([centred_psf(psf, remarks, str(path)) for psf in cube])
    del remarks.notes[said + 1 :]  # it is the same shift for all
    return PsfSamples(np.stack([y, x], axis=1), images.astype(np.float32))


def read_psf(
    path: FitsPath,
    shape: tuple[int, int],
    remarks: Remarks,
    *,
    wcs: SkyWcs | None = None,
) -> tuple[Image, PsfSamples | None]:
    """The PSF of an image.

    Parameters
    ----------
    path : `FitsPath`
        A PSFEx model (``.psf``); or an image of the PSF, its pixels those of
        the image; or a cube of images with a table of their positions.
    shape : `tuple` [`int`, `int`]
        Height and width of the image.
    remarks : `Remarks`
        Is told what was assumed.
    wcs : `SkyWcs`, optional
        For positions in right ascension and declination.

    Returns
    -------
    psf : `numpy.ndarray`, (h, w), float64
        That in the middle; odd sides.
    samples : `PsfSamples` or `None`
        The PSF by position, if it changes.

    Raises
    ------
    FitsError
        Raised with the file's name if it holds no PSF.
    """
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    with open_fits(path) as hdus:
        for hdu in hdus:
            if _is_psfex(hdu):
                field = _PsfexField(hdu, str(path))
                changes = hdu.header["POLNAXIS"] and hdu.header["POLDEG1"]
                samples = PsfSamples.of(field, shape, side_pix=_PSFEX_SIDE_PIX) if changes else None
                return field.at(*middle), samples
        if path.extension is None and any(hdu.is_image and len(hdu.shape) == 3 for hdu in hdus):
            samples = _of_stack(hdus, path, wcs, remarks)
            return samples.at(*middle).astype(np.float64), samples
        found = find_plane(hdus, path, ("psf", "image"))
        if found is None:
            raise FitsError(f"{path}: holds neither an image of a PSF nor a model of PSFEx")
        hdu = found[0]
        oversampling = hdu.header.get("OVERSAMP", hdu.header.get("DET_SAMP", 1))
        if oversampling != 1 and path.extension is None:
            raise FitsError(
                f"{path}: the PSF is oversampled by {oversampling}; give it in the image's pixels"
            )
        if len(hdu.shape) != 2:
            raise FitsError(f"{path}: a PSF of shape {tuple(hdu.shape)}; expected an image")
        return centred_psf(hdu.data, remarks, str(path)), None
