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


"""Cell-based coadds with a background, against the same coadds in one piece;
needs the stack.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")
pytest.importorskip("lsst.cell_coadds", reason="needs the LSST Science Pipelines (lsst.cell_coadds)")

import lsst.afw.image as afw_image
import lsst.afw.math as afw_math
import lsst.geom as geom
from lsst.afw.geom import Polygon, Quadrupole
from lsst.cell_coadds import (
    CellIdentifiers,
    CoaddInputs,
    CoaddUnits,
    CommonComponents,
    MultipleCellCoadd,
    ObservationIdentifiers,
    OwnedImagePlanes,
    PatchIdentifiers,
    SingleCellCoadd,
    UniformGrid,
)
from lsst.daf.butler import Butler, DatasetType
from lsst.skymap import Index2D

from afw_repository import (
    INSTRUMENT,
    PIPELINE,
    RUN,
    SKYMAP,
    WHERE,
    create_repository,
    detect,
    fill_patch,
    make_skymap,
    pipetask,
    simulate_exposures,
)

BANDS = tuple("gri")
SIDE = 200
N_CELLS = 2


def _cells(exposure: afw_image.ExposureF, band: str) -> MultipleCellCoadd:
    """The exposure cut into cells without borders."""
    box = exposure.getBBox()
    side = geom.Extent2I(box.getWidth() // N_CELLS, box.getHeight() // N_CELLS)
    patch = PatchIdentifiers(skymap=SKYMAP, tract=0, patch=Index2D(0, 0), band=band)
    # Its file wants to know who observed.
    seen = ObservationIdentifiers(
        instrument=INSTRUMENT, physical_filter=band, visit=1, detector=1, day_obs=20260101
    )
    common = CommonComponents(
        units=CoaddUnits.nJy,
        wcs=exposure.getWcs(),
        band=band,
        identifiers=patch,
        visit_polygons={seen: Polygon(geom.Box2D(box))},
    )
    psf = exposure.getPsf().computeKernelImage(geom.Point2D(box.getCenter()))
    cells = []
    for x in range(N_CELLS):
        for y in range(N_CELLS):
            corner = geom.Point2I(box.getMinX() + x * side.x, box.getMinY() + y * side.y)
            inner = geom.Box2I(corner, side)
            piece = exposure[inner]
            cells.append(
                SingleCellCoadd(
                    outer=OwnedImagePlanes(image=piece.image, mask=piece.mask, variance=piece.variance),
                    psf=psf,
                    inner_bbox=inner,
                    inputs={seen: CoaddInputs(True, 1.0, 1.0, Quadrupole(3.0, 3.0), False)},
                    common=common,
                    identifiers=CellIdentifiers(
                        skymap=SKYMAP, tract=0, patch=Index2D(0, 0), band=band, cell=Index2D(x, y)
                    ),
                )
            )
    return MultipleCellCoadd(
        cells,
        grid=UniformGrid.from_bbox_shape(box, Index2D(N_CELLS, N_CELLS)),
        outer_cell_size=side,
        psf_image_size=psf.getDimensions(),
        inner_bbox=box,
        common=common,
    )


def _background(exposure: afw_image.ExposureF, level: float) -> afw_math.BackgroundList:
    """A constant one."""
    image = afw_image.MaskedImageF(exposure.getBBox())
    image.image.array[:] = level
    control = afw_math.BackgroundControl(4, 4)
    background = afw_math.makeBackground(image, control)
    return afw_math.BackgroundList(
        (
            background,
            afw_math.Interpolate.LINEAR,
            afw_math.THROW_EXCEPTION,
            afw_math.ApproximateControl.UNKNOWN,
            0,
            0,
            False,
        )
    )


def test_cells_with_a_background_give_what_the_whole_coadd_gives(tmp_path):
    skymap = make_skymap(SIDE)
    exposures = simulate_exposures(skymap, BANDS, 7)
    merged = detect(exposures, skymap, n_sky=0)
    root = tmp_path / "repo"
    butler = create_repository(root, skymap, BANDS)
    fill_patch(butler, exposures, merged)
    dimensions = ("skymap", "tract", "patch", "band")
    for name, storage_class in (
        ("deep_coadd_cell_predetection", "MultipleCellCoadd"),
        ("deep_coadd_background", "Background"),
    ):
        butler.registry.registerDatasetType(
            DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
        )
    for index, (band, exposure) in enumerate(exposures.items(), start=1):
        level = 10.0 * index
        bright = exposure.clone()
        bright.image += level
        where = WHERE | {"band": band}
        butler.put(_cells(bright, band), "deep_coadd_cell_predetection", where, run=RUN)
        butler.put(_background(exposure, level), "deep_coadd_background", where, run=RUN)
    steps = f"{PIPELINE}#deconvolve,deblendCoaddFootprints,residualDetection,redeblend"
    pipetask(root, "-p", steps)
    pipetask(root, "-p", steps, "-c", "parameters:use_cell_coadds=True", output="cells", first=RUN)
    whole, cells = (
        Butler.from_config(str(root), collections=name).get("object_candidates_residual", WHERE)
        for name in ("out", "cells")
    )
    assert (whole["peak"] > 0).sum() > 3
    for name in ("y", "x", "score"):
        np.testing.assert_allclose(whole[name], cells[name], atol=2e-3)
    catalogues = (
        Butler.from_config(str(root), collections=name).get("object_detection_merged_residual", WHERE)
        for name in ("out", "cells")
    )
    one, other = ([r.getFootprint().spans for r in catalogue] for catalogue in catalogues)
    assert one == other
