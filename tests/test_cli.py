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

import csv
import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from click import Context

from conftest import BLEND_SOURCES, HIDDEN, invoke, make_blend
from lsst.meas.residualdetect.cli import main
from lsst.meas.residualdetect.cli.extras import EXTRAS
from lsst.meas.residualdetect.io.scene_file import SceneFile, read_scene_file, write_scene_file
from lsst.meas.residualdetect.release import __version__
from lsst.meas.residualdetect.scene import MASK_PLANES
from lsst.meas.residualdetect.training.shards import read_shard

CLASSICAL = ("--detector", "matched_filter")


@pytest.fixture
def blend(tmp_path):
    path = tmp_path / "blend.npz"
    write_scene_file(path, make_blend(1))
    return path


@pytest.mark.parametrize("command", main.list_commands(Context(main)))
def test_every_command_explains_itself_with_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"residualdetect {command}" in result.output


def test_detect_finds_the_hidden_source(blend, tmp_path):
    result = invoke("detect", blend, *CLASSICAL, "--out", tmp_path / "new.csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "new.csv").open()))
    assert list(rows[0]) == ["scene", "y", "x", "score", "area", "parent"]
    assert len(rows) == 1
    assert rows[0]["scene"] == "blend"
    assert np.hypot(float(rows[0]["y"]) - HIDDEN[0], float(rows[0]["x"]) - HIDDEN[1]) < 1.5


def test_detect_uses_the_model_in_the_file(blend, tmp_path):
    content = read_scene_file(blend)
    # A model of the very data leaves nothing to find.
    write_scene_file(tmp_path / "done.npz", replace(content, model=content.scene.images))
    result = invoke("detect", tmp_path / "done.npz", *CLASSICAL, "--out", tmp_path / "new.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new.csv").read_text().splitlines() == ["scene,y,x,score,area,parent"]


def test_threshold_is_obeyed(blend, tmp_path):
    result = invoke("detect", blend, *CLASSICAL, "--out", tmp_path / "new.csv", "--threshold", 1000)
    assert "0 new sources" in result.output


def test_the_search_is_the_one_asked_for(blend, tmp_path):
    far = f"min_distance_pix={max(make_blend(1).scene.shape)}"
    result = invoke("detect", blend, *CLASSICAL, "--out", tmp_path / "new.csv", "--search", far)
    assert "0 new sources" in result.output
    wrong = invoke("detect", blend, *CLASSICAL, "--out", tmp_path / "new.csv", "--search", "bad_planes=SATT")
    assert wrong.exit_code == 1 and "no mask planes ['SATT']" in wrong.output


def test_detection_and_deblending_are_those_asked_for(blend, tmp_path):
    blind = ("--detection", "threshold=1e9")
    result = invoke("detect", blend, *CLASSICAL, "--out", tmp_path / "new.csv", *blind)
    assert "0 new sources" in result.output
    assert invoke("deblend", blend, "--out", tmp_path / "none", *blind).exit_code == 0
    assert not len(read_scene_file(tmp_path / "none" / "blend.npz").peaks)
    for number in (1, 50):
        out = tmp_path / str(number)
        result = invoke("deblend", blend, "--out", out, "--option", f"max_iterations={number}")
        assert result.exit_code == 0, result.output
    one, fifty = (read_scene_file(tmp_path / name / "blend.npz").model for name in ("1", "50"))
    assert not np.array_equal(one, fifty)
    wrong = invoke("deblend", blend, "--out", tmp_path / "x", "--detection", "cull_peaks.colour=2")
    assert wrong.exit_code == 2 and "--detection cull_peaks.: unknown 'colour'" in wrong.output


def test_detect_says_what_it_does_not_look_at(tmp_path):
    content = make_blend(1)
    y, x = BLEND_SOURCES[0][:2]
    row, column = round(y), round(x)
    content.scene.mask[:, row - 1 : row + 2, column - 1 : column + 2] |= 1 << MASK_PLANES["SAT"]
    write_scene_file(tmp_path / "masked.npz", replace(content, peaks=np.array([[y, x], HIDDEN])))
    result = invoke("detect", tmp_path / "masked.npz", *CLASSICAL, "--out", tmp_path / "new.csv")
    where = f"peak 1 at (y, x) = ({y:.1f}, {x:.1f}) is on a pixel that is bad in all bands"
    assert f"{where}; nothing is looked for around it" in result.output
    write_scene_file(tmp_path / "alone.npz", replace(content, peaks=np.array([[y, x]])))
    result = invoke("detect", tmp_path / "alone.npz", *CLASSICAL, "--out", tmp_path / "new.csv")
    assert "alone.npz: 1 parents left alone: " in result.output


def test_deblend_then_detect_is_detect(blend, tmp_path):
    assert invoke("deblend", blend, "--out", tmp_path / "deblended").exit_code == 0
    content = read_scene_file(tmp_path / "deblended" / "blend.npz")
    assert len(content.peaks) == 3
    assert content.truth is not None
    invoke("detect", blend, "--out", tmp_path / "one.csv")
    invoke("detect", tmp_path / "deblended" / "blend.npz", "--out", tmp_path / "two.csv")
    one, two = ((tmp_path / name).read_text().split(",")[:4] for name in ("one.csv", "two.csv"))
    assert one == two


def test_simulate_writes_scenes_with_truth(tmp_path):
    result = invoke(
        *("simulate", "--out", tmp_path / "s", "-n", 2, "--size", 64, "--bands", "gri", "--jobs", 1)
    )
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "s").iterdir())
    assert len(files) == 2
    content = read_scene_file(files[0])
    assert content.scene.images.shape == (3, 64, 64)
    assert len(content.truth) > 0


