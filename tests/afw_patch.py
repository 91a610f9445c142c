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


"""A simulated patch that the stack detected in and deblended; needs the stack."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from lsst.meas.base import IdGenerator
from lsst.meas.extensions.scarlet.deconvolveExposureTask import DeconvolveExposureTask
from lsst.pipe.base import Struct
from lsst.pipe.tasks.deblendCoaddSourcesPipeline import DeblendCoaddSourcesMultiTask

from afw_repository import Merged, detect, make_exposures, make_skymap
from failing_deblend import FailingDeblendTask
from lsst.meas.residualdetect.butler.catalogues.afw import Schemas, read_catalogue, write_catalogue
from lsst.meas.residualdetect.candidates import Candidate, add_candidates
from lsst.meas.residualdetect.detections import Footprint
from lsst.meas.residualdetect.find_missing.candidate_table import candidate_table
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene
from lsst.meas.residualdetect.tasks.redeblend_changed import RedeblendTask
from lsst.meas.residualdetect.tasks.residual_scarlet_deblend import ResidualScarletDeblendTask

BANDS = ("g", "i", "r")  # as the stack's deblender sorts them
SIDE = 200
PSEUDO = ("merge_peak_sky", "sky_source")


class Patch:
    """Coadds, detections, and what the stack's deblender makes of them."""

    def __init__(self, side_pix=SIDE):
        skymap = make_skymap(side_pix)
        box = skymap[0][0].getOuterBBox()
        options = SimulationOptions(
            bands=tuple("gri"), shape=(box.getHeight(), box.getWidth()), exposure_factor=0.2
        )
        self.scene, _ = simulate_scene(options, np.random.default_rng(7))
        exposures = make_exposures(self.scene, box.getMin(), skymap[0].getWcs())
        self.corner = box.getMinY(), box.getMinX()
        self.merged = detect(exposures, skymap)
        deconvolve = DeconvolveExposureTask()
        self.coadds = [exposures[band] for band in BANDS]
        self.deconvolved = [
            deconvolve.run(exposures[band], self.merged.catalogue, band).deconvolved for band in BANDS
        ]
        self.first = self.deblend(DeblendCoaddSourcesMultiTask, self.merged)
        self.changed = self.with_new_peaks()

    def deblend(
        self, task_class, merged, *, again=False, fails_on=(), fails_on_peaks=(), first=None, **options
    ):
        """Run a deblender of the stack, or ours after the first."""
        config = task_class.ConfigClass()
        if fails_on or fails_on_peaks:
            config.multibandDeblend.retarget(FailingDeblendTask)
            config.multibandDeblend.fails_on = list(fails_on)
            config.multibandDeblend.fails_on_peaks = list(fails_on_peaks)
        config.multibandDeblend.catchFailures = False
        if again:
            config.multibandDeblend.retarget(ResidualScarletDeblendTask)
        for name, value in options.items():
            setattr(config, name, value)
        schemas = {"inputSchema": merged.schema, "peakSchema": merged.peak_schema}
        task = task_class(initInputs=schemas, config=config)
        more = {}
        if task_class is RedeblendTask:
            old = first or self.first
            more["candidates"] = self.candidates
            more["old"] = Struct(
                old_objects=old.deblendedCatalog,
                old_models=old.scarletModelData,
                old_parents=old.objectParents,
            )
        start = time.process_time()
        result = task.run(
            coadds=self.coadds,
            bands=list(BANDS),
            mergedDetections=merged.catalogue,
            deconvolvedCoadds=self.deconvolved,
            idFactory=IdGenerator().make_table_id_factory(),
            **more,
        )
        self.seconds = time.process_time() - start
        self.metadata = task.metadata
        return result

    def with_new_peaks(self):
        """The catalogue with a peak more in a parent of several and in one of
        one peak, and a parent founded; and the parents that changed.
        """
        before = read_catalogue(self.merged.catalogue, PSEUDO)
        real = [parent for parent in before if not parent.is_sky]
        several = next(parent for parent in real if len(parent.peaks) > 1)
        single = next(parent for parent in real if len(parent.peaks) == 1)
        places = [(p.peaks[0].y + 3, p.peaks[0].x + 1) for p in (several, single)]
        labels = before.labels(self.scene.shape, self.corner)
        free = next(
            (y, x)
            for y in range(8, SIDE - 8)
            for x in range(8, SIDE - 8)
            if not labels[y - 8 : y + 9, x - 8 : x + 9].any()
        )
        places.append((float(free[0] + self.corner[0]), float(free[1] + self.corner[1])))
        added = self.add(before, places)
        ids = {several.id, single.id, added.parents[-1].id}
        return self.written(added), ids

    def add(self, before, places):
        """Detections with peaks more, as residual detection adds them."""
        spot = np.ones((5, 5), bool)
        candidates = [
            Candidate(
                float(y), float(x), 0.9, Footprint.from_mask(spot, (int(y) - 2, int(x) - 2)), frozenset("r")
            )
            for y, x in places
        ]
        scene = replace(self.scene, origin=self.corner)
        added = add_candidates(before, candidates, scene)
        self.candidates = candidate_table(scene, np.zeros_like(scene.images), candidates, added.placements)
        return added.detections

    def written(self, detections):
        """A catalogue as residual detection writes it."""
        schemas = Schemas(self.merged.schema.schema, self.merged.peak_schema.schema)
        catalogue = write_catalogue(detections, self.merged.catalogue, schemas)
        names = type(self.merged.schema), type(self.merged.peak_schema)
        return Merged(catalogue, names[0](schemas.source), names[1](schemas.peak))
