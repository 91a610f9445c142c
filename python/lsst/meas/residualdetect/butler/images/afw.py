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

"""Coadds of lsst.afw, in one piece or in cells."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.afw.detection import InvalidPsfError, Psf
from lsst.afw.image import Exposure, ExposureF
from lsst.afw.table import SourceCatalog
from lsst.geom import Box2I, Point2D, Point2I
from lsst.meas.extensions.scarlet.utils import computeNearestPsf
from lsst.pex.exceptions import InvalidParameterError, RangeError

from ...scene import Array, Positions, Scene, SceneError

__all__ = ["AfwCellImages", "AfwImages", "stitch_cells"]

# Cells of coadds are some 150 pixels wide.
_PSF_STEP_PIX = 50


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


def _search_psf(exposure: Exposure) -> Any:
    """Image of the PSF nearest to the centre, at places on a grid."""
    box = exposure.getBBox()
    y, x = np.mgrid[
        box.getBeginY() : box.getEndY() : _PSF_STEP_PIX, box.getBeginX() : box.getEndX() : _PSF_STEP_PIX
    ]
    outward = np.argsort((y - box.getCenterY()) ** 2 + (x - box.getCenterX()) ** 2, axis=None)
    for index in outward:
        with suppress(InvalidPsfError):
            return exposure.getPsf().computeKernelImage(Point2D(x.flat[index], y.flat[index]))
    return None


def _psf(exposure: Exposure, band: str, catalogue: SourceCatalog) -> Array:
    if exposure.getPsf() is None:
        raise SceneError(f"the coadd in band {band!r} has no PSF")
    known = f"merge_footprint_{band}" in catalogue.schema
    psf, _, _ = computeNearestPsf(exposure, catalogue, band if known else None)
    if psf is None:
        psf = _search_psf(exposure)
    if psf is None:
        raise SceneError(f"the coadd in band {band!r} has no valid PSF anywhere")
    return np.asarray(psf.array, np.float32)


class _AfwPsf:
    """The PSF of an exposure by position."""

    def __init__(self, psf: Psf) -> None:
        self._psf = psf

    def at(self, y: float, x: float) -> npt.NDArray[np.floating]:
        """The kernel image at a place; one pixel of 0 where there is none."""
        try:
            return np.asarray(self._psf.computeKernelImage(Point2D(x, y)).array)
        except (InvalidParameterError, InvalidPsfError, RangeError):
            return np.zeros((1, 1))


def _sky_position(wcs: Any, y: Positions, x: Positions) -> tuple[Positions, Positions]:
    ra, dec = wcs.pixelToSkyArray(x, y, degrees=True)
    return ra, dec


class AfwImages:
    """See `~lsst.meas.residualdetect.butler.Images`."""

    def fetch(self, handle: Any) -> Any:
        """The whole coadd."""
        return handle.get()

    def read(self, coadd: Exposure, band: str, *, catalogue: SourceCatalog, background: Any = None) -> Scene:
        """One band as a scene in patch coordinates.

        Its PSF is that at the centre, which is what the stack's models are
        convolved with; where there is none, that at the nearest peak, as in
        the stack's deblender; where no peak has one, that nearest to the
        centre. What is modelled here has the PSF of its place.

        Raises
        ------
        SceneError
            Raised with the band if the coadd has no PSF.
        """
        wcs = coadd.getWcs()
        where: dict[str, Any] = {}
        if wcs is not None:
            where["pixel_scale_arcsec"] = wcs.getPixelScale().asArcseconds()
            where["sky_position"] = partial(_sky_position, wcs)
        return Scene(
            images=coadd.image.array[np.newaxis],
            variance=coadd.variance.array[np.newaxis],
            psfs=_psf(coadd, band, catalogue)[np.newaxis],
            bands=(band,),
            mask=coadd.mask.array[np.newaxis],
            origin=(coadd.getY0(), coadd.getX0()),
            mask_planes=dict(coadd.mask.getMaskPlaneDict()),
            psf_fields=(_AfwPsf(coadd.getPsf()),),
            **where,
        )

    def picture(self, pixels: Array, scene: Scene, coadd: Exposure) -> ExposureF:
        """The coadd with other pixels, cut out where the scene is."""
        corner = Point2I(scene.origin[1], scene.origin[0])
        far = Point2I(corner.x + scene.shape[1] - 1, corner.y + scene.shape[0] - 1)
        exposure = ExposureF(coadd, Box2I(corner, far), deep=True)
        exposure.image.array[:] = pixels
        return exposure


class AfwCellImages(AfwImages):
    """Coadds in cells (`lsst.cell_coadds.MultipleCellCoadd`), stitched."""

    def read(self, coadd: Any, band: str, *, catalogue: SourceCatalog, background: Any = None) -> Scene:
        """One band as a scene; see `stitch_cells`."""
        return super().read(stitch_cells(coadd, background), band, catalogue=catalogue)

    def picture(self, pixels: Array, scene: Scene, coadd: Any) -> ExposureF:
        """The coadd in one piece, with other pixels."""
        return super().picture(pixels, scene, coadd.stitch().asExposure())
