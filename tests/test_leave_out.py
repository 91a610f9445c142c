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


from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from astropy.table import Table

from conftest import invoke, make_scene
from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak
from lsst.meas.residualdetect.candidates import Candidate
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detections_at
from lsst.meas.residualdetect.experiments.leave_out import LeftOut, leave_out, rounds
from lsst.meas.residualdetect.experiments.leave_out_results import figures_of, leave_out_markdown
from lsst.meas.residualdetect.io.scene_file import SceneFile, write_scene_file
from lsst.meas.residualdetect.scene import SceneError
from lsst.meas.residualdetect.truth.known_scenes import read_known_scene, scene_paths
from lsst.meas.residualdetect.truth.measures import source_snr
from lsst.meas.residualdetect.truth.metrics import scene_interval

PLACES = [(20.0, 18.0, 3000.0), (28.0, 30.0, 2000.0), (36.0, 20.0, 900.0)]
BEYOND = (54.0, 58.0, 4000.0)


def footprints(shape=(60, 64)):
    labels = np.zeros(shape, np.int32)
    labels[8:48, 6:44] = 1
    return labels


@pytest.fixture(scope="module")
def scenes():
    """Three sources in one blend, and a bright one that nobody catalogued."""
    made = []
    for number in range(2):
        scene = make_scene([*PLACES, BEYOND], rng=np.random.default_rng(number), name=f"blend{number}")
        peaks = np.array([place[:2] for place in PLACES])
        made.append(SceneFile(scene, peaks, footprints()))
    return made


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for content in scenes:
        write_scene_file(folder / f"{content.scene.name}.npz", content)
    return folder


def finder(places, score=0.9, threshold=0.5):
    """A detector that always names the same places."""
    disc = Footprint.from_mask(np.ones((1, 1), bool))
    found = [Candidate(y, x, score - 0.01 * n, disc, frozenset("gri")) for n, (y, x) in enumerate(places)]
    return SimpleNamespace(default_threshold=threshold, detect=lambda *_: found)


