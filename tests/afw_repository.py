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


"""A Butler repository of the stack's own types, filled with a simulated sky.

Detection is the stack's: SourceDetectionTask in each band, merged by
MergeDetectionsTask, sky objects and all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lsst.afw.detection as afw_detection
import lsst.afw.image as afw_image
import lsst.afw.math as afw_math
import lsst.afw.table as afw_table
import lsst.geom as geom
import numpy as np
from astropy.table import Table
from lsst.daf.butler import Butler, DatasetType
from lsst.meas.algorithms import KernelPsf, SourceDetectionTask
from lsst.meas.base import IdGenerator
from lsst.pipe.base import Struct
from lsst.pipe.tasks.mergeDetections import MergeDetectionsTask
from lsst.skymap import DiscreteSkyMap

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.butler.images.afw import AfwImages
from lsst.meas.residualdetect.butler.images.stack import stack_bands
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene

SKYMAP = "made"
RUN = "inputs"
INSTRUMENT = "made"
WHERE = {"skymap": SKYMAP, "tract": 0, "patch": 0}
PIPELINE = Path(__file__).parent / "afw_pipeline.yaml"
_PATCH = ("skymap", "tract", "patch")

DATASET_TYPES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "deep_coadd": ((*_PATCH, "band"), "ExposureF"),
    "object_detection_merged": (_PATCH, "SourceCatalog"),
    "object_detection_merged_schema": ((), "SourceCatalog"),
    "object_detection_peak_schema": ((), "PeakCatalog"),
    "truth": (_PATCH, "ArrowAstropy"),
}


def make_skymap(side_pix: int, across: int = 1) -> DiscreteSkyMap:
    """One tract, ``across`` patches wide and high, of at least ``side_pix``."""
    config = DiscreteSkyMap.ConfigClass()
    config.raList, config.decList = [150.0], [2.0]
    config.radiusList = [(across / 2 - 0.1) * side_pix * 0.2 / 3600]
    config.projection = "TAN"
    config.pixelScale = 0.2
    config.tractBuilder["legacy"].patchInnerDimensions = [side_pix, side_pix]
    config.tractBuilder["legacy"].patchBorder = 0
    config.tractOverlap = 0.0
    return DiscreteSkyMap(config)


def make_exposures(scene: Scene, corner: geom.Point2I, wcs: object) -> dict[str, afw_image.ExposureF]:
    """The scene's bands as coadds whose first pixel is ``corner``."""
    exposures = {}
    for index, band in enumerate(scene.bands):
        box = geom.Box2I(corner, geom.Extent2I(scene.shape[1], scene.shape[0]))
        exposure = afw_image.ExposureF(box, wcs)
        variance = scene.variance[index].copy()
        no_data = ~np.isfinite(variance)
        exposure.image.array[:] = np.where(no_data, np.nan, scene.images[index])
        exposure.variance.array[:] = np.where(no_data, np.inf, variance)
        for plane, bit in scene.mask_planes.items():
            ours = (scene.mask[index] >> bit) & 1
            exposure.mask.array[:] |= (ours << exposure.mask.getMaskPlane(plane)).astype(np.int32)
        kernel = afw_math.FixedKernel(afw_image.ImageD(scene.psfs[index].astype(np.float64)))
        exposure.setPsf(KernelPsf(kernel))
        exposure.setFilter(afw_image.FilterLabel(band=band))
        exposure.setPhotoCalib(afw_image.PhotoCalib(1.0))
        exposures[band] = exposure
    return exposures


def simulate_exposures(
    skymap: DiscreteSkyMap, bands: Sequence[str], seed: int, *, exposure_factor: float = 0.2, patch: int = 0
) -> dict[str, afw_image.ExposureF]:
    """Coadds of a patch of simulated sky."""
    box = skymap[0][patch].getOuterBBox()
    options = SimulationOptions(
        bands=tuple(bands), shape=(box.getHeight(), box.getWidth()), exposure_factor=exposure_factor
    )
    scene, _ = simulate_scene(options, np.random.default_rng(seed))
    return make_exposures(scene, box.getMin(), skymap[0].getWcs())


@dataclass(frozen=True)
class Merged:
    """A merged detection catalogue and the schemas it was made with."""

    catalogue: afw_table.SourceCatalog
    schema: afw_table.SourceCatalog
    peak_schema: afw_detection.PeakCatalog


def read_exposures(exposures: Mapping[str, afw_image.ExposureF], catalogue: afw_table.SourceCatalog) -> Scene:
    """The coadds of a patch, by band, as the tasks read them."""
    images = AfwImages()
    scenes = (images.read(exposure, band, catalogue=catalogue) for band, exposure in exposures.items())
    return stack_bands(scenes, len(exposures))