def test_ingest_makes_a_repository_and_adds_to_it(blend, tmp_path):
    for patch in range(2):
        result = invoke("ingest", tmp_path / "repo", blend)
        assert result.exit_code == 0, result.output
        assert f"patch {patch}: blend, gri, 60 x 64 pixels" in result.output


def test_a_bad_file_among_good_ones_writes_nothing(blend, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"nonsense")
    result = invoke("ingest", tmp_path / "repo", blend, bad)
    assert result.exit_code != 0
    assert not (tmp_path / "repo").exists()


def test_bad_peaks_leave_no_repository(blend, tmp_path):
    content = read_scene_file(blend)
    write_scene_file(tmp_path / "far.npz", replace(content, peaks=np.array([[999.0, 3.0]])))
    result = invoke("ingest", tmp_path / "repo", tmp_path / "far.npz")
    assert result.exit_code == 1
    assert "far" in result.output
    assert not (tmp_path / "repo").exists()


def test_options_of_a_detector_are_obeyed(blend, tmp_path):
    sure = ("--option", "min_score=1000")
    assert "0 new sources" in invoke("detect", blend, *CLASSICAL, "--out", tmp_path / "new.csv", *sure).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("detect", "{tmp}/none.npz", "--out", "{tmp}/x.csv"), "none.npz: no such file"),
        (("detect", "{blend}", "--out", "{tmp}/x.csv", "--model", "nowhere"), "no model package 'nowhere'"),
        (
            ("detect", "{blend}", *CLASSICAL, "--out", "{tmp}/x.csv", "--option", "nose=1"),
            "no option 'nose'; it has",
        ),
        (("detect", "{blend}", *CLASSICAL, "--out", "{tmp}/x.csv", "--option", "min_score=a"), "min_score=a"),
        (("deblend", "{tmp}/none.npz", "--out", "{tmp}/x"), "none.npz: no such file"),
        (("report", "{tmp}", "out"), "is not a Butler repository"),
        (("simulate", "--out", "{tmp}/x", "--bands", "gq"), "'q'"),
        (("simulate", "--out", "{tmp}/x", "--survey", "Nowhere"), "Nowhere"),
        (("simulate", "--out", "{tmp}/x", "--catalogue", "{tmp}/none.csv"), "none.csv"),
        (("ingest", "{tmp}", "{blend}"), "not a Butler repository"),
    ],
)
def test_errors_are_one_line_that_names_the_culprit(blend, tmp_path, arguments, words):
    result = invoke(*(argument.format(tmp=tmp_path, blend=blend) for argument in arguments))
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.startswith("residualdetect: error:")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback(tmp_path):
    result = invoke("--debug", "detect", tmp_path / "none.npz", "--out", tmp_path / "x.csv")
    assert isinstance(result.exception, ValueError)


def test_deblend_does_not_replace_what_it_reads(blend):
    before = blend.read_bytes()
    result = invoke("deblend", blend, "--out", blend.parent)
    assert result.exit_code == 2
    assert "would replace" in result.output
    assert blend.read_bytes() == before


def test_a_model_for_a_detector_without_one_is_refused(blend, tmp_path):
    arguments = ("detect", blend, "--out", tmp_path / "x.csv", "--model", "mine")
    result = invoke(*arguments, "--detector", "matched_filter")
    assert result.exit_code == 2
    assert "--model mine is of no use to --detector matched_filter" in result.output


def test_detect_says_so_where_there_is_nothing_to_look_at(blend, tmp_path):
    content = read_scene_file(blend)
    dark = replace(content.scene, images=np.full_like(content.scene.images, np.nan))
    write_scene_file(tmp_path / "dark.npz", SceneFile(dark))
    result = invoke("detect", tmp_path / "dark.npz", "--out", tmp_path / "new.csv")
    assert result.exit_code == 0
    assert "dark.npz: every pixel of every band is masked" in result.output