def parent(number, n_peaks, first):
    square = Footprint.from_mask(np.ones((20, 20), bool), (0, 40 * number))
    peaks = tuple(Peak(first + k, 2.0 + k % 15, 40.0 * number + 3 + k // 15) for k in range(n_peaks))
    return Parent(number + 1, square, peaks)


def test_every_peak_is_withheld_once_and_never_all_of_a_parent():
    sizes, first, parents = (1, 2, 5, 6, 23), 1, []
    for number, size in enumerate(sizes):
        parents.append(parent(number, size, first))
        first += size
    when = rounds(Detections(tuple(parents)), np.random.default_rng(1))
    start = 0
    for size in sizes:
        own = when[start : start + size]
        start += size
        if size == 1:
            assert own.tolist() == [-1]
            continue
        counts = np.bincount(own, minlength=5)
        assert counts.sum() == size and (own >= 0).all()
        assert counts.max() == max(-(-size // 5), 1)


def test_what_names_every_known_place_finds_all_and_nothing_else(folder):
    known = [read_known_scene(path) for path in scene_paths([folder])]
    (result,) = leave_out(known, {"all": finder([p[:2] for p in PLACES])}, np.random.default_rng(1))
    assert len(result.withheld) == 6 and result.n_known == {"blend0": 3, "blend1": 3}
    assert (result.withheld["score"] > 0.5).all()
    # Told of all, it names but what is known.
    assert len(result.extra) == 0 and not result.close_ups
    figures = figures_of(result, np.random.default_rng(1))
    assert figures["found"]["value"] == 1 and figures["extra_per_known"]["value"] == 0


def test_a_peak_beside_a_known_one_finds_nothing_and_counts_as_new(folder):
    known = [read_known_scene(folder / "blend0.npz")]
    y, x = PLACES[0][:2]
    # Within the match radius of none but a known peak, save when that is withheld.
    (result,) = leave_out(known, {"near": finder([(y + 2.0, x)])}, np.random.default_rng(1))
    found = np.isfinite(result.withheld["score"])
    assert [(row["y"], row["x"]) for row in result.withheld[found]] == [(y, x)]
    assert len(result.extra) == 1 and len(result.close_ups) == 1
    assert result.close_ups[0][1].known.shape == (3, 2)


def test_signal_to_noise_separation_and_flux_ratio_are_the_sources(folder):
    known = [read_known_scene(folder / "blend0.npz")]
    (result,) = leave_out(known, {"none": finder([])}, np.random.default_rng(1))
    assert np.isnan(result.withheld["score"]).all()
    for row in result.withheld:
        (flux,) = [place[2] for place in PLACES if place[:2] == (row["y"], row["x"])]
        near = min(
            (np.hypot(p[0] - row["y"], p[1] - row["x"]), p[2])
            for p in PLACES
            if p[:2] != (row["y"], row["x"])
        )
        assert row["separation_pix"] == pytest.approx(near[0])
        assert row["flux_ratio"] == pytest.approx(flux / near[1], rel=0.15)
        power = np.square(known[0].scene.psfs, dtype=float).sum()
        assert row["snr"] == pytest.approx(flux * np.sqrt(power), rel=0.15)


def test_signal_to_noise_follows_the_noise_and_a_source_without_model_has_none():
    scene = make_scene(PLACES)
    detections = detections_at(scene, np.array([p[:2] for p in PLACES]), footprints())
    model = deblend(scene, detections.parents)
    noisier = make_scene(PLACES, noise=3.0)
    ids = np.array([1, 2, 3, 99])
    one, other = source_snr(model, scene, ids), source_snr(model, noisier, ids)
    np.testing.assert_allclose(other[:3], one[:3] / 3, rtol=1e-5)
    assert np.isnan(one[3])


def test_what_nobody_catalogued_is_not_looked_at(folder):
    known = read_known_scene(folder / "blend0.npz")
    assert known.scene.bad()[:, 54, 58].all() and not known.scene.bad()[:, 20, 18].any()
    assert len(known.detections.peaks) == 3


def test_a_scene_without_peaks_is_detected_in(scenes, tmp_path):
    write_scene_file(tmp_path / "bare.npz", SceneFile(scenes[0].scene))
    known = read_known_scene(tmp_path / "bare.npz")
    assert len(known.detections.peaks) == 4 and not known.scene.bad().any()


def test_peaks_that_are_no_numbers_name_the_file(scenes, tmp_path):
    write_scene_file(tmp_path / "odd.npz", SceneFile(scenes[0].scene, np.array([[np.nan, 3.0]])))
    with pytest.raises(SceneError, match=r"odd\.npz"):
        read_known_scene(tmp_path / "odd.npz")


def test_scene_files_are_chosen_by_name(folder):
    assert [path.stem for path in scene_paths([folder], ["blend1"])] == ["blend1"]
    with pytest.raises(FileNotFoundError, match="blend7"):
        scene_paths([folder], ["blend1", "blend7"])
    with pytest.raises(ValueError, match="several scene files are named blend0"):
        scene_paths([folder, folder / "blend0.npz"])


def test_at_so_many_new_peaks_the_threshold_is_the_lowest_that_gives_no_more():
    withheld = Table({"scene": ["a"] * 4, "score": [0.95, 0.85, 0.5, np.nan]})
    for name in ("snr", "separation_fwhm", "flux_ratio"):
        withheld[name] = 1.0
    extra = Table({"scene": ["a"] * 3, "score": [0.9, 0.8, 0.2]})
    figures = figures_of(LeftOut("it", 0.8, withheld, extra, {"a": 10}), np.random.default_rng(1))
    assert figures["found"]["value"] == 0.5 and figures["extra_per_known"]["value"] == 0.2
    shares = {extra: item["value"] for extra, item in figures["found_at_extra"].items()}
    assert shares == {"0.05": 0.25, "0.1": 0.5, "0.2": 0.75}


def test_one_odd_scene_is_named_and_what_the_others_give_is_told():
    withheld = Table({"scene": ["odd", "odd", "a", "b"], "score": [0.1, np.nan, 0.9, 0.2]})
    for name in ("snr", "separation_fwhm", "flux_ratio"):
        withheld[name] = 1.0
    extra = Table({"scene": ["a", "odd", "odd", "odd", "b"], "score": [0.9, 0.9, 0.8, 0.7, 0.1]})
    left_out = LeftOut("it", 0.5, withheld, extra, {"a": 5, "odd": 10, "b": 5})
    figures = figures_of(left_out, np.random.default_rng(1))
    facts = {"scene": "odd", "extra": 3, "of": 4, "found": 0.5, "extra_per_known": 0.1}
    assert figures["without_one"] == facts
    assert "| 50.0 %, 0.100 (odd has 3 of 4) |" in leave_out_markdown([figures], "residualdetect")
    # Alone, it leaves nothing to tell.
    odd = LeftOut("it", 0.5, withheld[:2], extra[1:4], {"odd": 10})
    text = leave_out_markdown([figures_of(odd, np.random.default_rng(1))], "residualdetect")
    assert "| -, - (odd has 3 of 3) |" in text


def test_an_interval_is_as_wide_as_scenes_differ():
    rng = np.random.default_rng(1)
    hits, tries = rng.binomial(20, 0.6, 200).astype(float), np.full(200, 20.0)
    low, high = scene_interval(lambda w: float(w @ hits / (w @ tries)), 200, rng)
    # As the binomial distribution says, for scenes that are alike.
    expected = np.sqrt(0.6 * 0.4 / 4000)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.3)
    hits[:100], hits[100:] = 20, 0
    wide = scene_interval(lambda w: float(w @ hits / (w @ tries)), 200, rng)
    assert wide[1] - wide[0] > 3 * (high - low)
    assert np.isnan(scene_interval(lambda w: 1.0, 1, rng)).all()
    assert np.isnan(scene_interval(lambda w: np.nan, 5, rng)).all()
    assert scene_interval(lambda w: 0.5, 5, rng) == (0.5, 0.5)


def test_the_command_writes_tables_and_pictures(folder, tmp_path):
    split = tmp_path / "split.yaml"
    split.write_text(yaml.safe_dump({"training": ["blend0"], "validation": ["blend1"]}))
    out = tmp_path / "out"
    arguments = ["evaluate", "--scenes", folder, "--split", split, "--leave-out", "--out", out]
    arguments += ["--detector", "matched_filter", "--jobs", 1]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    (figures,) = json.loads((out / "leave_out.json").read_text())["detectors"]
    assert figures["n_known"] == figures["n_withheld"] == 3
    assert figures["found"]["value"] == 1
    rows = Table.read(out / "leave_out_withheld_matched_filter.ecsv")
    assert set(rows["scene"]) == {"blend1"} and (rows["score"] > 5).all()
    assert "matched_filter | 5.00 | 100.0 %" in (out / "leave_out.md").read_text()
    assert {path.name for path in out.glob("*.png")} >= {
        f"leave_out_{name}.png" for name in ("found", "snr", "separation_fwhm", "flux_ratio")
    }


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("hsc_blends_split", "hsc_"),  # comes with the package
        ("no_split", "no_split.yaml is in none of"),
        ("no_split.yaml", "No such file"),
    ],
)
def test_a_split_that_names_no_scene_is_said(folder, tmp_path, split, words):
    arguments = ["evaluate", "--scenes", str(folder), "--split", split, "--leave-out", "--out", str(tmp_path)]
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert words in result.output and len(result.output.splitlines()) == 1


def test_leaving_out_needs_scenes(tmp_path):
    result = invoke("evaluate", "--leave-out", "--out", tmp_path)
    assert result.exit_code == 2 and "--scenes" in result.output
