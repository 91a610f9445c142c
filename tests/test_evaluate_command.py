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

"""Detectors side by side on fresh scenes, and the command that does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import BLEND_SOURCES, HIDDEN, make_blend
from lsst.meas.residualdetect.cli import main
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.evaluation.comparison import ComparisonOptions, compare
from lsst.meas.residualdetect.evaluation.experiment import read_outcome, run_scene, write_outcome
from lsst.meas.residualdetect.evaluation.oracle import Oracle, chi2_gain
from lsst.meas.residualdetect.evaluation.plots import write_figures
from lsst.meas.residualdetect.evaluation.pooling import pooled_curve
from lsst.meas.residualdetect.evaluation.populations import POPULATIONS, population
from lsst.meas.residualdetect.simulation import SimulationOptions

SMALL = ComparisonOptions(("dense",), ("matched_filter", "oracle"), "", n_scenes=1, seed=3, size=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def entries(folder: Path):
    return compare(folder, SMALL, jobs=1)


def test_an_oracle_names_the_hidden_source_and_no_other():
    content = make_blend(5)
    scene = content.scene
    truth = np.zeros(len(BLEND_SOURCES), [("y", "f8"), ("x", "f8"), ("snr", "f8")])
    truth["y"], truth["x"] = np.array([source[:2] for source in BLEND_SOURCES]).T
    truth["snr"] = 50.0
    before = detect(scene)
    model = deblend(scene, before.parents).image(scene)
    (found,) = Oracle(truth, before).detect(scene, model, before.peaks)
    assert (found.y, found.x) == HIDDEN
    assert found.footprint.contains(*HIDDEN)


def test_gain_is_what_the_source_takes_out_of_chi_square():
    scene = make_blend(5).scene
    empty = np.zeros_like(scene.images)
    gain = chi2_gain(scene, empty, scene.images, np.array([HIDDEN, (2.0, 60.0)]), 3.0)
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]]
    near = np.hypot(y - HIDDEN[0], x - HIDDEN[1]) <= 3
    assert gain[0] == pytest.approx((scene.images[:, near] ** 2 / scene.variance[:, near]).sum(), rel=1e-5)
    assert gain[1] < gain[0] / 10
    assert chi2_gain(scene, empty, empty, np.array([HIDDEN]), 3.0) == 0


def test_ranked_candidates_agree_with_the_run_at_its_threshold():
    options = SimulationOptions(shape=(120, 120), density=2.5)
    detector = load_detector("matched_filter")
    outcome = run_scene(options, np.random.default_rng(2), "one", {"mf": detector})["mf"]
    run = outcome.iterations[0].peaks
    ranked = outcome.candidates[outcome.candidates["score"] >= detector.default_threshold]
    assert len(outcome.candidates) > len(run) > 5
    assert sorted(ranked["score"]) == sorted(run["score"])
    curve = pooled_curve(outcome.iterations)
    assert (np.asarray(ranked["class"]) == "right").sum() == pytest.approx(
        (np.asarray(run["class"]) == "right").sum(), abs=2
    )
    assert curve.threshold[0] == pytest.approx(ranked["score"].max())


def test_an_outcome_is_read_back_as_it_was_written(tmp_path):
    options = SimulationOptions(shape=(100, 100))
    outcome = run_scene(options, np.random.default_rng(2), "one", {"oracle": None}, n_iterations=2)["oracle"]
    write_outcome(tmp_path / "one.npz", outcome)
    again = read_outcome(tmp_path / "one.npz")
    assert len(again.iterations) == 2
    assert again.iterations[1].name == "one" and again.iterations[1].bands == outcome.iterations[1].bands
    for name in ("truth", "peaks", "parents"):
        before, after = getattr(outcome.iterations[1], name), getattr(again.iterations[1], name)
        assert before.colnames == after.colnames
        for column in before.colnames:
            np.testing.assert_array_equal(before[column], after[column])


def test_the_oracle_is_pure_and_betters_the_model(entries):
    by_name = {entry.detector: entry for entry in entries}
    oracle = by_name["oracle"].iterations[0]
    assert oracle["purity"] > 0.95 and oracle["recovery"] > 0.7
    assert by_name["oracle"].curve.average_precision > by_name["matched_filter"].curve.average_precision
    assert oracle["chi2_after"] < oracle["chi2_before"]
    assert by_name["oracle"].figures["targets_with_chi2_gain_over_25"] > 0.2


def test_a_run_goes_on_and_refuses_results_of_other_options(folder, entries):
    path = folder / "dense" / "oracle" / "00000.npz"
    written = path.stat().st_mtime_ns
    done: list[int] = []
    more = compare(folder, SMALL, jobs=1, progress=done.append)
    assert done == [1] and path.stat().st_mtime_ns == written
    assert [entry.figures["average_precision"] for entry in more] == [
        entry.figures["average_precision"] for entry in entries
    ]
    with pytest.raises(ValueError, match="seed 3 "):
        compare(folder, ComparisonOptions(("dense",), ("oracle",), "", n_scenes=1, seed=4, size=100), jobs=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"populations": ("nowhere",)}, "unknown population"), ({"detectors": ("ear",)}, "unknown detector")],
)
def test_unknown_names_are_refused_before_any_work(tmp_path, changed, message):
    options = {"populations": ("dense",), "detectors": ("oracle",), "model": "", "n_scenes": 1, **changed}
    with pytest.raises(ValueError, match=message):
        compare(tmp_path, ComparisonOptions(**options), jobs=1)
    assert not list(tmp_path.iterdir())


def test_figures_are_drawn(entries, tmp_path):
    paths = write_figures(entries, tmp_path)
    assert {path.name for path in paths} == {"purity_dense.png", "recovery_dense.png", "flux_error_dense.png"}
    for path in paths:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000


def test_every_population_can_be_simulated():
    for name in POPULATIONS:
        assert population(name, 50).shape == (50, 50)


def test_the_command_writes_table_figures_and_json(tmp_path):
    arguments = ["evaluate", "--out", str(tmp_path), "-n", "1", "--size", "100", "--seed", "3", "--jobs", "1"]
    arguments += ["--population", "dense", "--detector", "oracle", "--detector", "matched_filter"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    table = (tmp_path / "results.md").read_text()
    assert "2.5 pixels" in table and "| dense | oracle | 1 |" in table
    entries = json.loads((tmp_path / "results.json").read_text())["entries"]
    assert [entry["detector"] for entry in entries] == ["oracle", "matched_filter"]
    assert entries[0]["iterations"][0]["n_unrecognized"] > 5
