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

"""The embedded pipeline, run as users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS
from lsst.daf.butler import Butler

from conftest import HIDDEN, invoke, make_blend, make_scene
from lsst.meas.residualdetect.butler import DataModelError
from lsst.meas.residualdetect.butler.repository import (
    COADDS_COLLECTION,
    SKYMAP,
    create_repository,
    ingest_scenes,
    open_repository,
)
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.io.scene_file import SceneFile
from lsst.meas.residualdetect.io.survey.sky_wcs import SkyWcs
from lsst.meas.residualdetect.tasks.read_run import last_iteration, read_patches, run_detector, task_usage
from lsst.meas.residualdetect.tasks.residual_detection import ResidualDetectionTask
from survey_files import CARDS

SKY = SkyWcs(WCS(Header(CARDS)))

PIPELINE = find_file("pipelines", "embedded.yaml")
FIRST = f"{PIPELINE}#firstIteration"

INTO_OUT = ("-i", COADDS_COLLECTION, "-o", "out", "--register-dataset-types")

# What these scenes hide, the classical detector is known to find.
CLASSICAL = tuple(
    part
    for label in ("residualDetection", "residualDetection2")
    for part in ("-c", f"{label}:detector=matched_filter")
)


def pipetask(repo: Path, pipeline: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pipetask")), "run", "-b", str(repo), "-p", pipeline]
    options = options or INTO_OUT
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def _where(patch=0):
    return {"skymap": SKYMAP, "tract": 0, "patch": patch}


class Run:
    """A repository, and what the pipeline wrote into it."""

    def __init__(self, repo: Path):
        self.repo = repo
        self.butler = Butler.from_config(str(repo))

    def get(self, name, patch=0):
        return self.butler.get(name, _where(patch), collections="out")

    def has(self, name, patch=0):
        return self.butler.exists(name, _where(patch), collections="out")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """All tasks, both iterations, on an unrecognised blend with a truth and
    a WCS, and one without.
    """
    repo = tmp_path_factory.mktemp("pipeline") / "repo"
    first = make_blend(1)
    first = replace(first, scene=replace(first.scene, sky_position=SKY))
    ingest_scenes(create_repository(repo), [first, make_blend(2, with_truth=False)])
    done = pipetask(repo, str(PIPELINE), *CLASSICAL, *INTO_OUT)
    assert done.returncode == 0, done.stderr
    return Run(repo)


def test_the_hidden_source_becomes_a_flagged_object(run):
    before, after = run.get("object_detection_merged"), run.get("object_detection_merged_residual")
    assert len(before.peaks) == 3
    new = [peak for peak in after.peaks if peak.from_residual]
    assert len(new) == 1
    assert np.hypot(new[0].y - HIDDEN[0], new[0].x - HIDDEN[1]) < 1.5
    objects = run.get("object_residual")
    assert objects["id"][objects["merge_peak_residual"]].tolist() == [new[0].id]
    assert set(run.get("object")["merge_peak_residual"]) == {False}


def test_old_peaks_keep_ids_and_order(run):
    before, after = run.get("object_detection_merged"), run.get("object_detection_merged_residual")
    for old, grown in zip(before, after, strict=True):
        assert grown.id == old.id
        assert [peak.id for peak in grown.peaks[: len(old.peaks)]] == [peak.id for peak in old.peaks]


def test_only_changed_parents_are_fitted_again(run):
    old, new = run.get("object_scarlet_models"), run.get("object_scarlet_models_residual")
    changed = [
        parent.id
        for parent in run.get("object_detection_merged_residual")
        if any(peak.from_residual for peak in parent.peaks)
    ]
    assert len(changed) == 1
    for before, after in zip(old, new, strict=True):
        if before.parent_id in changed:
            assert len(after.sources) == len(before.sources) + 1
        else:
            assert after.chi2 == before.chi2
            for one, other in zip(before.sources, after.sources, strict=True):
                np.testing.assert_array_equal(one.morphology, other.morphology)
                np.testing.assert_array_equal(one.spectrum, other.spectrum)
    metadata = run.get("redeblend_metadata")["redeblend"]
    assert (metadata["n_fitted"], metadata["n_parents"]) == (1, 3)


def test_the_second_pass_explains_the_data(run):
    parents = run.get("evaluation_parents_residual")
    grown = parents[parents["n_new_peaks"] > 0]
    assert len(grown) == 1
    assert (grown["chi2_before"] / grown["n_pixels"] > 1.5).all()
    assert (grown["chi2_after"] / grown["n_pixels"] < 1.2).all()


@pytest.mark.parametrize("name", ["object", "object_candidates_residual", "object_residual"])
def test_tables_know_where_on_the_sky(run, name):
    placed, nowhere = run.get(name), run.get(name, patch=1)
    assert len(placed)
    ra, dec = SKY(placed["y"], placed["x"])
    np.testing.assert_allclose([placed["ra"], placed["dec"]], [ra, dec], rtol=0, atol=1e-9)
    assert placed["ra"].unit == placed["dec"].unit == "deg"
    assert np.isnan(nowhere["ra"]).all() and np.isnan(nowhere["dec"]).all()


def test_evaluation_knows_what_was_found(run):
    sources = run.get("evaluation_sources_residual")
    assert dict(zip(sources["id"], sources["class"], strict=True)) == {
        1: "matched",
        2: "unrecognized",
        3: "matched",
        4: "matched",
    }
    assert run.get("evaluation_peaks_residual")["class"].tolist() == ["right"]


def test_without_truth_there_is_no_table_of_sources(run):
    assert not run.has("evaluation_sources_residual", patch=1)
    assert set(run.get("evaluation_peaks_residual", patch=1)["class"]) == {"unlabelled"}


def test_a_report_can_be_made_with_and_without_truth(run, tmp_path):
    mixed = invoke("report", run.repo, "out", "--out", tmp_path / "r.html")
    assert mixed.exit_code == 0, mixed.output
    assert json.loads((tmp_path / "summary.json").read_text())["n_recovered"] == 1
    small = ("--iteration", 1, "--show", "patch_pix=20", "--show", "max_others=1")
    first = invoke("report", run.repo, "out", *small, "--out", tmp_path / "r.html")
    assert first.exit_code == 0, first.output
    assert "shown: 20 x 20 of 64 x 60 pixels" in (tmp_path / "r.html").read_text()


def test_a_report_of_no_run_names_the_collection(run, tmp_path):
    missing = invoke("report", run.repo, "nothing", "--out", tmp_path / "r.html")
    assert missing.exit_code != 0
    assert "no collection 'nothing'" in missing.output
    assert not (tmp_path / "r.html").exists()


def test_a_report_of_real_data_says_what_was_found(tmp_path):
    repo = tmp_path / "repo"
    ingest_scenes(create_repository(repo), [make_blend(2, with_truth=False)])
    done = pipetask(repo, f"{PIPELINE}#firstIteration")
    assert done.returncode == 0, done.stderr
    result = invoke("report", repo, "out", "--out", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["n_truth"] is None
    assert summary["n_new_peaks"] == 1
    assert summary["chi2_after"] < summary["chi2_before"]


def test_every_candidate_is_kept_and_the_peaks_are_named(run):
    table = run.get("object_candidates_residual")
    assert len(table) >= 1
    assert (np.diff(table["score"]) <= 0).all()
    became = table[table["peak"] > 0]
    new = {peak.id: peak for peak in run.get("object_detection_merged_residual").peaks if peak.from_residual}
    assert {int(row["peak"]) for row in became} == set(new)
    assert all(new[int(row["peak"])].score == row["score"] for row in became)


def test_the_second_iteration_reads_what_the_first_wrote(run):
    first, second = run.get("object_detection_merged_residual"), run.get("object_detection_merged_residual2")
    assert [p.id for p in second.peaks if p.iteration < 2] == [p.id for p in first.peaks]
    assert {p.iteration for p in second.peaks} - {0, 1} <= {2}


def test_a_third_iteration_is_a_matter_of_suffixes(run):
    done = pipetask(
        run.repo,
        str(find_file("pipelines", "iteration.yaml")),
        *("-c", "parameters:before=_residual2", "-c", "parameters:after=_residual3"),
        *("-i", "out", "-o", "third", "--register-dataset-types"),
    )
    assert done.returncode == 0, done.stderr
    butler = open_repository(run.repo)
    assert last_iteration(butler, "third") == "_residual3"
    third = butler.get("object_detection_merged_residual3", _where(), collections="third")
    assert {peak.iteration for peak in third.peaks} <= {0, 1, 2, 3}
    assert len(read_patches(butler, "third", "_residual3")) == 2


def test_a_run_can_be_read_back(run):
    assert last_iteration(run.butler, "out") == "_residual2"
    patches = read_patches(run.butler, "out", "_residual")
    first, second = (patch.read() for patch in patches)
    assert first.truth is not None and second.truth is None
    assert first.name == "patch 0 (blend)"
    assert len(patches[0].evaluation.truth) == 4
    assert patches[0].evaluation.n_peaks == len(first.before.peaks)
    assert patches[0].evaluation.bands == first.scene.bands
    assert patches[1].evaluation.truth is None
    assert (patches[0].candidates["peak"] > 0).sum() == 1
    assert run_detector(run.butler, "out", "_residual") == "matched_filter"
    usage = task_usage(run.butler, "out")
    assert usage["deblend"].n_quanta == 2
    assert all(used.seconds > 0 and used.peak_memory_mib > 10 for used in usage.values())


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    repo = tmp_path / "repo"
    ingest_scenes(create_repository(repo), [make_blend(1)])
    into = ("-i", COADDS_COLLECTION, "--output-run", "one", "--register-dataset-types")
    stopped = pipetask(repo, f"{PIPELINE}#detectPeaks,deblend", *into)
    assert stopped.returncode == 0, stopped.stderr
    resumed = pipetask(repo, FIRST, *CLASSICAL[:2], *into, "--extend-run", "--skip-existing")
    assert resumed.returncode == 0, resumed.stderr
    assert "Executed 3 quanta successfully" in resumed.stderr


def test_a_run_that_is_there_is_not_written_into(run):
    into = run.butler.collections.get_info("out").children[0]
    again = pipetask(run.repo, FIRST, *CLASSICAL[:2], "-i", COADDS_COLLECTION, "--output-run", into)
    assert again.returncode != 0
    assert "--extend-run" in again.stderr


@pytest.fixture
def tiny(tmp_path):
    """Makes a repository of the scenes given."""

    def make(*contents: SceneFile) -> Path:
        ingest_scenes(create_repository(tmp_path / "repo"), contents)
        return tmp_path / "repo"

    return make


def _failure(done) -> str:
    assert done.returncode != 0
    return done.stderr


def test_an_all_masked_patch_is_no_work(tiny):
    content = make_blend(1)
    masked = replace(content.scene, variance=np.zeros_like(content.scene.variance))
    repo = tiny(SceneFile(masked), make_blend(2))
    done = pipetask(repo, FIRST)
    assert done.returncode == 0, done.stderr
    assert "patch: 0}: every pixel of every band is masked" in done.stderr
    assert not Run(repo).has("object_detection_merged", 0)
    assert Run(repo).has("object_residual", 1)


def test_an_empty_catalogue_is_no_work(tiny):
    repo = tiny(SceneFile(make_scene([], rng=np.random.default_rng(1))))
    done = pipetask(repo, FIRST)
    assert done.returncode == 0, done.stderr
    assert "the detection catalogue is empty" in done.stderr
    assert len(Run(repo).get("object_detection_merged")) == 0
    assert not Run(repo).has("object_scarlet_models")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("detectPeaks:bands=['g','z']",), "patch: 0}: no coadd in ['z']; there are ['g', 'i', 'r']"),
        (("residualDetection:detector=nose",), "nose"),
        (("residualDetection:data_model=afw",), "('deep_coadd', {band, skymap, tract, patch}, ArrayCoadd)"),
        (("residualDetection:score_threshold=-1",), "score_threshold"),
        (("detectPeaks:max_same_peak_arcsec=3",), "max_same_peak_arcsec"),
        (("detectPeaks:bad_mask_planes=['SATT']",), "no mask planes ['SATT']; it has ['BAD', 'CR'"),
    ],
)
def test_a_bad_option_is_named(tiny, option, words):
    repo = tiny(make_blend(1))
    options = [part for item in option for part in ("-c", item)]
    done = pipetask(repo, FIRST, *options, "-i", COADDS_COLLECTION, "-o", "out", "--register-dataset-types")
    assert words in _failure(done)


@pytest.mark.skipif(find_spec("lsst.afw") is not None, reason="the stack is here")
def test_a_data_model_that_cannot_be_used_says_what_is_missing():
    with pytest.raises(DataModelError, match=r"'afw' cannot be used here: No module named 'lsst\.afw'"):
        ResidualDetectionTask()


def test_a_truncated_coadd_is_named(tiny):
    repo = tiny(make_blend(1))
    path = next((repo / COADDS_COLLECTION).rglob("deep_coadd*_r_*.fits"))
    path.write_bytes(path.read_bytes()[:9000])
    stderr = _failure(pipetask(repo, FIRST))
    assert path.name in stderr
    assert not Run(repo).has("object_detection_merged")


def test_bad_pixels_are_left_out_and_not_fatal(tiny):
    content = make_blend(1)
    images, variance = content.scene.images.copy(), content.scene.variance.copy()
    images[0, 28:30, 28] = np.nan
    images[1, 5, 5] = np.inf
    variance[2, 40, 40] = -1
    repo = tiny(replace(content, scene=replace(content.scene, images=images, variance=variance)))
    done = pipetask(repo, FIRST)
    assert done.returncode == 0, done.stderr
    models = Run(repo).get("object_scarlet_models_residual")
    assert all(np.isfinite(parent.chi2) and not parent.failure for parent in models)
    assert sum(len(parent.sources) > 0 for parent in models) == 3


def test_bands_that_the_models_lack_are_not_looked_at(tiny):
    repo = tiny(make_blend(1))
    done = pipetask(
        *(repo, FIRST, "-c", "deblend:bands=['g','r']"),
        *("-i", COADDS_COLLECTION, "-o", "out", "--register-dataset-types"),
    )
    assert done.returncode == 0, done.stderr
    assert Run(repo).get("object_scarlet_models_residual").bands == ("g", "r")