def test_an_output_without_a_folder_is_refused_before_any_work(blend, tmp_path):
    result = invoke("detect", blend, "--out", tmp_path / "no" / "new.csv")
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_files_of_one_name_are_refused(blend, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "blend.npz"
    write_scene_file(other, make_blend(2))
    result = invoke("detect", blend, other, "--out", tmp_path / "new.csv")
    assert result.exit_code == 2
    assert "several scene files are named blend" in result.output


def test_demo_runs_from_pixels_to_report(tmp_path, monkeypatch):
    steps = {}

    @contextmanager
    def counted(description, total):
        done = steps[description, total] = []
        yield done.append

    monkeypatch.setattr("lsst.meas.residualdetect.cli.demo.progress_bar", counted)
    result = invoke("demo", "--out", tmp_path / "demo", "--scenes", 1, "--size", 100, "--jobs", 1)
    assert result.exit_code == 0, result.output
    done = steps["Running the pipeline", 5]
    assert sum(done) == 5 and done.count(0) < len(done) - 1, "it moves on while the pipeline runs"
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["n_truth"] > summary["n_unrecognized"] > 0 and summary["n_peaks"] > 0
    assert summary["n_new_peaks"] >= summary["n_recovered"] + summary["n_spurious"] + summary["n_shreds"]
    assert summary["recovery"] == pytest.approx(summary["n_recovered"] / summary["n_unrecognized"])
    assert 0 < summary["chi2_after"] <= summary["chi2_before"]
    assert summary["version"] == __version__ and min(summary["seconds"].values()) > 0
    assert summary["detector"] == "onnx, mask_rcnn_ugrizy"
    assert {"detectPeaks", "deblend", "residualDetection", "redeblend", "evaluate"} == set(summary["seconds"])
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "data:image/png;base64," in page


def test_demo_does_not_replace_what_is_not_its_own(tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "thesis.tex").write_text("precious")
    result = invoke("demo", "--out", tmp_path)
    assert result.exit_code == 2
    assert (tmp_path / "repo" / "thesis.tex").exists()


def test_a_scene_without_peaks_in_the_file_is_detected_in(blend, tmp_path):
    content = read_scene_file(blend)
    write_scene_file(tmp_path / "bare.npz", SceneFile(content.scene))
    assert invoke("deblend", tmp_path / "bare.npz", "--out", tmp_path / "d").exit_code == 0
    assert len(read_scene_file(tmp_path / "d" / "bare.npz").peaks) == 3


def test_simulate_writes_training_tiles(tmp_path):
    arguments = ("simulate", "--tiles", "--out", tmp_path, "-n", 2, "--size", 64, "--jobs", 1)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "2 tiles" in result.output and "2 of them new" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["shard-1-00000.npz"]
    assert "0 of them new" in invoke(*arguments).output


def test_training_tiles_can_be_of_a_kind(tmp_path):
    arguments = ("simulate", "--tiles", "-n", 1, "--size", 64, "--seed", 5)
    masked = []
    for share in (0, 1):
        out = tmp_path / str(share)
        assert invoke(*arguments, "--out", out, "--share", "saturated", share).exit_code == 0
        (tile,) = read_shard(out / "shard-5-00000.npz")
        masked.append((tile.residual == 0).all(axis=0).sum())
    assert masked[1] > masked[0]
    wrong = invoke(*arguments, "--out", tmp_path, "--share", "purple", 1)
    assert wrong.exit_code == 2 and "saturated" in wrong.output
    alone = invoke("simulate", "--out", tmp_path, "--share", "saturated", 1)
    assert alone.exit_code == 2 and "--tiles" in alone.output


def test_options_of_scenes_do_not_go_with_tiles(tmp_path):
    result = invoke("simulate", "--tiles", "--out", tmp_path, "--density", 2)
    assert result.exit_code == 2 and "--density" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--tiles", "tiles", "--validation", "tiles", "--out", "run"],
        ["export", "run", "--out", "mine", "--calibrate", "cases"],
    ],
)
def test_training_without_detectron2_says_what_to_install(arguments, monkeypatch):
    import lsst.meas.residualdetect.cli.training_options as common

    monkeypatch.setattr(common, "find_spec", lambda name: None)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "detectron2" in result.output and "doc/training.md" in result.output


@pytest.mark.parametrize(
    ("arguments", "modules", "extra"),
    [
        (("simulate", "--out", "{tmp}/x"), ("galsim", "surveycodex"), "simulate"),
        (("demo", "--out", "{tmp}/x"), ("jinja2", "matplotlib"), "simulate,report"),
        (("evaluate", "--out", "{tmp}/x"), ("matplotlib",), "report,simulate"),
        (("demo", "--out", "{tmp}/x"), ("galsim",), "simulate,report"),
        (("detect", __file__, "--out", "{tmp}/x.csv", "--picture", "{tmp}/x.png"), ("matplotlib",), "report"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(tmp_path, arguments, modules, extra):
    # In a process of its own: what this one has imported stays imported.
    blocked = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))"
    command = [argument.format(tmp=tmp_path) for argument in arguments]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{blocked}; from lsst.meas.residualdetect.cli import main; main({command!r})",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.lower().splitlines() if "error" in line]
    assert any(f"this needs {name}" in line for name in modules)
    assert line.endswith(f"pip install 'lsst-meas-residualdetect[{extra}]'")


def test_the_tasks_need_no_extra():
    blocked = [name for packages in EXTRAS.values() for name in packages]
    modules = ["tasks.residual_detection", "tasks.deblend", "tasks.detect_peaks", "tasks.evaluate_run"]
    modules += ["find_missing", "butler.repository", "cli.detect", "cli.deblend", "cli.ingest"]
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    program += "\n".join(f"import lsst.meas.residualdetect.{name}" for name in modules)
    subprocess.run([sys.executable, "-c", program], check=True)