def select(
    catalogue: afw_table.SourceCatalog, keep: Callable[[afw_table.SourceRecord], bool]
) -> afw_table.SourceCatalog:
    """Some records of a catalogue, copied."""
    some = type(catalogue)(catalogue.table.clone())
    some.extend([record for record in catalogue if keep(record)], deep=True)
    return some


def detect(
    exposures: Mapping[str, afw_image.ExposureF], skymap: DiscreteSkyMap, n_sky: int = 5, patch: int = 0
) -> Merged:
    """Detect in each band and merge, as the stack's pipelines do."""
    schema = afw_table.SourceTable.makeMinimalSchema()
    config = SourceDetectionTask.ConfigClass()
    config.doTempLocalBackground = False
    config.reEstimateBackground = False
    config.thresholdType = "pixel_stdev"
    config.isotropicGrow = True
    detection = SourceDetectionTask(schema=schema, config=config)
    catalogues = {
        band: detection.run(afw_table.SourceTable.make(schema), exposure, doSmooth=True).sources
        for band, exposure in exposures.items()
    }
    merge_config = MergeDetectionsTask.ConfigClass()
    merge_config.priorityList = [band for band in "irzygu" if band in exposures]
    # None cannot be asked for.
    merge_config.skyObjects.nSources = max(n_sky, 1)
    merge = MergeDetectionsTask(schema=schema, config=merge_config)
    tract = skymap[0]
    info = Struct(
        skyMap=skymap,
        tractInfo=tract,
        patchInfo=tract[patch],
        wcs=tract.getWcs(),
        bbox=tract[patch].getOuterBBox(),
    )
    catalogue = merge.run(
        catalogs=catalogues, skyInfo=info, idFactory=IdGenerator().make_table_id_factory(), skySeed=1
    ).outputCatalog
    if not n_sky:
        is_sky = catalogue.schema.find("merge_footprint_sky").key
        catalogue = select(catalogue, lambda record: not record.get(is_sky))
    return Merged(catalogue, merge.outputSchema, merge.outputPeakSchema)


def create_repository(root: Path, skymap: DiscreteSkyMap, bands: tuple[str, ...]) -> Butler:
    """An empty repository with the skymap and the bands in it."""
    Butler.makeRepo(str(root))
    butler = Butler.from_config(str(root), writeable=True)
    butler.registry.insertDimensionData(
        "instrument",
        {"name": INSTRUMENT, "class_name": "", "visit_max": 1, "exposure_max": 1, "detector_max": 1},
    )
    for band in bands:
        butler.registry.insertDimensionData(
            "physical_filter", {"instrument": INSTRUMENT, "name": band, "band": band}
        )
    skymap.register(SKYMAP, butler)
    for name, (dimensions, storage_class) in DATASET_TYPES.items():
        butler.registry.registerDatasetType(
            DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
        )
    butler.registry.registerRun(RUN)
    return butler


def put_schemas(butler: Butler, merged: Merged) -> None:
    """Put the schemas of a repository's merged catalogues."""
    butler.put(merged.schema, "object_detection_merged_schema", run=RUN)
    butler.put(merged.peak_schema, "object_detection_peak_schema", run=RUN)


def put_patch(
    butler: Butler,
    exposures: Mapping[str, afw_image.ExposureF],
    catalogue: afw_table.SourceCatalog,
    patch: int = 0,
) -> None:
    """Put a patch's coadds and merged catalogue."""
    where = WHERE | {"patch": patch}
    for band, exposure in exposures.items():
        butler.put(exposure, "deep_coadd", where | {"band": band}, run=RUN)
    butler.put(catalogue, "object_detection_merged", where, run=RUN)


def fill_patch(
    butler: Butler,
    exposures: Mapping[str, afw_image.ExposureF],
    merged: Merged,
    truth: Table | None = None,
) -> None:
    """Put what a deblend needs into the tract's first patch."""
    put_patch(butler, exposures, merged.catalogue)
    put_schemas(butler, merged)
    if truth is not None:
        butler.put(truth, "truth", WHERE, run=RUN)


def pipetask_command(
    repo: Path, *options: str, first: str | None = None, output: str = "out"
) -> tuple[list[str], dict[str, str]]:
    """A run of a pipeline, and its environment."""
    program = str(Path(sys.executable).with_name("pipetask"))
    run = f"{RUN},skymaps"
    inputs = ",".join([first, *(("out", run) if first != RUN else ())]) if first else run
    into_out = ("-b", str(repo), "-i", inputs, "-o", output, "--register-dataset-types")
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"MEAS_RESIDUALDETECT_DIR": str(here.parent), "PYTHONPATH": path}
    return [program, "run", *into_out, *options], environment


def pipetask(
    repo: Path, *options: str, first: str | None = None, output: str = "out", ok: bool | None = True
) -> str:
    """Run a pipeline; its output, whether it passed (``ok``) or failed."""
    command, environment = pipetask_command(repo, *options, first=first, output=output)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert ok is None or (done.returncode == 0) == ok, text
    return text
