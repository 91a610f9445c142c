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

"""Links, commands and code of the documentation are right."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from lsst.meas.residualdetect.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "doc").rglob("*.md")))
FENCE = re.compile(r"^ *```(?:\{code-cell\} )?(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    residualdetect .*\n)+", re.MULTILINE)
LINK = re.compile(r"(?<!\`)\[[^]`]*\]\(([^)\s]+)\)")
# What stands for something of the reader's.
ENVIRONMENT = ("$DRP_PIPE_DIR", "mine.yaml")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def commands(page: Path, program: str) -> list[list[str]]:
    """Command lines of a program, as a shell divides them."""
    text = page.read_text()
    found = []
    for block in (*blocks(page, "sh", "console"), *INDENTED.findall(text)):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith(f"{program} "):
                found.append(shlex.split(line, comments=True))
    return found


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(other), f"{page.name}: {target}"


@pages
def test_python_is_python(page):
    for text in blocks(page, "python", "ipython3"):
        lines = [line for line in text.splitlines() if not line.startswith(("%", ":tags:"))]
        compile("\n".join(lines), page.name, "exec")


@pages
def test_yaml_is_yaml(page):
    for text in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict)


@pages
def test_commands_have_the_options_that_are_told(page):
    for words in commands(page, "residualdetect"):
        if words[1] == "COMMAND":
            continue
        command = main.get_command(None, words[1])
        assert command is not None, f"{page.name}: no command {words[1]}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, f"{page.name}: {words[1]} {word}"


@pages
def test_make_has_the_targets_that_are_told(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page, "make"):
        assert {word for word in words[1:] if "=" not in word} <= targets


@pages
def test_pipelines_have_the_subsets_tasks_and_fields_that_are_told(page):
    for words in (*commands(page, "pipetask"), *commands(page, "bps")):
        place, tasks = words.index("-p") + 1 if "-p" in words else 0, {}
        given = words[place].replace("$MEAS_RESIDUALDETECT_DIR/", "") if place else ""
        if place and not given.startswith(ENVIRONMENT) and given != "FILE#SUBSET":
            path, _, subset = given.partition("#")
            pipeline = yaml.safe_load((ROOT / path).read_text())
            tasks = pipeline["tasks"]
            assert not subset or subset in {*pipeline.get("subsets", {}), *tasks}, f"{page.name}: {given}"
        for option, value in pairwise(words):
            if option != "-c" or value.startswith("parameters:"):
                continue
            label, _, field = value.partition("=")[0].partition(":")
            if label in tasks or label in ("residualDetection", "detectPeaks"):
                assert _has(label, field.split(".")), f"{page.name}: {value}"


def _has(label: str, names: list[str]) -> bool:
    module, _, name = _classes()[label].rpartition(".")
    config = getattr(import_module(module), name).ConfigClass()
    for part in names:
        if not hasattr(config, part):
            return False
        config = getattr(config, part)
    return True


def _classes() -> dict[str, str]:
    tasks = yaml.safe_load((ROOT / "pipelines" / "embedded.yaml").read_text())["tasks"]
    return {label: task if isinstance(task, str) else task["class"] for label, task in tasks.items()}


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_no_page_is_left_out_of_the_contents():
    contents = (ROOT / "doc" / "index.rst").read_text()
    for page in (ROOT / "doc").rglob("*.md"):
        name = str(page.relative_to(ROOT / "doc").with_suffix(""))
        if not name.startswith(("changes/", "_")):
            assert re.search(rf"^   {name}$", contents, re.MULTILINE), f"{name} is in no toctree of index.rst"


def test_a_command_is_found_where_there_is_one():
    """The search itself: a page without a hit would pass all of the above."""
    assert len(commands(ROOT / "doc" / "start.md", "residualdetect")) >= 5
    assert len(commands(ROOT / "doc" / "judging.md", "residualdetect")) >= 3
    assert commands(ROOT / "doc" / "bps.md", "bps") and commands(ROOT / "README.md", "pipetask")
