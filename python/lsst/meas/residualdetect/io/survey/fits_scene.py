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


"""A scene from FITS images of any survey."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label as label_islands

from ...boxes import nearest_pixel
from ...mask_bits import PlaneNumbers, has_bits
from ...psf_field import PsfField
from ...psf_images import to_centered_shape
from ...scene import DEFAULT_BAD_PLANES, Scene, SceneError
from ..band_names import canonical_bands
from ..fits_common import FitsError
from ..lsst_image_file import band_of_lsst_image, is_lsst_image_file
from ..plausibility import check_plausible
from ..remarks import Remarks
from ..scene_file import SceneFile
from .band_psf import read_psf_image
from .fits_band import BandFiles, Given, read_image, read_mask, read_variance
from .fits_planes import FitsPath, find_plane, open_fits
from .fits_psf import PsfWidth
from .known_table import peaks_of_labels, read_footprints, read_known
from .sky_wcs import SkyWcs, check_agreement

__all__ = ["FitsScene", "band_of_file", "read_fits_scene"]

PathLike = str | os.PathLike[str]

# LSST's, where a file does not say.
_DEFAULT_PIXEL_SCALE_ARCSEC = 0.2

# Of pixel scales that are said in cards to few digits.
_MAX_SCALE_CHANGE = 0.01


@dataclass(frozen=True, eq=False)
class FitsScene(SceneFile):
    """A scene from FITS images, and where it comes from.

    Parameters
    ----------
    wcs : `SkyWcs`, optional
        Of the first image; `None` if it has none.
    flux_units : `tuple` [`str`, ...]
        Unit of the pixels in each band: ``nJy``, or empty where the files do
        not say.
    peak_ids : `numpy.ndarray`, (n,), str, optional
        Names of the peaks in the catalogue that they come from.
    files : `tuple` [`str`, ...]
        What was read.
    notes, doubts : `tuple` [`str`, ...]
        What was assumed, and what is likely wrong.
    """

    wcs: SkyWcs | None = None
    flux_units: tuple[str, ...] = ()
    peak_ids: npt.NDArray[np.str_] | None = None
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def band_of_file(path: PathLike) -> str:
    """What a FITS file says of its band or, if it is a cube, its bands.

    Parameters
    ----------
    path : path-like
        File, maybe with an extension as ``file.fits[SCI]``.

    Returns
    -------
    band : `str`
        From the cards ``BAND``, ``FILTER`` and their like, or what
        lsst.images wrote; of a cube the
        names of its planes (``BANDS``, as in the Legacy Surveys' cutouts)
        with commas between.

    Raises
    ------
    FitsError
        Raised if it says nothing.
    """
    name = FitsPath.parse(path)
    if name.extension is None and is_lsst_image_file(name.path):
        band = band_of_lsst_image(name.path)
        if band is None:
            raise FitsError(f"{name}: does not say which band this is; give it as i={name}")
        return band
    with open_fits(name) as hdus:
        found = find_plane(hdus, name, ("image",))
        headers = [found[0].header] if found else []
        for header in (*headers, hdus[0].header):
            several = str(header.get("BANDS", "")).strip()
            if several and found and len(found[0].shape) == 3:
                return ",".join(re.split(r"[ ,]+", several) if re.search(r"[ ,]", several) else several)
            for card in ("BAND", "FILTER", "FILTER1", "FILTNAM", "FILTNAME", "FILT"):
                if str(header.get(card, "")).strip():
                    return str(header[card]).strip()
    raise FitsError(f"{name}: no card says which band this is (BAND, FILTER); give it as i={name}")


def _bands(images: Mapping[str, Any], band_map: Mapping[str, str] | None) -> list[BandFiles]:
    """One for each band, those of a cube apart."""
    if not images:
        raise SceneError("no images are given")
    names = {given: [name.strip() for name in given.split(",")] for given in images}
    canonical = iter(canonical_bands([name for several in names.values() for name in several], band_map))
    return [
        BandFiles(
            next(canonical),
            FitsPath.parse(images[given]),
            (plane, len(several)) if len(several) > 1 else None,
        )
        for given, several in names.items()
        for plane in range(len(several))
    ]


def _by_band(
    given: Mapping[str, Any] | None, bands: list[BandFiles], band_map: Mapping[str, str] | None, what: str
) -> dict[str, Given]:
    """What is given for each band; several share one as ``g,r,i``."""
    found: dict[str, Given] = {}
    for key, value in (given or {}).items():
        names = canonical_bands([name.strip() for name in key.split(",")], band_map)
        for plane, name in enumerate(names):
            if name not in [band.name for band in bands]:
                raise SceneError(f"{what} is given for band {name!r}, but no image of it")
            if name in found:
                raise SceneError(f"{what} of band {name!r} is given twice")
            found[name] = (value, (plane, len(names)) if len(names) > 1 else None)
    return found


def read_fits_scene(
    images: Mapping[str, PathLike],
    *,
    psfs: Mapping[str, PathLike | PsfWidth | npt.NDArray[np.floating]] | None = None,
    noise: Mapping[str, PathLike | float] | None = None,
    masks: Mapping[str, PathLike] | None = None,
    mask_planes: Mapping[str, int] | None = None,
    band_map: Mapping[str, str] | None = None,
    peaks: PathLike | None = None,
    footprints: PathLike | None = None,
    pixel_scale_arcsec: float | None = None,
    name: str | None = None,
    strict: bool = False,
) -> FitsScene:
    """Read a scene from FITS images of any survey.

    One band after another is read, and of files of several extensions only
    what is needed. Compressed files (``.fz``, ``.gz``) are read too.

    Parameters
    ----------
    images : `~collections.abc.Mapping` [`str`, path-like]
        File of each band, by any name of the band that
        `~lsst.meas.residualdetect.io.band_names.canonical_band` knows. An
        extension is named as ``file.fits[SCI]`` or ``file.fits[1]``; a cube
        has several bands as ``g,r,i``. All share a pixel grid.
    psfs : `~collections.abc.Mapping`, optional
        By band: an image of the PSF, a PSFEx model, a cube with a table of
        positions, a `PsfWidth`, or an array. If absent what the image's file
        holds, else it is measured from stars.
    noise : `~collections.abc.Mapping`, optional
        By band: a file or a number, and after a colon its kind (``variance``,
        ``weight``, ``invvar`` or ``rms``) unless the file says it. If absent
        what the image's file holds or, of a Legacy Surveys' brick, the file
        beside it; else it is measured.
    masks : `~collections.abc.Mapping`, optional
        By band: a file of integers. If absent as for noise; else none.
    mask_planes : `~collections.abc.Mapping` [`str`, `int`], optional
        Bits of the mask's planes; if absent as the file's ``MP_`` cards say.
    band_map : `~collections.abc.Mapping` [`str`, `str`], optional
        What names of bands mean.
    peaks : path-like, optional
        A table of known sources; see `read_known`.
    footprints : path-like, optional
        A segmentation map; see `read_footprints`. Segments that touch are one
        parent, and without ``peaks`` each has its brightest pixel as one.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel, in place of what the WCS says.
    name : `str`, optional
        What to call the scene; the first file's stem if absent.
    strict : `bool`, optional
        Whether a doubt is an error.

    Returns
    -------
    scene : `FitsScene`
        Pixels in nJy where the files have a unit or a zero point. Position
        (0, 0) is the centre of the first pixel, which FITS calls (1, 1).

    Raises
    ------
    FitsError, SceneError
        Raised with the file's or band's name if something cannot be used, or
        the images are not on one grid.
    """
    remarks = Remarks(strict)
    bands = _bands(images, band_map)
    noise_of = _by_band(noise, bands, band_map, "noise")
    masks_of = _by_band(masks, bands, band_map, "a mask")
    psfs_of = _by_band(psfs, bands, band_map, "a PSF")
    wcses: dict[str, SkyWcs] = {}
    units, kernels = [], []
    fields: list[PsfField | None] = []
    scale = pixel_scale_arcsec
    for index, band in enumerate(bands):
        image = read_image(remarks, band)
        if index == 0:
            shape = image.pixels.shape
            pixels, variance = (np.empty((len(bands), *shape), np.float32) for _ in range(2))
            planes = PlaneNumbers(pixels.shape)
        if image.pixels.shape != shape:
            raise SceneError(
                f"{band}: has {image.pixels.shape} pixels, {bands[0]} has {shape}; put all bands on one grid "
                "first, for example with the package reproject"
            )
        if image.wcs is not None:
            wcses[str(band)] = image.wcs
        if pixel_scale_arcsec is None and image.pixel_scale_arcsec is not None:
            if scale is not None and abs(image.pixel_scale_arcsec / scale - 1) > _MAX_SCALE_CHANGE:
                raise SceneError(
                    f"{band}: pixels of {image.pixel_scale_arcsec:.4g} arcsec, those of {bands[0]} of "
                    f"{scale:.4g}; put all bands on one grid first, for example with the package reproject"
                )
            scale = scale or image.pixel_scale_arcsec
        if scale is None:
            scale = _DEFAULT_PIXEL_SCALE_ARCSEC
            remarks.doubt(f"{band}: nothing tells the pixel scale; taken to be {scale} arcsec")
        pixels[index] = image.pixels
        variance[index] = read_variance(remarks, band, noise_of.get(band.name), image)
        planes.add(index, read_mask(remarks, band, masks_of.get(band.name), mask_planes, image), str(band))
        units.append(image.scale.unit)
        bad = has_bits(planes.mask[index], [planes.names[plane] for plane in DEFAULT_BAD_PLANES])
        bad |= ~np.isfinite(pixels[index]) | ~np.isfinite(variance[index])
        given = psfs_of.get(band.name)
        kernel, field = read_psf_image(remarks, band, given[0] if given else None, image, bad, scale)
        kernels.append(kernel)
        fields.append(field)
    del image, bad  # of the last band, and what lsst.images holds of it
    check_agreement(wcses, shape, remarks)
    wcs = next(iter(wcses.values()), None)
    if len(set(units)) > 1:
        remarks.doubt(
            "fluxes are in nJy in the bands "
            f"{', '.join(band.name for band, unit in zip(bands, units, strict=True) if unit)}, "
            "in image units in the others; colours mean nothing"
        )
    side = tuple(np.max([kernel.shape for kernel in kernels], axis=0))
    scene = Scene(
        images=pixels,
        variance=variance,
        psfs=np.stack([to_centered_shape(kernel / kernel.sum(), side) for kernel in kernels]),
        bands=tuple(band.name for band in bands),
        mask=planes.mask,
        name=name or bands[0].image.path.name.split(".fits")[0],
        pixel_scale_arcsec=scale or _DEFAULT_PIXEL_SCALE_ARCSEC,
        mask_planes=planes.names,
        sky_position=wcs,
        psf_fields=tuple(fields),
    )
    known = ids = labels = None
    if peaks is not None:
        remarks.reads(Path(peaks))
        known, ids = read_known(Path(peaks), scene.shape, wcs, remarks)
    if footprints is not None:
        path = FitsPath.parse(footprints)
        remarks.reads(path.path)
        pixels_of_known = None if known is None else nearest_pixel(known)
        labels = read_footprints(path, scene.images, pixels_of_known, remarks)
        if known is None:
            known, ids = peaks_of_labels(labels, scene.images, scene.variance)
        # What touches is one blend, of as many sources as it has segments.
        labels = np.asarray(label_islands(labels > 0, np.ones((3, 3)))[0], np.int32)
    check_plausible(scene, remarks, known)
    return FitsScene(
        scene,
        peaks=known,
        footprints=labels,
        wcs=wcs,
        flux_units=tuple(units),
        peak_ids=ids,
        files=tuple(remarks.files),
        notes=tuple(remarks.notes),
        doubts=tuple(remarks.doubts),
    )
