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
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest

from conftest import BLEND_SOURCES, HIDDEN, invoke, make_blend
from lsst.meas.residualdetect import Footprint
from lsst.meas.residualdetect.candidates import Candidate
from lsst.meas.residualdetect.cli.evaluate import evaluate
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors import DetectorError, load_detector
from lsst.meas.residualdetect.detectors.mask_rcnn import MaskRcnn
from lsst.meas.residualdetect.experiments import comparison, comparison_options, wrong_pictures
from lsst.meas.residualdetect.experiments.comparison import compare
from lsst.meas.residualdetect.experiments.comparison_options import ComparisonOptions
from lsst.meas.residualdetect.experiments.entry import make_entry
from lsst.meas.residualdetect.experiments.experiment import run_scene
from lsst.meas.residualdetect.experiments.figures import write_figures
from lsst.meas.residualdetect.experiments.oracle import Oracle, chi2_gain
from lsst.meas.residualdetect.experiments.outcome import read_outcome, write_outcome
from lsst.meas.residualdetect.experiments.peers import load_peers, peer_labels
from lsst.meas.residualdetect.experiments.populations import POPULATIONS, population
from lsst.meas.residualdetect.experiments.skies import SimulatedSky
from lsst.meas.residualdetect.find_missing import FindMissingOptions, find_missing
from lsst.meas.residualdetect.find_missing.candidate_classes import rank_candidates
from lsst.meas.residualdetect.scene import MASK_PLANES
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene
from lsst.meas.residualdetect.truth import EvaluationOptions, PeakClass
from lsst.meas.residualdetect.truth.known_scenes import KnownScene
from lsst.meas.residualdetect.truth.pooling import classified_curve, pooled_curve, target_rows
from lsst.meas.residualdetect.truth.summary import strict_json
from tiny_network import find_maxima, make_package

SKY = SimulatedSky("dense", n_scenes=1, seed=3, size=100)
SMALL = ComparisonOptions((SKY,), ("matched_filter", "oracle"))
SMALL_SKY = SimulationOptions(shape=(100, 100), density=2.5)


def small_scene() -> KnownScene:
    scene, truth = simulate_scene(SMALL_SKY, np.random.default_rng(2), "one")
    return KnownScene(scene, detect(scene), truth)


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
    assert (found.y, found.x, found.score) == (*HIDDEN, 50.0)
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


@pytest.mark.parametrize("kind", ["matched_filter", "network"])
def test_ranking_of_all_candidates_says_what_a_run_finds(kind, tmp_path):
    if kind == "network":
        detector = MaskRcnn(make_package(tmp_path / "tiny", score_threshold=0.6), find_maxima)
    else:
        detector = load_detector(kind)
    outcome = run_scene(small_scene(), {"it": detector})["it"]
    run = pooled_curve(outcome.iterations)
    n = len(run.threshold)
    whole = classified_curve(outcome.candidates, int(target_rows(outcome.iterations).sum()))
    assert len(whole.threshold) > n > 5
    assert whole.threshold[n] < detector.default_threshold <= whole.threshold[n - 1]
    for name in ("threshold", "purity", "recovery"):
        np.testing.assert_array_equal(getattr(whole, name)[:n], getattr(run, name))


def test_the_surest_wrong_candidates_are_drawn(entries, folder, monkeypatch):
    drawn = {}
    monkeypatch.setattr(wrong_pictures, "draw_close_ups", lambda seen, path: drawn.update({path.name: seen}))
    paths = wrong_pictures.draw_surest_wrong(entries, SMALL, folder)
    # The oracle is told where sources are, and has none.
    assert [path.name for path in paths] == list(drawn) == ["wrong_dense_matched_filter.png"]
    (close_ups,) = drawn.values()
    (entry,) = (entry for entry in entries if entry.detector == "matched_filter")
    rows = entry.candidates[np.isin(entry.candidates["class"], ["shred", "spurious"])]
    rows.sort("score", reverse=True)
    assert len(close_ups) == min(len(rows), 12) > 3
    known = SKY.scene(0)
    for row, seen in zip(rows, close_ups, strict=False):
        corner = np.array([row["y"], row["x"]]) - seen.place
        assert seen.title == f"{row['class']} {row['score']:.2f}, 0"
        np.testing.assert_allclose(corner, np.rint(corner), atol=1e-4)
        assert len(seen.true) > 0
        places = np.stack([known.truth["y"], known.truth["x"]], axis=1)
        for place in seen.true + corner:
            assert np.hypot(*(places - place).T).min() < 1e-3


def test_results_of_another_version_are_not_mixed_in(entries, folder, monkeypatch):
    comparison_options.claim_folder(folder, SMALL)
    monkeypatch.setattr(comparison_options, "__version__", "99.0")
    with pytest.raises(
        ValueError, match="version of this package .* \\(now '99.0'\\); choose another folder"
    ):
        comparison_options.claim_folder(folder, SMALL)


