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

"""The commands of doc/files.md give what the page shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table

from conftest import invoke

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "doc" / "files.md").read_text()
BLOCKS = [text for text in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) if "cd try/" in text]
KINDS = [re.findall(r"cd try/(\w+)", block)[0] for block in BLOCKS]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    make = [sys.executable, "-W", "ignore", str(ROOT / "doc" / "make_survey_files.py"), str(folder / "try")]
    subprocess.run(make, check=True)
    return folder


def steps(block):
    """Each command with what the page shows that it prints."""
    for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:[^\"\n\\]|\\\n|\"[^\"]*\")*", text)[0]
        yield command, text[len(command) :].strip("\n")


def run(command):
    """What a command prints, in the current folder."""
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    if program == "residualdetect":
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        return result.output
    words = [sys.executable, *arguments] if program == "python" else [program, *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def check_same(printed, shown):
    """The same words, and numbers to what another machine's arithmetic does."""
    assert len(printed.split()) == len(shown.split()), printed
    for seen, expected in zip(printed.split(), shown.split(), strict=True):
        if re.fullmatch(r"-?\d+\.\d+", expected):
            assert float(seen) == pytest.approx(float(expected), rel=0.02), printed
        elif not expected.startswith("point("):
            assert seen == expected, printed


def test_all_four_kinds_are_shown():
    assert KINDS == ["plain", "hsc", "legacy", "cells"]


@pytest.mark.parametrize(("kind", "block"), list(zip(KINDS, BLOCKS, strict=True)), ids=KINDS)
def test_commands_print_what_is_shown_and_find_what_is_there(files, kind, block, monkeypatch):
    if kind == "cells" and not (find_spec("lsst") and find_spec("lsst.images")):
        pytest.skip("needs the package lsst-images (Python 3.12 or later)")
    if kind == "plain":
        pytest.importorskip("regions", reason="the package regions comes with the extra 'files'")
    monkeypatch.chdir(files / "try" / kind)
    for command, shown in steps(block):
        if not command.startswith(("cd ", "pip ", "python doc/")):
            check_same(run(command), shown)
    new, truth = Table.read("new.ecsv"), Table.read("truth.ecsv")
    hidden = truth[[name.startswith("H") for name in truth["name"]]]
    assert len(new) == len(hidden) == 8 and new["flux_r"].unit == u.nJy
    found, there = (SkyCoord(table["ra"], table["dec"], unit="deg") for table in (new, hidden))
    index, distance, _ = there.match_to_catalog_sky(found)
    assert len(set(index)) == 8 and distance.max() < 0.02 * u.arcsec, distance.arcsec
    assert abs(new["flux_r"][index] / hidden["flux"] - 1).max() < 0.1


def test_the_python_on_the_page_runs(files, monkeypatch):
    monkeypatch.chdir(files / "try" / "plain")
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(code, names)
    assert (names["missing"].table["peak"] > 0).sum() == 8
    assert "8 new of" in names["missing"]._repr_html_()
