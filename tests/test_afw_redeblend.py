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

import logging
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

from lsst.meas.extensions.scarlet.io import LsstScarletModelData
from lsst.pipe.base import Struct
from lsst.pipe.tasks.deblendCoaddSourcesPipeline import DeblendCoaddSourcesMultiTask

from afw_patch import PSEUDO, Patch
from afw_repository import select
from lsst.meas.residualdetect.butler.catalogues.afw import read_catalogue
from lsst.meas.residualdetect.butler.models.afw import AfwModels
from lsst.meas.residualdetect.tasks.redeblend_changed import RedeblendTask
from lsst.meas.residualdetect.tasks.two_deblends import RedeblendError, changed_parents

_GAINED = "merge_footprint_residual"


@pytest.fixture(scope="module")
def patch():
    return Patch()


@pytest.fixture(scope="module")
def changed(patch):
    return patch.changed


def _objects(result):
    """Objects by parent and peak, which tell them apart in any deblend."""
    return {(r.getParent(), int(r["deblend_peakId"])): r for r in result.deblendedCatalog}


def _parents(result):
    """Records of parents by their id and, of a part of one, its peaks."""
    parts = {}
    for record in result.objectParents:
        peaks = tuple(peak.getId() for peak in record.getFootprint().peaks) if record.getParent() else ()
        parts[record.getParent() or record.getId(), peaks] = record
    assert len(parts) == len(result.objectParents)
    return parts


def _same_value(one, other):
    return one == other or (one != one and other != other)


def _assert_same_record(one, other, but=()):
    for name in one.schema.getNames():
        if name in other.schema.getNames() and name not in but:
            assert _same_value(one[name], other[name]), name


def _same_models(one, other):
    assert one.blends.keys() == other.blends.keys() and one.isolated.keys() == other.isolated.keys()
    for parent, source in one.isolated.items():
        theirs = other.isolated[parent]
        np.testing.assert_array_equal(source.span_array, theirs.span_array)
        assert (source.origin, source.peak) == (theirs.origin, theirs.peak)
    for parent, blend in one.blends.items():
        np.testing.assert_array_equal(blend.metadata["spans"], other.blends[parent].metadata["spans"])
        assert blend.metadata["origin"] == other.blends[parent].metadata["origin"]
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
    # Parents and the parts that they were divided into, which have ids of their own.
    stack_s, own = _parents(stack), _parents(ours)
    assert stack_s.keys() == own.keys() and any(part for _, part in own)
    for key, record in stack_s.items():
        _assert_same_record(record, own[key], ("deblend_runtime", *(("id",) if key[1] else ())))
        assert record.getFootprint().spans == own[key].getFootprint().spans
    for name in ("psf", "model_psf"):
        np.testing.assert_array_equal(
            stack.scarletModelData.metadata[name], ours.scarletModelData.metadata[name]
        )


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
    table = result.new_objects
    assert set(table["id"]) == {r.getId() for r in found} and set(table["score"]) == {0.9}
    assert set(table["nearest_known"]) <= {r.getId() for r in result.deblendedCatalog} - set(table["id"])
    # Of what was alone the sum of its pixels, of others that of the model.
    assert all(np.isfinite(table[f"nearest_flux_{when}_i"]).all() for when in ("before", "after"))
    assert list(table["nearest_distance"][table["parent"] > 0]) == pytest.approx([0.2 * np.hypot(3, 1)] * 2)


def test_new_ids_are_nobody_s_where_no_parent_was_founded(patch, changed):
    founded = changed[0].catalogue[-1].getId()
    some = select(changed[0].catalogue, lambda record: record.getId() != founded)
    result = patch.deblend(RedeblendTask, replace(changed[0], catalogue=some))
    had = {r.getId() for x in (patch.first.deblendedCatalog, patch.first.objectParents) for r in x}
    old = _objects(patch.first)
    new = {r.getId() for key, r in _objects(result).items() if key not in old}
    parts = {r.getId() for r in result.objectParents if r.getParent()} - had
    # What had its parent to itself is new, too.
    assert len(new) == 3 and parts and min(new | parts) > max(had)


def test_a_parent_founded_with_an_object_s_id_is_refused(patch, changed):
    some = changed[0].catalogue.copy(deep=True)
    child = next(r.getId() for r in patch.first.deblendedCatalog if r.getParent())
    some[-1].setId(child)
    with pytest.raises(RedeblendError, match=f"{child} is the id of two records"):
        patch.deblend(RedeblendTask, replace(changed[0], catalogue=some))


def test_parents_that_the_deblender_fails_on_keep_the_objects_that_they_had(patch, changed, caplog):
    merged, ids = changed
    # Alone in its footprint, what was founded is not fitted.
    founded = merged.catalogue[-1].getId()
    failed = ids - {founded}
    with caplog.at_level(logging.WARNING):
        result = patch.deblend(RedeblendTask, merged, fails_on=ids)
    lines = [record.getMessage() for record in caplog.records if "left it out" in record.getMessage()]
    assert sorted(lines) == [
        f"parent {parent} keeps the objects of the deblend before: the deblender left it out (MemoryError)"
        for parent in sorted(failed)
    ]
    assert patch.metadata["n_left_out"] == patch.metadata["n_restored"] == len(failed) == 2
    before, after = _objects(patch.first), _objects(result)
    for key, record in before.items():
        _assert_same_record(record, after[key], (_GAINED,))
        assert record.getId() == after[key].getId()
    assert [after[key].getId() for key in after.keys() - before.keys()] == [founded]
    assert all(record[_GAINED] == (record.getId() in ids) for record in result.objectParents)
    # Downstream reads it, and another iteration does not try again for nothing.
    model = AfwModels().read(result.scarletModelData, merged.catalogue)
    assert failed & {parent.parent_id for parent in model}
    assert not changed_parents(result.objectParents, merged.catalogue)