def test_candidates_are_ranked_as_if_there_were_none_below():
    scene, truth = simulate_scene(SMALL_SKY, np.random.default_rng(2), "one")
    before = detect(scene)
    model = deblend(scene, before.parents)
    # Everywhere, so that sure ones have less sure ones better placed.
    rng = np.random.default_rng(5)
    disc = Footprint.from_mask(np.ones((1, 1), bool), (0, 0))
    candidates = [Candidate(*rng.uniform(0, 99, 2), score, disc) for score in rng.uniform(0, 1, 1500)]
    options = FindMissingOptions(min_bands=0)

    def rank(some):
        detector = SimpleNamespace(default_threshold=0.5, detect=lambda *_: some)
        return rank_candidates(find_missing(scene, before, model, detector, options), model, truth)

    ranking = rank(candidates)
    assert 300 < len(ranking) < 1500 and (np.diff(ranking["score"]) <= 0).all()
    wrong = [PeakClass.SHRED, PeakClass.SPURIOUS]
    for threshold in (0.9, 0.5):
        some = rank([c for c in candidates if c.score >= threshold])
        same = ranking[: len(some)]
        # What is beside a source that another peak found shreds that source.
        np.testing.assert_array_equal(np.isin(some["class"], wrong), np.isin(same["class"], wrong))
        np.testing.assert_array_equal(some["target"], same["target"])


def test_the_search_is_the_one_asked_for():
    known = small_scene()
    detectors = {"it": load_detector("matched_filter")}
    scores = np.concatenate([run_scene(known, detectors)["it"].iterations[0].peaks["score"]])
    threshold = float(np.median(scores))
    mask = known.scene.mask.copy()
    mask[:, :50] = 1 << MASK_PLANES["CR"]
    known = replace(known, scene=replace(known.scene, mask=mask))
    search = FindMissingOptions(score_threshold=threshold, bad_planes=("CR",))
    outcome = run_scene(known, detectors, search=search)["it"].iterations[0]
    assert outcome.peaks["score"].min() >= threshold
    assert outcome.peaks["y"].min() >= 48 and outcome.truth["y"].min() >= 49.5
    assert run_scene(known, detectors)["it"].iterations[0].truth["y"].min() < 10


def test_an_outcome_is_read_back_as_it_was_written(tmp_path):
    outcome = run_scene(small_scene(), {"oracle": None}, n_iterations=2)["oracle"]
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


def test_a_run_goes_on_where_it_was_cut_off(folder, entries):
    kept, lost = (folder / "dense" / name / "00000.npz" for name in ("oracle", "matched_filter"))
    written = kept.stat().st_mtime_ns
    lost.unlink()
    done: list[int] = []
    again = compare(folder, SMALL, jobs=1, progress=done.append)
    assert done == [0, 1] and lost.exists() and kept.stat().st_mtime_ns == written
    assert [strict_json(entry.figures) for entry in again] == [strict_json(e.figures) for e in entries]


def test_results_of_other_options_are_refused(folder, entries):
    for changed, message in (
        ({"skies": (replace(SKY, seed=4),)}, "dense.seed 3 .now 4."),
        ({"n_iterations": 2}, "n_iterations 1 .now 2."),
        ({"skies": (replace(SKY, size=120),)}, r"dense.shape \[100, 100\] .now \[120, 120\]."),
        ({"limits": EvaluationOptions(min_snr=7.0)}, r"evaluation.min_snr 8.0 .now 7.0."),
        ({"detector_options": ("matched_filter.min_score=6",)}, r"matched_filter.options \[\] .now"),
        ({"search": FindMissingOptions(min_distance_pix=2.0)}, r"search.min_distance_pix 1.5 .now 2.0."),
    ):
        with pytest.raises(ValueError, match=message):
            compare(folder, replace(SMALL, **changed), jobs=1)


def test_several_models_are_peers_by_their_names(tmp_path):
    for name in ("old", "new"):
        make_package(tmp_path / name, name=name)
    old, new = (str(tmp_path / name) for name in ("old", "new"))
    assert peer_labels(["matched_filter", "onnx"], [old, new]) == {
        "matched_filter": ("matched_filter", ""),
        "onnx-old": ("onnx", old),
        "onnx-new": ("onnx", new),
    }
    assert peer_labels(["onnx"], [old, old]) == {"onnx": ("onnx", old)}
    make_package(tmp_path / "new", name="old")
    with pytest.raises(DetectorError, match="have the same name"):
        peer_labels(["onnx"], [old, new])


def test_recovery_is_quoted_at_several_purities(entries):
    found = entries[0].figures["recovery_at_purity"]
    assert list(found) == ["0.95", "0.9", "0.8"]
    values = [item["value"] for item in found.values()]
    assert values == sorted(values)


def test_results_of_another_model_of_that_name_are_refused(tmp_path, monkeypatch):
    def no_work(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "in_processes", no_work)
    options = replace(SMALL, detectors=("onnx",), models=(str(tmp_path / "mine"),))
    make_package(tmp_path / "mine")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compare(tmp_path / "results", options, jobs=1)
    make_package(tmp_path / "mine", {"model.onnx": b"other weights"})
    with pytest.raises(ValueError, match="holds results with model 'tiny "):
        compare(tmp_path / "results", options, jobs=1)
    # What runs no network goes with any.
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "results", replace(options, detectors=("matched_filter",)), jobs=1)


