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


"""From coadds to the Object table in a repository of the stack: two residual
detections, measurement unforced and forced, the tables; needs the stack.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.table import Table

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip(
    "lsst.meas.base.forcedMeasurement",
    reason="needs the LSST Science Pipelines (lsst.meas.base)",
    exc_type=ImportError,
)
pytest.importorskip(
    "lsst.pipe.tasks.multiBand",
    reason="needs the LSST Science Pipelines (lsst.pipe.tasks.multiBand)",
    exc_type=ImportError,
)
pytest.importorskip(
    "lsst.drp.tasks.forcedPhotCoadd", reason="needs the LSST Science Pipelines (lsst.drp.tasks)"
)

import lsst.afw.image as afw_image
from lsst.afw.math import ChebyshevBoundedField
from lsst.afw.table import ExposureTable
from lsst.daf.butler import Butler, DatasetType
from lsst.pipe.tasks.functors import CompositeFunctor

from afw_repository import (
    RUN,
    WHERE,
    create_repository,
    detect,
    fill_patch,
    make_skymap,
    pipetask,
    simulate_exposures,
)

pytestmark = pytest.mark.skipif(
    "PIPE_TASKS_DIR" not in os.environ, reason="needs the LSST Science Pipelines (pipe_tasks)"
)

BANDS = tuple("gri")
SIDE = 200
PIPELINE = Path(__file__).parent / "afw_object_pipeline.yaml"
MEASURED = (
    "deconvolve,deblendCoaddFootprints,residualDetection,redeblend,residualDetection2,redeblend2,"
    "measureObjectUnforced,mergeObjectMeasurement,measureObjectForced"
)
TABLES = "rewriteObject,standardizeObject,consolidateObject,consolidateParentTable"
OURS = ("merge_peak_residual", "residual_iteration", "residual_score")
# Fits of MultiProFit and epochs, which other packages make; whether by band.
ELSEWHERE = {
    "object_psf_multiprofit": True,
    "object_exp_multiprofit": False,
    "object_sersic_multiprofit": False,
    "object_epoch": False,
}


def _functor_file(butler, path):
    """The stack's functor file, without what plugins of other packages measure."""
    given = yaml.safe_load((Path(os.environ["PIPE_TASKS_DIR"]) / "schemas/Object.yaml").read_text())
    # The map of dust is a package of its own.
    given["funcs"] = {name: f for name, f in given["funcs"].items() if f["functor"] != "Ebv"}
    there = {"ref": butler.get("object_ref_measurement", WHERE).asAstropy().colnames}
    for dataset, name in (
        ("meas", "object_unforced_measurement"),
        ("forced_src", "object_forced_measurement"),
    ):
        there[dataset] = butler.get(name, WHERE | {"band": "i"}).asAstropy().colnames
    functors = CompositeFunctor.from_yaml(given).funcDict
    wanted = {name for name, f in functors.items() if set(f.columns) <= set(there.get(f.dataset, ()))}
    rules = given["flag_rename_rules"]
    kept = {"funcs": {name: f for name, f in given["funcs"].items() if name in wanted}} | {
        kind: [flag for flag in given[kind] if CompositeFunctor.renameCol(flag, rules) in wanted]
        for kind in ("refFlags", "flags", "forcedFlags")
    }
    for dataset in ("epoch", "Exp_multiprofit", "Sersic_multiprofit"):
        kept["funcs"][f"of_{dataset}"] = {"functor": "Column", "args": "of", "dataset": dataset}
    path.write_text(yaml.safe_dump(kept | {"flag_rename_rules": rules}))
    return len(wanted), len(functors)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    skymap = make_skymap(SIDE)
    box = skymap[0][0].getOuterBBox()
    exposures = simulate_exposures(skymap, BANDS, 11, exposure_factor=0.1)
    schema = ExposureTable.makeMinimalSchema()
    corrections = afw_image.ApCorrMap()
    for name, factor in (("instFlux", 1.0), ("instFluxErr", 0.0)):
        for algorithm in ("base_PsfFlux", "base_GaussianFlux"):
            corrections[f"{algorithm}_{name}"] = ChebyshevBoundedField(box, np.array([[factor]]))
    for exposure in exposures.values():
        exposure.getInfo().setCoaddInputs(afw_image.CoaddInputs(schema, schema))
        exposure.getInfo().setApCorrMap(corrections)
        for plane in ("CLIPPED", "SENSOR_EDGE", "INEXACT_PSF", "REJECTED"):
            exposure.mask.addMaskPlane(plane)
    root = tmp_path_factory.mktemp("objects") / "repo"
    butler = create_repository(root, skymap, BANDS)
    fill_patch(butler, exposures, detect(exposures, skymap))
    # New peaks in both iterations, right or wrong, whatever the threshold that ships.
    options = ("-c", "residualDetection:score_threshold=0.3", "-c", "residualDetection2:score_threshold=0.1")
    print(pipetask(root, "-p", f"{PIPELINE}#{MEASURED}", *options))
    measured = Butler.from_config(str(root), collections="out")
    ids = measured.get("object_ref_measurement", WHERE)["id"]
    elsewhere = Table({"id": ids, "of": ids})
    for name, by_band in ELSEWHERE.items():
        dimensions = ("skymap", "tract", "patch", *(("band",) if by_band else ()))
        butler.registry.registerDatasetType(
            DatasetType(name, dimensions, "ArrowAstropy", universe=butler.dimensions)
        )
        for band in BANDS if by_band else (None,):
            butler.put(elsewhere, name, WHERE | ({"band": band} if band else {}), run=RUN)
    functors = root.parent / "Object.yaml"
    print("functors kept: {} of {}".format(*_functor_file(measured, functors)))
    options = ("-c", f"standardizeObject:functorFile={functors}")
    print(pipetask(root, "-p", f"{PIPELINE}#{TABLES}", *options, first="out", output="tables"))
    return root


