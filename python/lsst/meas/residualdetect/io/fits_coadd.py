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

"""The coadd of one band as a FITS file.

The layout is that of the stack's exposures as far as plain FITS goes: image,
mask with ``MP_`` cards, variance; the PSF is an image too. DS9 opens it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from ..detections import places_of
from ..psf_field import PsfSamples
from ..scene import Scene
from .fits_common import naming_the_file, native, table
from .remarks import Remarks
from .survey.sky_wcs import moved, read_wcs, wcs_of_file

__all__ = ["coadd_name", "read_coadd", "write_coadd"]

_log = logging.getLogger(__name__)


def write_coadd(path: Path, scene: Scene) -> None:
    """Write the coadd of one band.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    scene : `Scene`
        A scene with a single band. Its WCS is written if ``sky_position`` has
        a ``header``.
    """
    if len(scene.bands) != 1:
        raise ValueError(f"a coadd file holds one band, not {list(scene.bands)}")
    primary = fits.PrimaryHDU()
    primary.header["BAND"] = (scene.bands[0], "band of this coadd")
    primary.header["OBJECT"] = (scene.name, "name of the scene")
    primary.header["PIXSCALE"] = (float(scene.pixel_scale_arcsec), "[arcsec] side of a pixel")
    planes = [
        fits.ImageHDU(scene.images[0], name="IMAGE"),
        fits.ImageHDU(scene.mask[0], name="MASK"),
        fits.ImageHDU(scene.variance[0], name="VARIANCE"),
    ]
    wcs = wcs_of_file(scene)
    for plane in planes:
        plane.header.update(wcs)
        # Physical coordinate = pixel - LTV, by which DS9 shows patch coordinates.
        plane.header["LTV1"] = -scene.origin[1]
        plane.header["LTV2"] = -scene.origin[0]
    for name, bit in scene.mask_planes.items():
        planes[1].header[f"HIERARCH MP_{name}"] = bit
    hdus = [primary, *planes, fits.ImageHDU(scene.psfs[0], name="PSF")]
    if scene.psf_fields and (field := scene.psf_fields[0]) is not None:
        samples = PsfSamples.of(field, scene.shape, scene.origin)
        hdus.append(fits.ImageHDU(samples.images, name="PSFS"))
        hdus.append(table("PSF_PLACES", {"y": samples.places[:, 0], "x": samples.places[:, 1]}))
    fits.HDUList(hdus).writeto(path, overwrite=True)


@naming_the_file
def coadd_name(path: Path) -> str:
    """Name of a coadd's scene, without reading its pixels."""
    return str(fits.getheader(path).get("OBJECT", ""))


def _sky(primary: fits.Header, image: fits.Header, path: Path) -> dict[str, Any]:
    """Where the pixels are: the origin, how wide they are by the card
    ``PIXSCALE`` or else the WCS, and the sky.
    """
    origin = (-int(image.get("LTV2", 0)), -int(image.get("LTV1", 0)))
    wcs, scale = read_wcs(moved(image, *origin), Remarks(False), str(path))
    scale = float(primary["PIXSCALE"]) if "PIXSCALE" in primary else scale
    if scale is None:
        _log.warning("%s: neither PIXSCALE nor a WCS says how wide a pixel is; taken for LSST's", path)
        scale = Scene.pixel_scale_arcsec
    return {"origin": origin, "pixel_scale_arcsec": scale, "sky_position": wcs}


@naming_the_file
def read_coadd(path: Path) -> Scene:
    """Read the coadd of one band.

    Parameters
    ----------
    path : `~pathlib.Path`
        Multi-extension FITS with the images ``IMAGE``, ``VARIANCE``, ``PSF``
        and, if there is one, ``MASK``; ``BAND`` (or ``FILTER``) in the
        primary header; ``PIXSCALE`` there, or a WCS of the image, says how
        wide a pixel is, the WCS also where it is on the sky. If the PSF
        changes, also a cube ``PSFS`` and the table ``PSF_PLACES`` of its
        positions, in patch coordinates.

    Returns
    -------
    scene : `Scene`
        A scene with a single band.

    Raises
    ------
    FitsError
        Raised if the file is missing, truncated or lacks a part.
    """
    with fits.open(path, memmap=False) as hdus:
        primary = hdus[0].header
        band = primary.get("BAND", primary.get("FILTER"))
        if band is None:
            raise ValueError("the primary header has neither BAND nor FILTER")
        for name in ("IMAGE", "VARIANCE", "PSF"):
            if name not in hdus:
                raise ValueError(f"no {name} extension; it has {[hdu.name for hdu in hdus]}")
        image = hdus["IMAGE"]
        optional: dict[str, Any] = {}
        if "MASK" in hdus:
            mask = hdus["MASK"]
            optional["mask"] = native(mask.data)[None]
            planes = {key[3:]: int(value) for key, value in mask.header.items() if key.startswith("MP_")}
            if planes:
                optional["mask_planes"] = planes
        if "PSFS" in hdus:
            places = hdus["PSF_PLACES"].data
            samples = PsfSamples(places_of(places), native(hdus["PSFS"].data))
            optional["psf_fields"] = (samples,)
        return Scene(
            images=native(image.data)[None],
            variance=native(hdus["VARIANCE"].data)[None],
            psfs=native(hdus["PSF"].data, np.float32)[None],
            bands=(str(band),),
            name=str(primary.get("OBJECT", "")),
            **_sky(primary, image.header, path),
            **optional,
        )
