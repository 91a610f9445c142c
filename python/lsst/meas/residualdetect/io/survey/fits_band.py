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


"""The image, noise, mask and PSF of one band from FITS files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...scene import Array
from ..fits_common import FitsError
from ..remarks import Remarks
from .fits_mask import mask_planes_of, planes_of_pixels
from .fits_noise import blank_scatter, noise_kind, to_variance
from .fits_planes import (
    NOISE_KINDS,
    FitsPath,
    companion,
    find_plane,
    merged_header,
    open_fits,
    pixels_of,
    read_plane,
)
from .fits_psf import PsfWidth, centred_psf, read_psf
from .sky_wcs import SkyWcs, read_wcs
from .star_psf import measure_psf
from .units import FluxScale, flux_scale

__all__ = ["BandFiles", "Given", "ImageOfBand", "read_image", "read_mask", "read_psf_image", "read_variance"]

# What a user gives for a band, and which plane of it if it is a cube.
Given = tuple[Any, tuple[int, int] | None] | None


@dataclass(frozen=True)
class BandFiles:
    """Where the pixels of a band are.

    Parameters
    ----------
    name : `str`
        Canonical name.
    image : `FitsPath`
        File, and maybe extension.
    plane : `tuple` [`int`, `int`], optional
        Which plane of how many, of a cube.
    """

    name: str
    image: FitsPath
    plane: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.image} (band {self.name})"


@dataclass(frozen=True, eq=False)
class ImageOfBand:
    """The image of a band.

    Parameters
    ----------
    pixels : `numpy.ndarray`, (y, x), float32
        In ``scale.unit``.
    scale : `FluxScale`
        What they were multiplied with.
    wcs : `SkyWcs`, optional
        Where they are.
    pixel_scale_arcsec : `float`, optional
        Their side.
    """

    pixels: Array
    scale: FluxScale
    wcs: SkyWcs | None
    pixel_scale_arcsec: float | None


def _sibling(image: FitsPath, what: str) -> FitsPath | None:
    """A file of a Legacy Surveys' brick beside its image."""
    match = re.fullmatch(r"(.+-)image-([a-z])(\.fits(?:\.fz|\.gz)?)", image.path.name)
    if match is None or image.extension is not None:
        return None
    for name in (f"{match[1]}{what}-{match[2]}{match[3]}", f"{match[1]}{what}{match[3]}"):
        if (image.path.parent / name).is_file():
            return FitsPath(image.path.parent / name)
    return None


def read_image(remarks: Remarks, band: BandFiles) -> ImageOfBand:
    """The image of a band, in nanojansky where the file says how.

    Raises
    ------
    FitsError
        Raised if the file has no image.
    """
    remarks.reads(band.image.path)
    with open_fits(band.image) as hdus:
        found = find_plane(hdus, band.image, ("image",))
        if found is None:
            raise FitsError(f"{band.image}: holds no image")
        hdu, role = found
        if band.image.extension is None and role in (*NOISE_KINDS, "mask", "psf"):
            raise FitsError(f"{band.image}: holds a {role}, but no image")
        header = merged_header(hdus, hdu)
        wcs, scale = read_wcs(header, remarks, str(band.image))
        fluxes = flux_scale(header, remarks, str(band), scale**2 if scale else None)
        pixels = pixels_of(hdu, band.image, band.plane)
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = (pixels * np.float64(fluxes.factor)).astype(np.float32)
    finite = np.isfinite(pixels)
    if not finite.any():
        raise FitsError(f"{band}: no pixel is finite")
    if np.ptp(pixels[finite]) == 0:
        raise FitsError(f"{band}: all pixels are {pixels[finite][0]:g}; there is no image in this file")
    return ImageOfBand(pixels, fluxes, wcs, scale)


