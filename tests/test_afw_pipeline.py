"""The stack's deblender and residual detection under pipetask; needs the stack.

Deconvolution, deblend, residual detection and the deblend again, twice, in a
repository of simulated coadds that the stack itself detected in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

import lsst.afw.image as afw_image
import lsst.geom as geom
from afw_repository import (
    RUN,
    SKYMAP,
    Merged,
    create_repository,
    detect,
    fill_patch,
    make_exposures,
    make_skymap,
)
from lsst.daf.butler import Butler

from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene

BANDS = tuple("grizy")
SIDE = 250
PIPELINE = Path(__file__).parent / "afw_pipeline.yaml"
WHERE = {"skymap": SKYMAP, "tract": 0, "patch": 0}


def pipetask(repo: Path, *options: str, collection: str = "out", ok: bool = True) -> str:
    environment = os.environ | {"MEAS_RESIDUALDETECT_DIR": str(Path(__file__).parents[1])}
    command = ["pipetask", "run", "-b", str(repo), "-i", RUN, "-o", collection, "--register-dataset-types"]
    program = [sys.executable, "-m", "lsst.ctrl.mpexec.cli.pipetask"]
    result = subprocess.run(
        [*program, *command[1:], *options], env=environment, capture_output=True, text=True, check=False
    )
    text = result.stdout + result.stderr
    assert (result.returncode == 0) == ok, text
    return text


@pytest.fixture(scope="module")
def sky():
    skymap = make_skymap(SIDE)
    box = skymap[0][0].getOuterBBox()
    options = SimulationOptions(bands=BANDS, shape=(box.getHeight(), box.getWidth()), density=2.0)
    content = simulate_scene(options, np.random.default_rng(11))
    exposures = make_exposures(content.scene, box.getMin(), skymap[0].getWcs())
    return skymap, exposures, detect(exposures, skymap)


@pytest.fixture(scope="module")
def repo(sky, tmp_path_factory):
    skymap, exposures, merged = sky
    root = tmp_path_factory.mktemp("afw") / "repo"
    fill_patch(create_repository(root, skymap, BANDS), exposures, merged)
    options = ("-c", "residualDetection:write_images=True")
    print(pipetask(root, "-p", str(PIPELINE), *options))
    return root


@pytest.fixture(scope="module")
def butler(repo):
    return Butler.from_config(str(repo), collections="out")


def _metadata(butler, label):
    return butler.get(f"{label}_metadata", WHERE)[label].to_dict()


def test_children_of_new_peaks_carry_the_flag_and_no_others(butler):
    merged = butler.get("object_detection_merged_residual", WHERE)
    objects = butler.get("object_deblend_residual", WHERE)
    new = {
        (record.getId(), peak.getId())
        for record in merged
        for peak in record.getFootprint().peaks
        if peak["merge_peak_residual"]
    }
    assert len(new) == _metadata(butler, "residualDetection")["n_new_peaks"] > 5
    flagged = {
        (record.getParent() or record.getId(), record["deblend_peakId"])
        for record in objects
        if record["merge_peak_residual"]
    }
    made = {(record.getParent() or record.getId(), record["deblend_peakId"]) for record in objects}
    assert flagged == new & made
    # The deblender may drop a source without light, but hardly any.
    assert len(flagged) > 0.9 * len(new)
    for record in objects:
        assert bool(record["merge_peak_residual"]) == (record["residual_iteration"] == 1)
    assert not any(name.startswith("residual_") for name in butler.get("object_deblend_schema").schema.getNames())


@pytest.mark.parametrize("suffixes", [("", "_residual"), ("_residual", "_residual2")])
def test_old_peaks_and_unchanged_parents_stay_as_they_were(butler, suffixes):
    before, after = (butler.get(f"object_detection_merged{suffix}", WHERE) for suffix in suffixes)
    names = before.schema.getNames() - {"merge_footprint_residual"}
    peak_names = before[0].getFootprint().peaks.schema.getNames()
    changed = 0
    for old, new in zip(before, after, strict=False):
        for name in names:
            assert old[name] == new[name] or old[name] != old[name]
        peaks = old.getFootprint().peaks, new.getFootprint().peaks
        for one, other in zip(*peaks, strict=False):
            assert all(one[name] == other[name] or one[name] != one[name] for name in peak_names)
        if len(peaks[0]) == len(peaks[1]):
            assert old.getFootprint().spans == new.getFootprint().spans
        else:
            changed += 1
            assert new["merge_footprint_residual"]
            assert old.getFootprint().spans.intersect(new.getFootprint().spans) == old.getFootprint().spans
    assert changed > 0


def test_footprints_do_not_overlap(butler):
    merged = butler.get("object_detection_merged_residual2", WHERE)
    box = butler.get("deep_coadd", WHERE | {"band": "i"}).getBBox()
    counts = np.zeros((box.getHeight(), box.getWidth()), int)
    for record in merged:
        image = afw_image.MaskX(box)
        record.getFootprint().spans.setMask(image, 1)
        counts += image.array
    assert counts.max() == 1


def test_counts_add_up(butler):
    merged = butler.get("object_detection_merged", WHERE)
    counts = _metadata(butler, "residualDetection")
    single = sum(len(record.getFootprint().peaks) == 1 for record in merged)
    assert counts["n_parents"] == len(merged)
    assert counts["n_sky"] == sum(record["merge_footprint_sky"] for record in merged)
    assert counts["n_singles"] == single - counts["n_sky"]
    assert counts["n_left_alone"] == 0
    print({name: counts[name] for name in counts if name.startswith("n_")})


def test_the_residual_is_the_coadd_minus_the_model_and_is_small(butler):
    for band in BANDS:
        where = WHERE | {"band": band}
        coadd, model, residual = (
            butler.get(name, where) for name in ("deep_coadd", "deep_coadd_model", "deep_coadd_residual")
        )
        good = np.isfinite(coadd.image.array)
        expected = (coadd.image.array - model.image.array)[good]
        np.testing.assert_allclose(residual.image.array[good], expected, atol=1e-3)
        inside = good & (model.image.array > 0)
        chi = residual.image.array[inside] / np.sqrt(coadd.variance.array[inside])
        assert 0.8 < 1.4826 * np.median(np.abs(chi - np.median(chi))) < 1.25


def test_the_table_of_candidates(butler):
    table = butler.get("object_candidates_residual", WHERE)
    wcs = butler.get("deep_coadd", WHERE | {"band": "i"}).getWcs()
    became = table[table["peak"] > 0]
    assert len(became) == _metadata(butler, "residualDetection")["n_new_peaks"]
    sky = wcs.pixelToSky(geom.Point2D(became["x"][0], became["y"][0]))
    assert became["ra"][0] == pytest.approx(sky.getRa().asDegrees())
    assert became["dec"][0] == pytest.approx(sky.getDec().asDegrees())
    assert all(f"snr_{band}" in table.colnames for band in BANDS)


@pytest.fixture
def broken(sky, tmp_path):
    """A repository with something wrong in it."""

    def make(*, exposures=None, catalogue=None):
        skymap, good, merged = sky
        root = tmp_path / "repo"
        merged = Merged(merged.catalogue if catalogue is None else catalogue, merged.schema, merged.peak_schema)
        fill_patch(create_repository(root, skymap, BANDS), exposures or good, merged)
        return root

    return make


def _select(catalogue, keep):
    some = type(catalogue)(catalogue.table.clone())
    some.extend([record for record in catalogue if keep(record)], deep=True)
    return some


def test_an_empty_catalogue_is_no_work(sky, broken, repo):
    text = pipetask(
        broken(catalogue=_select(sky[2].catalogue, lambda record: False)),
        "-p", f"{PIPELINE}#deconvolve,deblendCoaddFootprints,residualDetection",
        ok=False,
    )
    assert "Traceback" in text
