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


"""The image, noise and mask of one band from FITS files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...mask_bits import has_bits
from ...scene import Array
from ..band_names import canonical_bands
from ..fits_common import FitsError
from ..lsst_image import LsstImage
from ..lsst_image_file import is_lsst_image_file, read_lsst_image
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
from .sky_wcs import SkyWcs, read_wcs
from .units import FluxScale, flux_scale

__all__ = ["BandFiles", "Given", "ImageOfBand", "read_image", "read_mask", "read_variance", "sibling"]

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
    coadd : `LsstImage`, optional
        All else that the file holds, if lsst.images wrote it.
    """

    pixels: Array
    scale: FluxScale
    wcs: SkyWcs | None
    pixel_scale_arcsec: float | None
    coadd: LsstImage | None = None


def _coadd(remarks: Remarks, band: BandFiles) -> ImageOfBand:
    """The image of a file that lsst.images wrote."""
    coadd = read_lsst_image(band.image.path, remarks)
    said = None if coadd.band is None else canonical_bands([coadd.band], None)[0]
    if said not in (None, band.name):
        remarks.doubt(f"{band}: the file says that it is of band {coadd.band!r}")
    scale, wcs = coadd.pixel_scale_arcsec, coadd.fits_wcs
    if wcs is None and coadd.projection is not None:
        remarks.doubt(f"{band}: its projection is no FITS WCS, nor near one; there will be no sky positions")
    fluxes = flux_scale({"BUNIT": coadd.unit}, remarks, str(band), scale**2 if scale else None)
    pixels = coadd.image
    if fluxes.factor != 1:
        pixels = (pixels * np.float64(fluxes.factor)).astype(np.float32)
    return ImageOfBand(pixels, fluxes, None if wcs is None else SkyWcs(wcs), scale, coadd)


def sibling(image: FitsPath, what: str) -> FitsPath | None:
    """A file of a Legacy Surveys' brick beside its image, such as ``invvar``;
    `None` if there is none.
    """
    match = re.fullmatch(r"(.+-)image-([a-z])(\.fits(?:\.fz|\.gz)?)", image.path.name)
    if match is None or image.extension is not None:
        return None
    for name in (f"{match[1]}{what}-{match[2]}{match[3]}", f"{match[1]}{what}{match[3]}"):
        if (image.path.parent / name).is_file():
            return FitsPath(image.path.parent / name)
    return None


def _checked(image: ImageOfBand, band: BandFiles) -> ImageOfBand:
    """The same, if there is something in it."""
    finite = image.pixels[np.isfinite(image.pixels)]
    if not finite.size:
        raise FitsError(f"{band}: no pixel is finite")
    if np.ptp(finite) == 0:
        raise FitsError(f"{band}: all pixels are {finite[0]:g}; there is no image in this file")
    return image


def read_image(remarks: Remarks, band: BandFiles) -> ImageOfBand:
    """The image of a band, in nanojansky where the file says how.

    Raises
    ------
    FitsError
        Raised if the file has no image.
    """
    if band.image.extension is None and is_lsst_image_file(band.image.path):
        return _checked(_coadd(remarks, band), band)
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
    return _checked(ImageOfBand(pixels, fluxes, wcs, scale), band)


def read_variance(
    remarks: Remarks,
    band: BandFiles,
    given: Given,
    image: ImageOfBand,
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
    image : `ImageOfBand`
        Its pixels.

    Returns
    -------
    variance : `numpy.ndarray`, (y, x), float32
        Infinite where there is no information.
    """
    what, pixels, factor = str(band), image.pixels, image.scale.factor
    kind = None
    if given is None and image.coadd is not None:
        return to_variance(image.coadd.variance, "variance", pixels, factor, remarks, what)
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
            return to_variance(constant, kind, pixels, factor, remarks, what)
        path, roles = FitsPath.parse(text), (kind, *NOISE_KINDS) if kind else NOISE_KINDS
    else:
        beside = sibling(band.image, "invvar")
        roles, plane, own = NOISE_KINDS, band.plane, None
        if beside is None:
            with open_fits(band.image) as hdus:
                own = companion(hdus, band.image, roles)
        if beside is None and own is None:
            sigma = blank_scatter(pixels)
            if not sigma > 0:
                raise FitsError(f"{what}: no noise is given, and the pixels have no scatter to take it from")
            remarks.note(
                f"{what}: no noise is given; {sigma:.4g} a pixel from the scatter of blank pixels, "
                "without the noise of the sources' own light"
            )
            return np.full(pixels.shape, sigma**2, np.float32)
        path, kind = beside or FitsPath(band.image.path, own), "invvar" if beside else None
    noise, role, _ = read_plane(remarks, path, roles, plane, pixels.shape)
    kind = kind or (role if role in NOISE_KINDS else None)
    if kind is None:
        raise FitsError(f"{path}: nothing says what kind of noise this is; say it as {path}:rms")
    return to_variance(noise, kind, pixels, factor, remarks, str(path))


def read_mask(
    remarks: Remarks,
    band: BandFiles,
    given: Given,
    names: Mapping[str, int] | None,
    image: ImageOfBand,
) -> Iterable[tuple[str, npt.NDArray[np.bool_]]]:
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
    image : `ImageOfBand`
        Its image.

    Returns
    -------
    planes : `~collections.abc.Iterable` [`tuple` [`str`, `numpy.ndarray`]]
        Name of each plane, and where it is set; none if there is no mask.
    """
    if given is None and image.coadd is not None:
        mask = image.coadd.mask
        return ((plane, has_bits(mask, [bit])) for plane, bit in image.coadd.mask_planes.items())
    if given is not None:
        path, plane = FitsPath.parse(given[0]), given[1] if given[1] is not None else band.plane
    else:
        plane = band.plane
        beside = sibling(band.image, "maskbits")
        path = beside or FitsPath(band.image.path)
        if beside is None:
            with open_fits(path) as hdus:
                extension = companion(hdus, path, ("mask",))
            if extension is None:
                return ()
            path = FitsPath(path.path, extension)
    pixels, _, header = read_plane(remarks, path, ("mask",), plane, image.pixels.shape)
    return planes_of_pixels(pixels, mask_planes_of(header, band.name, names), remarks, str(path)).items()
