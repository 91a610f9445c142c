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

"""The PSF of one band from FITS files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...psf_field import PsfField, moved
from ...psf_images import is_usable_psf
from ..fits_common import FitsError
from ..remarks import Remarks
from .fits_band import BandFiles, ImageOfBand, sibling
from .fits_planes import FitsPath, companion, open_fits, read_plane
from .fits_psf import PsfWidth, centred_psf, read_psf
from .star_psf import measure_psf

__all__ = ["read_psf_image"]


def read_psf_image(
    remarks: Remarks,
    band: BandFiles,
    given: Any,
    image: ImageOfBand,
    bad: npt.NDArray[np.bool_],
    pixel_scale_arcsec: float,
) -> tuple[npt.NDArray[np.floating], PsfField | None]:
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
        That in the middle; odd sides.
    field : `PsfField` or `None`
        The PSF by position, if it changes.
    """
    shape = image.pixels.shape
    if isinstance(given, np.ndarray):
        return centred_psf(given, remarks, f"PSF of band {band.name}"), None
    if given is not None and not isinstance(given, PsfWidth):
        path = FitsPath.parse(given)
        remarks.reads(path.path)
        return read_psf(path, shape, remarks, wcs=image.wcs)
    if given is None and image.coadd is not None and image.coadd.psf is not None:
        field = moved(image.coadd.psf, image.coadd.origin)
        psf = field.at((shape[0] - 1) / 2, (shape[1] - 1) / 2)
        if not is_usable_psf(psf):
            raise FitsError(f"{band}: it has no usable PSF in its middle")
        return psf, field
    if given is None and image.coadd is not None:
        return measure_psf(image.pixels, bad, remarks, str(band)), None
    if given is None:
        with open_fits(band.image) as hdus:
            own = companion(hdus, band.image, ("psf",))
        if own is not None:
            return read_psf(FitsPath(band.image.path, own), shape, remarks, wcs=image.wcs)
        widths = sibling(band.image, "psfsize")
        if widths is None:
            return measure_psf(image.pixels, bad, remarks, str(band)), None
        pixels = read_plane(remarks, widths, ("image",), None, image.pixels.shape)[0]
        given = PsfWidth(float(np.median(pixels[pixels > 0])), 2.5)
        remarks.note(f"{band}: a Moffat PSF of {given.fwhm_arcsec:.3g} arcsec from {widths}")
    return given.image(pixel_scale_arcsec), None
