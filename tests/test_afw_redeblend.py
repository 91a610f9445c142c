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


"""The stack's deblender on what changed, against the stack's on everything;
needs the stack.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

from lsst.meas.base import IdGenerator
from lsst.meas.extensions.scarlet.deconvolveExposureTask import DeconvolveExposureTask
from lsst.meas.extensions.scarlet.io import LsstScarletModelData
from lsst.pipe.base import Struct
from lsst.pipe.tasks.deblendCoaddSourcesPipeline import DeblendCoaddSourcesMultiTask

from afw_repository import Merged, detect, make_exposures, make_skymap
from lsst.meas.residualdetect.butler.catalogues.afw import Schemas, read_catalogue, write_catalogue
from lsst.meas.residualdetect.candidates import Candidate, add_candidates
from lsst.meas.residualdetect.detections import Footprint
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene
from lsst.meas.residualdetect.tasks.redeblend_changed import RedeblendError, RedeblendTask, changed_parents
from lsst.meas.residualdetect.tasks.residual_scarlet_deblend import ResidualScarletDeblendTask

BANDS = ("g", "i", "r")  # as the stack's deblender sorts them
SIDE = 200
PSEUDO = ("merge_peak_sky", "sky_source")


class Patch:
    """Coadds, detections, and what the stack's deblender makes of them."""

    def __init__(self):
        skymap = make_skymap(SIDE)
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
        self.old = Struct(
            old_objects=self.first.deblendedCatalog,
            old_models=self.first.scarletModelData,
            old_parents=self.first.objectParents,
        )

    def deblend(self, task_class, merged, *, again=False, **options):
        """Run a deblender of the stack, or ours."""
        config = task_class.ConfigClass()
        config.multibandDeblend.catchFailures = False
        if again:
            config.multibandDeblend.retarget(ResidualScarletDeblendTask)
        for name, value in options.items():
            setattr(config, name, value)
        schemas = {"inputSchema": merged.schema, "peakSchema": merged.peak_schema}
        task = task_class(initInputs=schemas, config=config)
        more = {"old": self.old} if task_class is RedeblendTask else {}
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
        spot = np.ones((5, 5), bool)
        places = [(p.peaks[0].y + 3, p.peaks[0].x + 1) for p in (several, single)]
        labels = before.labels(self.scene.shape, self.corner)
        free = next(
            (y, x)
            for y in range(8, SIDE - 8)
            for x in range(8, SIDE - 8)
            if not labels[y - 8 : y + 9, x - 8 : x + 9].any()
        )
        places.append((float(free[0] + self.corner[0]), float(free[1] + self.corner[1])))
        candidates = [
            Candidate(
                float(y), float(x), 0.9, Footprint.from_mask(spot, (int(y) - 2, int(x) - 2)), frozenset("r")
            )
            for y, x in places
        ]
        scene = replace(self.scene, origin=self.corner)
        after = add_candidates(before, candidates, scene).detections
        schemas = Schemas(self.merged.schema.schema, self.merged.peak_schema.schema)
        catalogue = write_catalogue(after, self.merged.catalogue, schemas)
        names = type(self.merged.schema), type(self.merged.peak_schema)
        changed = {several.id, single.id, after.parents[-1].id}
        return Merged(catalogue, names[0](schemas.source), names[1](schemas.peak)), changed


@pytest.fixture(scope="module")
def patch():
    return Patch()


@pytest.fixture(scope="module")
def changed(patch):
    return patch.with_new_peaks()


def _objects(result):
    """Objects by parent and peak, which tell them apart in any deblend."""
    return {(r.getParent(), int(r["deblend_peakId"])): r for r in result.deblendedCatalog}


def _same_value(one, other):
    return one == other or (one != one and other != other) or one == pytest.approx(other, rel=1e-5)


def _assert_same_record(one, other, but=()):
    for name in one.schema.getNames():
        if name in other.schema.getNames() and name not in but:
            assert _same_value(one[name], other[name]), name


def _same_models(one, other):
    assert one.blends.keys() == other.blends.keys() and one.isolated.keys() == other.isolated.keys()
    for parent, blend in one.blends.items():
        here, there = (
            {s.metadata["peak_id"]: s for part in b.children.values() for s in part.sources.values()}
            for b in (blend, other.blends[parent])
        )
        assert here.keys() == there.keys()
        for peak, source in here.items():
            for component, theirs in zip(source.components, there[peak].components, strict=True):
                np.testing.assert_array_equal(component.morph, theirs.morph)
                np.testing.assert_array_equal(component.spectrum, theirs.spectrum)