def read_variance(
    remarks: Remarks,
    band: BandFiles,
    given: Given,
    image: Array,
    factor: float,
) -> Array:
    """The noise that is given, else that of the image's file, else measured.

    Parameters
    ----------
    remarks : `Remarks`
        Is told what is read and assumed.
    band : `BandFiles`
        Which band.
    given : `tuple` or `None`
        File or number, with its kind after a colon unless the file says it.
    image : `numpy.ndarray`, (y, x), float32
        The pixels, times ``factor``.
    factor : `float`
        What takes the file's units to those of the result.

    Returns
    -------
    variance : `numpy.ndarray`, (y, x), float32
        Infinite where there is no information.
    """
    what = str(band)
    kind = None
    if given is not None:
        text, plane = str(given[0]), given[1] if given[1] is not None else band.plane
        tail = re.fullmatch(r"(.+):([A-Za-z]+)", text)
        if tail and not Path(text).exists():
            text, kind = tail[1], noise_kind(tail[2].lower(), text)
        try:
            constant: float | None = float(text)
        except ValueError:
            constant = None
        if constant is not None:
            if kind is None:
                raise FitsError(f"{what}: the noise {text} is of unknown kind; say which, as {text}:rms")
            return to_variance(constant, kind, image, factor, remarks, what)
        path, roles = FitsPath.parse(text), (kind, *NOISE_KINDS) if kind else NOISE_KINDS
    else:
        beside = _sibling(band.image, "invvar")
        roles, plane, own = NOISE_KINDS, band.plane, None
        if beside is None:
            with open_fits(band.image) as hdus:
                own = companion(hdus, band.image, roles)
        if beside is None and own is None:
            sigma = blank_scatter(image)
            if not sigma > 0:
                raise FitsError(f"{what}: no noise is given, and the pixels have no scatter to take it from")
            remarks.note(
                f"{what}: no noise is given; {sigma:.4g} a pixel from the scatter of blank pixels, "
                "without the noise of the sources' own light"
            )
            return np.full(image.shape, sigma**2, np.float32)
        path, kind = beside or FitsPath(band.image.path, own), "invvar" if beside else None
    pixels, role, _ = read_plane(remarks, path, roles, plane, image.shape)
    kind = kind or (role if role in NOISE_KINDS else None)
    if kind is None:
        raise FitsError(f"{path}: nothing says what kind of noise this is; say it as {path}:rms")
    return to_variance(pixels, kind, image, factor, remarks, str(path))


def read_mask(
    remarks: Remarks,
    band: BandFiles,
    given: Given,
    names: Mapping[str, int] | None,
    shape: tuple[int, int],
) -> dict[str, npt.NDArray[np.bool_]]:
    """Planes of the mask that is given, else of the image's file.

    Parameters
    ----------
    remarks : `Remarks`
        Is told what is read and assumed.
    band : `BandFiles`
        Which band.
    given : `tuple` or `None`
        File, and plane of a cube.
    names : `~collections.abc.Mapping` [`str`, `int`], optional
        Bits of the planes, in place of what the file says.
    shape : `tuple` [`int`, `int`]
        Of the image.

    Returns
    -------
    planes : `dict` [`str`, `numpy.ndarray`]
        True where a plane is set; none if there is no mask.
    """
    if given is not None:
        path, plane = FitsPath.parse(given[0]), given[1] if given[1] is not None else band.plane
    else:
        plane = band.plane
        beside = _sibling(band.image, "maskbits")
        path = beside or FitsPath(band.image.path)
        if beside is None:
            with open_fits(path) as hdus:
                extension = companion(hdus, path, ("mask",))
            if extension is None:
                return {}
            path = FitsPath(path.path, extension)
    pixels, _, header = read_plane(remarks, path, ("mask",), plane, shape)
    return planes_of_pixels(pixels, mask_planes_of(header, band.name, names), remarks, str(path))


def read_psf_image(
    remarks: Remarks,
    band: BandFiles,
    given: Any,
    image: ImageOfBand,
    bad: npt.NDArray[np.bool_],
    pixel_scale_arcsec: float,
) -> npt.NDArray[np.float64]:
    """The PSF that is given, else that of the image's file, else measured.

    Parameters
    ----------
    remarks : `Remarks`
        Is told what is read and assumed.
    band : `BandFiles`
        Which band.
    given : path-like, `PsfWidth`, `numpy.ndarray` or `None`
        What the user gives.
    image : `ImageOfBand`
        Its pixels.
    bad : `numpy.ndarray`, (y, x), bool
        Pixels not to use.
    pixel_scale_arcsec : `float`
        Side of a pixel.

    Returns
    -------
    psf : `numpy.ndarray`, (h, w), float64
        Odd sides.
    """
    place = ((image.pixels.shape[0] - 1) / 2, (image.pixels.shape[1] - 1) / 2)
    if isinstance(given, np.ndarray):
        return centred_psf(given, remarks, f"PSF of band {band.name}")
    if given is not None and not isinstance(given, PsfWidth):
        path = FitsPath.parse(given)
        remarks.reads(path.path)
        return read_psf(path, place, remarks, wcs=image.wcs)
    if given is None:
        with open_fits(band.image) as hdus:
            own = companion(hdus, band.image, ("psf",))
        if own is not None:
            return read_psf(FitsPath(band.image.path, own), place, remarks, wcs=image.wcs)
        widths = _sibling(band.image, "psfsize")
        if widths is None:
            return measure_psf(image.pixels, bad, remarks, str(band))
        pixels = read_plane(remarks, widths, ("image",), None, image.pixels.shape)[0]
        given = PsfWidth(float(np.median(pixels[pixels > 0])), 2.5)
        remarks.note(f"{band}: a Moffat PSF of {given.fwhm_arcsec:.3g} arcsec from {widths}")
    return given.image(pixel_scale_arcsec)