def test_detectors_are_made_with_the_options_given():
    names = ("matched_filter", "onnx", "oracle")
    peers = load_peers(names, options=("matched_filter.min_score=6", "onnx.min_score=0.5"))
    assert (peers["matched_filter"].config.min_score, peers["onnx"].min_score) == (6, 0.5)
    for wrong, message in (
        ("onnx.colour=2", "'onnx' has no option 'colour'"),
        ("onnx.min_score=many", "'onnx': .*min_score"),
        ("sep.contrast=1", "is no option of matched_filter, onnx, oracle"),
        ("min_score=2", "is no option of"),
    ):
        with pytest.raises(DetectorError, match=message):
            load_peers(names, options=(wrong,))
    pytest.importorskip("sep")
    assert load_peers(("sep",), options=("sep.contrast=0.01", "sep.min_area=9"))["sep"].contrast == 0.01
    with pytest.raises(DetectorError, match="colour"):
        load_peers(("sep",), options=("sep.colour=1",))


def test_unknown_names_are_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="unknown population"):
        SimulatedSky("nowhere")
    with pytest.raises(ValueError, match="unknown detector"):
        compare(tmp_path, replace(SMALL, detectors=("ear",)), jobs=1)
    assert not list(tmp_path.iterdir())


def assert_is_a_picture(path: Path) -> None:
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[:2] == (600, 960)
    assert len(np.unique(pixels[::3, ::3].reshape(-1, pixels.shape[2]), axis=0)) > 20


def test_figures_are_drawn(entries, tmp_path):
    paths = write_figures(entries, tmp_path)
    kinds = ("purity", "recovery_snr", "recovery_separation_fwhm", "recovery_flux_ratio", "flux_error")
    assert [path.name for path in paths] == [f"{kind}_dense.png" for kind in kinds]
    for path in paths:
        assert_is_a_picture(path)


def test_any_detector_is_measured_and_probabilities_are_checked(tmp_path):
    network = MaskRcnn(make_package(tmp_path / "tiny"), find_maxima)
    outcomes = run_scene(small_scene(), {"net": network, "oracle": None})
    pair = [
        make_entry("dense", name, [outcome], np.random.default_rng(1)) for name, outcome in outcomes.items()
    ]
    assert len(pair[0].candidates) > 5 and pair[0].figures["average_precision"] > 0
    paths = write_figures(pair, tmp_path)
    # The oracle's scores are signal-to-noise ratios.
    assert [path.name for path in paths if "reliability" in path.name] == ["reliability_dense.png"]
    assert_is_a_picture(tmp_path / "reliability_dense.png")


def test_every_population_can_be_simulated_and_asked_for():
    for name in POPULATIONS:
        assert population(name, 50).shape == (50, 50)
    (option,) = (option for option in evaluate.params if option.name == "populations")
    assert tuple(option.type.choices) == tuple(POPULATIONS)


def test_fewer_bands_show_the_same_sky():
    skies = [
        simulate_scene(replace(population(name, 50), mag_limit=24.0), np.random.default_rng(1))[1]
        for name in ("dense", "grizy", "gri")
    ]
    for sky in skies[1:]:
        for column in ("y", "x", "flux_g", "mag_i"):
            np.testing.assert_array_equal(sky[column], skies[0][column])


def test_the_command_writes_table_figures_and_json(tmp_path):
    arguments = ["evaluate", "--out", str(tmp_path), "-n", "1", "--size", "100", "--seed", "3", "--jobs", "1"]
    arguments += ["--population", "dense", "--detector", "oracle", "--detector", "matched_filter"]
    arguments += ["--iterations", "2"]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "results.md").read_text()
    assert "Match radius 2.5 pixels" in text and text.startswith("`residualdetect")
    header, _, *rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {len(header)}
    assert [row[:3] for row in rows] == [
        ["| dense", name, number] for name in ("oracle", "matched_filter") for number in ("1", "2")
    ]
    entries = json.loads((tmp_path / "results.json").read_text())["entries"]
    assert [entry["detector"] for entry in entries] == ["oracle", "matched_filter"]
    first, second = entries[1]["iterations"]
    assert first["n_unrecognized"] == second["n_unrecognized"] > 5
    assert second["n_recovered"] >= first["n_recovered"] > 0
    assert rows[0][header.index("recovery")] == f"{100 * entries[0]['iterations'][0]['recovery']:.1f} %"
    assert len(list(tmp_path.glob("*.png"))) == 6

    arguments[arguments.index("3")] = "4"
    refused = invoke(*arguments)
    assert refused.exit_code == 1
    (line,) = refused.output.strip().splitlines()[-1:]
    assert "dense.seed 3 (now 4)" in line and "Traceback" not in refused.output