def test_what_changed_is_known(patch, changed):
    merged, ids = changed
    assert changed_parents(patch.first.objectParents, merged.catalogue) == ids
    assert not changed_parents(patch.first.objectParents, patch.merged.catalogue)


def test_all_forced_gives_what_the_stack_gives(patch, changed):
    merged, _ = changed
    stack = patch.deblend(DeblendCoaddSourcesMultiTask, merged, again=True)
    ours = patch.deblend(RedeblendTask, merged, deblend_all=True)
    but = ("id", "parent", "deblend_blendId", "deblend_runtime")
    theirs, objects = _objects(stack), _objects(ours)
    assert theirs.keys() == objects.keys()
    for key, record in theirs.items():
        _assert_same_record(record, objects[key], but)
    _same_models(stack.scarletModelData, ours.scarletModelData)
    tops = [[r for r in x.objectParents if not r.getParent()] for x in (stack, ours)]
    for one, other in zip(*tops, strict=True):
        _assert_same_record(one, other, ("deblend_runtime",))
    assert len(stack.objectParents) == len(ours.objectParents)


def test_the_unchanged_stay_as_they_were(patch, changed):
    merged, ids = changed
    result = patch.deblend(RedeblendTask, merged)
    assert patch.metadata["n_changed_parents"] == len(ids) == 3
    before, after = (
        {r.getId(): r for r in x.deblendedCatalog if (r.getParent() or r.getId()) not in ids}
        for x in (patch.first, result)
    )
    assert before.keys() == after.keys() and len(before) > 10
    for number, record in before.items():
        _assert_same_record(record, after[number])
    kept = [parent for parent in patch.first.scarletModelData.blends if parent not in ids]
    assert kept and all(
        result.scarletModelData.blends[p] is patch.first.scarletModelData.blends[p] for p in kept
    )
    for catalogue in (result.deblendedCatalog, result.objectParents):
        assert len(np.unique(catalogue["id"])) == len(catalogue)
    assert (np.diff(result.deblendedCatalog["parent"]) >= 0).all()


def test_children_that_stay_keep_their_ids_and_the_models_say_so(patch, changed):
    merged, ids = changed
    result = patch.deblend(RedeblendTask, merged)
    old, new = _objects(patch.first), _objects(result)
    shared = [key for key in old.keys() & new.keys() if key[0] in ids]
    assert shared and all(old[key].getId() == new[key].getId() for key in shared)
    assert not {new[key].getId() for key in new.keys() - old.keys()} & {r.getId() for r in old.values()} - ids
    named = {
        source.metadata["id"]
        for blend in result.scarletModelData.blends.values()
        for part in blend.children.values()
        for source in part.sources.values()
    }
    assert named == {r.getId() for r in result.deblendedCatalog if r.getParent()}
    found = [r for r in result.deblendedCatalog if r["merge_peak_residual"]]
    assert len(found) == 3 and all(r["residual_score"] == 0.9 for r in found)


def test_it_costs_less(patch, changed):
    patch.deblend(RedeblendTask, changed[0], deblend_all=True)
    everything = patch.seconds
    patch.deblend(RedeblendTask, changed[0])
    assert patch.seconds < everything / 2


def test_nothing_changed_is_nothing_to_do(patch):
    result = patch.deblend(RedeblendTask, patch.merged)
    assert patch.metadata["n_changed_parents"] == 0
    assert [r.getId() for r in result.deblendedCatalog] == [r.getId() for r in patch.first.deblendedCatalog]
    _same_models(result.scarletModelData, patch.first.scarletModelData)


def test_models_of_other_bands_are_not_kept(patch, changed):
    other = LsstScarletModelData(
        blends=patch.old.old_models.blends,
        isolated=patch.old.old_models.isolated,
        metadata=patch.old.old_models.metadata | {"bands": ("g", "r")},
    )
    whole = patch.old
    patch.old = Struct(**(whole.getDict() | {"old_models": other}))
    try:
        with pytest.raises(RedeblendError, match="another bands"):
            patch.deblend(RedeblendTask, changed[0])
    finally:
        patch.old = whole


def test_the_result_can_be_written(patch, changed, tmp_path):
    result = patch.deblend(RedeblendTask, changed[0])
    for name in ("deblendedCatalog", "objectParents"):
        catalogue = getattr(result, name)
        catalogue.writeFits(str(tmp_path / f"{name}.fits"))
        back = type(catalogue).readFits(str(tmp_path / f"{name}.fits"))
        assert list(back["id"]) == list(catalogue["id"])