@pytest.fixture(scope="module")
def butler(repo):
    return Butler.from_config(str(repo), collections=["tables", "out"])


def _records(butler, name, **where):
    return {record.getId(): record for record in butler.get(name, WHERE | where)}


def test_all_objects_go_through_measurement(butler):
    objects = butler.get("object_deblend_residual2", WHERE)
    ids = sorted(record.getId() for record in objects)
    assert len(set(ids)) == len(ids)
    assert sorted(_records(butler, "object_ref_measurement")) == ids
    for band in BANDS:
        for name in ("object_unforced_measurement", "object_forced_measurement"):
            assert sorted(_records(butler, name, band=band)) == ids
    # Beside peaks in known parents both iterations founded some, or one did.
    new = [record for record in objects if record["residual_iteration"]]
    assert {record["residual_iteration"] for record in new} == {1, 2}
    assert {record.getParent() == 0 for record in new} == {True, False}


def test_what_residuals_gave_is_measured_as_what_detection_gave(butler):
    for band in BANDS:
        unforced = butler.get("object_unforced_measurement", WHERE | {"band": band})
        forced = butler.get("object_forced_measurement", WHERE | {"band": band})
        new = unforced["residual_iteration"] > 0
        sky = unforced["merge_peak_sky"]
        for catalogue in (unforced, forced):
            flux, error = (catalogue[f"base_PsfFlux_instFlux{end}"] for end in ("", "Err"))
            assert np.isfinite(flux).all() and (error > 0).all()
            assert not catalogue["base_PsfFlux_flag_noGoodPixels"].any()
            assert np.median((flux / error)[new]) > 2 > np.median(np.abs(flux / error)[sky])
            # Large enough for what is measured on them.
            assert (
                catalogue["base_PsfFlux_flag"][new].mean() < 1.5 * catalogue["base_PsfFlux_flag"][~new].mean()
            )
        good = ~forced["base_PsfFlux_flag"] & ~unforced["base_PsfFlux_flag"]
        both = [catalogue["base_PsfFlux_instFlux"][good] for catalogue in (unforced, forced)]
        np.testing.assert_allclose(*both, atol=3 * forced["base_PsfFlux_instFluxErr"][good].max())


def test_the_object_table_has_them_beside_what_is_measured(butler):
    location = butler.getURI("object_all", WHERE)
    table = pd.read_parquet(location.ospath).set_index("objectId")
    theirs = {"coord_ra", "coord_dec", "i_psfFlux", "i_psfFluxErr", "detect_isPrimary", "parentObjectId"}
    assert theirs | set(OURS) <= set(table)
    objects = _records(butler, "object_deblend_residual2")
    assert set(table.index) == set(objects)
    for name in OURS:
        for number, value in table[name].items():
            assert value == objects[number][name] or np.isnan([value, objects[number][name]]).all()
    forced = _records(butler, "object_forced_measurement", band="i")
    for number, value in table["i_psfFlux"].items():
        assert value == pytest.approx(forced[number]["base_PsfFlux_instFlux"], rel=1e-5)
    new = table[table["residual_iteration"] > 0]
    assert len(new) and new["merge_peak_residual"].all() and new["residual_score"].between(0.1, 1).all()
    assert new["detect_isPrimary"].mean() > 0.5
    assert table.loc[table["residual_iteration"] == 0, "residual_score"].isna().all()


def test_the_table_of_parents_has_those_that_were_founded(butler):
    parents = butler.get("object_parent", WHERE)
    founded = {
        record.getId()
        for record in butler.get("object_deblend_residual2", WHERE)
        if record["residual_iteration"] and not record.getParent()
    }
    assert founded <= set(parents["objectId"])
