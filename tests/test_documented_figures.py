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

"""The numbers of the documentation are those of doc/figures.json."""

from __future__ import annotations

import importlib.util
import json
import re
from copy import deepcopy
from pathlib import Path

import pytest

from lsst.meas.residualdetect.experiments.comparison import compare
from lsst.meas.residualdetect.experiments.comparison_options import ComparisonOptions
from lsst.meas.residualdetect.experiments.peers import DEBLENDINGS
from lsst.meas.residualdetect.experiments.skies import SimulatedSky
from lsst.meas.residualdetect.network.package import DEFAULT_MODEL
from lsst.meas.residualdetect.truth.summary import strict_json

ROOT = Path(__file__).parents[1]

pytest.importorskip("jinja2", reason="needs jinja2")


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_text_and_file_agree(results):
    figures = results.read_figures()
    assert figures, "doc/figures.json is missing: make results"
    for path in results.DOCUMENTS:
        text = path.read_text()
        assert results.filled(text, figures) == text, f"{path.name}: python benchmarks/results.py --fill"


def test_every_block_has_a_template_and_every_template_a_block(results):
    named = {name for path in results.DOCUMENTS for _, name, _ in results.BLOCK.findall(path.read_text())}
    assert named == {path.name.removesuffix(".md.j2") for path in results.TEMPLATES.glob("*.md.j2")}


def test_a_number_that_changes_changes_the_text(results):
    figures = results.read_figures()
    text = (ROOT / "doc" / "costs.md").read_text()
    changed = deepcopy(figures)
    changed["costs"]["results"]["steps"]["deblend"]["seconds"] += 1000
    assert results.filled(text, changed) != text
    without = {name: part for name, part in figures.items() if name != "costs"}
    assert results.filled(text, without) == text


def test_what_evaluate_writes_can_be_told(results, tmp_path):
    """Every template of a comparison, from a run of each kind."""
    detectors = ("matched_filter", "onnx", "oracle")
    sky = SimulatedSky("dense", n_scenes=1, seed=3, size=100)
    entries = compare(tmp_path, ComparisonOptions((sky,), detectors, (DEFAULT_MODEL,)), jobs=1)
    written = strict_json({"entries": [entry.figures for entry in entries]})
    (tmp_path / "results.json").write_text(written)
    run = {"command": "evaluate", "commit": "abc", "date": "today", "cores": 1, "seconds": 1}
    run["results"] = results._short(results._of_evaluate(tmp_path))
    figures = dict.fromkeys(("comparison", "skies", "worse"), run)
    for name in figures:
        empty = f"<!-- figures: {name} -->\n\n<!-- end of figures -->"
        text = results.filled(empty, figures)
        (one,) = [entry for entry in entries if entry.detector == "onnx"]
        assert f"{one.figures['average_precision']:.2f}" in text
        assert "`evaluate` (today, commit abc, 1 minute on 1 cores)" in text


def test_commands_are_those_that_make_the_figures(results, tmp_path):
    parts = results.sections(30, 6, tmp_path / "blends")
    for name, part in results.read_figures().items():
        command, _ = parts[name]
        # But for the number of scenes, and peers that were not installed, which is stated.
        known = [word for word in command if not word.isdigit() and "/" not in word]
        known = [word for word in known if word not in DEBLENDINGS]
        assert [word for word in known if word not in part["command"].split()] == []


def test_no_place_of_this_machine_is_written(results):
    assert re.search(r'"[^"]*(/home/|/tmp/|/work/|/root/)', json.dumps(results.read_figures())) is None
