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


"""Coadds of lsst.afw to a scene, and pictures of a scene back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.afw.image import Exposure, ExposureF
from lsst.afw.table import SourceCatalog
from lsst.geom import Box2I, Point2I
from lsst.meas.extensions.scarlet.utils import computeNearestPsf

from ...scene import MASK_PLANES, Array, Positions, Scene, SceneError
from ...scene_model import pad_centered

__all__ = ["exposure_like", "read_exposures", "stitch_cells"]

# Bits of an int32 without the sign.
_MASK_BITS = 31


def stitch_cells(coadd: Any, background: Any) -> ExposureF:
    """One exposure of a cell-based coadd, its background subtracted, as the
    stack's deblender makes it.

    Parameters
    ----------
    coadd : `lsst.cell_coadds.MultipleCellCoadd`
        Coadd in cells.
    background : `lsst.afw.math.BackgroundList`
        Background that is still in it.
    """
    exposure = coadd.stitch().asExposure()
    exposure.image -= background.getImage()
    return exposure


def _psf(exposure: Exposure, band: str, catalogue: SourceCatalog) -> Array:
    if exposure.getPsf() is None:
        raise SceneError(f"the coadd in band {band!r} has no PSF")
    known = f"merge_footprint_{band}" in catalogue.schema
    psf, _, _ = computeNearestPsf(exposure, catalogue, band if known else None)
    if psf is None:
        raise SceneError(f"the coadd in band {band!r} has no valid PSF at its centre, nor at any peak")
    return np.asarray(psf.array, np.float32)


def _common_planes(mask: Any, planes: dict[str, int]) -> npt.NDArray[np.int32]:
    """A mask with the bits of ``planes``, to which it adds those it lacks."""
    pixels = np.zeros(mask.array.shape, np.int32)
    for name, bit in mask.getMaskPlaneDict().items():
        if name not in planes:
            free = set(range(_MASK_BITS)) - set(planes.values())
            if not free:
                raise SceneError(f"the bands have more than {_MASK_BITS} mask planes; no bit for {name}")
            planes[name] = min(free)
        pixels |= ((mask.array >> bit) & 1).astype(np.int32) << planes[name]
    return pixels


def _sky_position(wcs: Any, y: Positions, x: Positions) -> tuple[Positions, Positions]:
    ra, dec = wcs.pixelToSkyArray(x, y, degrees=True)
    return ra, dec


def read_exposures(exposures: Iterable[Exposure], bands: Sequence[str], catalogue: SourceCatalog) -> Scene:
    """One scene from the coadds of its bands.

    Parameters
    ----------
    exposures : `~collections.abc.Iterable` [`lsst.afw.image.Exposure`]
        Coadds of a patch; taken one after the other, so that only one need
        be in memory.
    bands : `~collections.abc.Sequence` [`str`]
        Their bands.
    catalogue : `lsst.afw.table.SourceCatalog`
        The merged detections. Where a coadd has no PSF at its centre, the
        one at the nearest peak is taken, as in the stack's deblender.

    Returns
    -------
    scene : `Scene`
        In patch coordinates; one PSF for each band, that at the centre, which
        is what the stack's models are convolved with.

    Raises
    ------
    SceneError
        Raised with the band if a coadd has no PSF, or another bounding box
        than the first.
    """
    images: list[Array] = []
    variance: list[Array] = []
    masks: list[npt.NDArray[np.int32]] = []
    psfs: list[Array] = []
    planes: dict[str, int] = dict(MASK_PLANES)
    first: Exposure = None
    for band, exposure in zip(bands, exposures, strict=True):
        if first is None:
            first = exposure
        elif exposure.getBBox() != first.getBBox():
            raise SceneError(
                f"coadds of one patch differ in their bounding boxes: {first.getBBox()} in band "
                f"{bands[0]!r}, {exposure.getBBox()} in band {band!r}"
            )
        images.append(exposure.image.array)
        variance.append(exposure.variance.array)
        masks.append(_common_planes(exposure.mask, planes))
        psfs.append(_psf(exposure, band, catalogue))
    if first is None:
        raise SceneError("there is no coadd")
    shape = tuple(np.max([psf.shape for psf in psfs], axis=0))
    wcs = first.getWcs()
    where = {} if wcs is None else {"pixel_scale_arcsec": wcs.getPixelScale().asArcseconds()}
    return Scene(
        images=np.stack(images),
        variance=np.stack(variance),
        psfs=np.stack([pad_centered(psf, shape) for psf in psfs]),
        bands=tuple(bands),
        mask=np.stack(masks),
        origin=(first.getY0(), first.getX0()),
        mask_planes=planes,
        sky_position=None if wcs is None else partial(_sky_position, wcs),
        **where,
    )


def exposure_like(pixels: Array, scene: Scene, coadd: Exposure) -> ExposureF:
    """A coadd with other pixels.

    Parameters
    ----------
    pixels : `numpy.ndarray`, (y, x), float32
        The pixels, in the scene's box.
    scene : `Scene`
        Whose box.
    coadd : `lsst.afw.image.Exposure`
        Gives everything else.
    """
    corner = Point2I(scene.origin[1], scene.origin[0])
    far = Point2I(corner.x + scene.shape[1] - 1, corner.y + scene.shape[0] - 1)
    exposure = ExposureF(coadd, Box2I(corner, far), deep=True)
    exposure.image.array[:] = pixels
    return exposure