def _peaks(blend):
    return {source.metadata["peak_id"] for source in blend.sources.values()}


def test_parts_that_did_not_change_stay_as_a_deblend_of_everything_would_make_them(patch, changed):
    merged, ids = changed
    (parent,) = ids & patch.first.scarletModelData.blends.keys()
    result, everything = (patch.deblend(RedeblendTask, merged, deblend_all=full) for full in (False, True))
    before, after = (x.scarletModelData.blends[parent].children for x in (patch.first, result))
    kept = [part for part, blend in after.items() if blend is before.get(part)]
    assert len(kept) == len(after) - 1 > 0
    _same_models(result.scarletModelData, everything.scarletModelData)
    objects, theirs = _objects(result), _objects(everything)
    assert objects.keys() == theirs.keys()
    for key, record in objects.items():
        # Parts made again have new ids.
        _assert_same_record(record, theirs[key], ("id", "deblend_blendId"))
    # The sums over all parts, but for what a run of them gave.
    runs = ("deblend_runtime", "deblend_iterations", "deblend_chi2", "deblend_blendConvergenceFailedFlag")
    _assert_same_record(result.objectParents.find(parent), everything.objectParents.find(parent), runs)


def test_a_part_that_the_deblender_fails_on_keeps_its_objects_and_the_others_are_fresh(
    patch, changed, caplog
):
    merged, ids = changed
    (parent,) = ids & patch.first.scarletModelData.blends.keys()
    found = merged.catalogue.find(parent).getFootprint().peaks
    (new,) = (peak.getId() for peak in found if peak["residual_iteration"])
    fresh = patch.deblend(RedeblendTask, merged)
    with_new = next(
        peaks
        for peaks in map(_peaks, fresh.scarletModelData.blends[parent].children.values())
        if new in peaks
    )
    old = patch.first.scarletModelData.blends[parent].children
    part = next(part for part, blend in old.items() if not _peaks(blend) & with_new)
    with caplog.at_level(logging.WARNING):
        peaks = _peaks(old[part])
        result = patch.deblend(RedeblendTask, merged, fails_on_peaks=[min(peaks)], deblend_all=True)
    (line,) = (record.getMessage() for record in caplog.records if "left parts" in record.getMessage())
    assert line == (
        f"parent {parent} keeps the objects of the deblend before: "
        "the deblender left parts of it out (MemoryError)"
    )
    assert patch.metadata["n_restored"] == patch.metadata["n_left_out"] == 1
    before, after = _objects(patch.first), _objects(result)
    assert after.keys() == _objects(fresh).keys() and after[parent, new]["merge_peak_residual"]
    of_parent = ("deblend_parentNChild", "deblend_parentNPeaks", _GAINED)
    for peak in peaks:
        _assert_same_record(before[parent, peak], after[parent, peak], of_parent)
    models = result.scarletModelData.blends[parent].children
    assert [number for number, blend in models.items() if blend is old.get(number)] == [part]
    records = [record for record in result.objectParents if record.getParent() == parent]
    assert {record.getId() for record in records} == models.keys()
    assert not any(record["deblend_skipped"] for record in records)
    n_children = sum(family == parent for family, _ in after)
    assert result.objectParents.find(parent)["deblend_nChild"] == n_children
    assert {r["deblend_parentNChild"] for key, r in after.items() if key[0] == parent} == {n_children}


def test_a_parent_that_had_no_objects_is_named_too(patch, changed, caplog):
    parent = next(iter(patch.first.scarletModelData.blends))
    with caplog.at_level(logging.WARNING):
        first = patch.deblend(DeblendCoaddSourcesMultiTask, patch.merged, fails_on=[parent])
        patch.deblend(RedeblendTask, changed[0], first=first, fails_on=[parent], deblend_all=True)
    (line,) = (record.getMessage() for record in caplog.records if "left it out" in record.getMessage())
    assert line == f"parent {parent} has no objects: the deblender left it out (MemoryError)"
    assert patch.metadata["n_restored"] == 0


def test_it_costs_less(patch, changed):
    patch.deblend(RedeblendTask, changed[0], deblend_all=True)
    everything = patch.seconds
    patch.deblend(RedeblendTask, changed[0])
    assert patch.seconds < everything / 2


def test_nothing_changed_is_nothing_to_do(patch):
    same = patch.written(read_catalogue(patch.merged.catalogue, PSEUDO))
    result = patch.deblend(RedeblendTask, same)
    assert patch.metadata["n_changed_parents"] == len(result.new_objects) == 0
    assert [r.getId() for r in result.deblendedCatalog] == [r.getId() for r in patch.first.deblendedCatalog]
    _same_models(result.scarletModelData, patch.first.scarletModelData)


def test_models_of_other_bands_are_not_kept(patch, changed):
    models = patch.first.scarletModelData
    other = LsstScarletModelData(
        blends=models.blends, isolated=models.isolated, metadata=models.metadata | {"bands": ("g", "r")}
    )
    first = Struct(**(patch.first.getDict() | {"scarletModelData": other}))
    with pytest.raises(RedeblendError, match="another bands"):
        patch.deblend(RedeblendTask, changed[0], first=first)


def test_the_result_can_be_written(patch, changed, tmp_path):
    result = patch.deblend(RedeblendTask, changed[0])
    for name in ("deblendedCatalog", "objectParents"):
        catalogue = getattr(result, name)
        catalogue.writeFits(str(tmp_path / f"{name}.fits"))
        back = type(catalogue).readFits(str(tmp_path / f"{name}.fits"))
        assert list(back["id"]) == list(catalogue["id"])
