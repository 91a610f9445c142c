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


"""The HTML report: it needs nothing else, and says what it must."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lsst.meas.residualdetect.plots.svg import TEXT
from lsst.meas.residualdetect.report import ReportOptions, write_report
from lsst.meas.residualdetect.truth import (
    EvaluatedPatch,
    Evaluation,
    PatchResult,
    evaluate_patch,
    summarise,
)
from test_evaluation import every_class, make_result
from test_pictures import pixels


class Page(HTMLParser):
    """What a browser would fetch or show of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.json: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attrs = self.tags[-1] if self.tags else ("", {})
        if tag != "script":
            self.words.append(data)
        elif attrs.get("type") == "application/json" and data.strip():
            self.json.append((str(attrs["id"]), data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str, css_class: str = "") -> int:
        wanted = set(css_class.split())
        return sum(
            name == tag and wanted <= set((attrs.get("class") or "").split()) for name, attrs in self.tags
        )


def patches_of(results: list[PatchResult]) -> list[EvaluatedPatch]:
    """Patches that may be read once, as those of a run need not be twice."""
    return [EvaluatedPatch(evaluate_patch(result), None, iter([result]).__next__) for result in results]


def report(path: Path, results: list[PatchResult], **keywords: object) -> tuple[str, Page, list[Evaluation]]:
    patches = patches_of(results)
    settings = {"title": "A run", "detector": "matched_filter", "version": "0.1.0", **keywords}
    write_report(path / "report.html", patches, {"deblend": 12.5, "detect": 2.5}, **settings)
    text = (path / "report.html").read_text(encoding="utf-8")
    return text, Page(text), [patch.evaluation for patch in patches]


def listed(page: Page) -> list[dict[str, Any]]:
    """Facts of the candidates, with their pictures."""
    blocks = dict(page.json)
    facts = json.loads(blocks.pop("facts"))
    rows = [dict(zip(facts["names"], row, strict=True)) for row in facts["rows"]]
    assert list(blocks) == [f"pictures-{rank}" for rank in range(len(rows))]
    return [{**row, **json.loads(text)} for row, text in zip(rows, blocks.values(), strict=True)]


def assert_self_contained(text: str, page: Page) -> None:
    assert "://" not in text
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert [attrs for tag, attrs in page.tags if tag == "script" and "type" not in attrs] == [{}]
    for _, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "srcset"):
            if attrs.get(name):
                assert str(attrs[name]).startswith(("data:image/png;base64,", "#"))
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_report_with_truth(tmp_path: Path) -> None:
    text, page, evaluations = report(
        tmp_path,
        [every_class(bands="ugrizy"), replace(every_class(), name="patch 2")],
        command="run <it> --now",
    )
    summary = summarise(evaluations)
    assert_self_contained(text, page)
    for words in (
        "A run",
        "matched_filter",
        f"{summary['n_recovered']} of {summary['n_unrecognized']} unrecognised sources",
        "partially deblended",
        "within 2.5 pixels",
        "run <it> --now",
        "patch 2",
        "12.5",
        "83 %",
        "prefers-color-scheme: dark",
    ):
        assert words in page.text
    # Two patches and two sources not recovered; the viewer has four pictures.
    assert page.count("figure", "view") == 4
    assert page.count("img") == 4 * 4 + 4
    assert all(attrs.get("alt") or attrs.get("data-title") for tag, attrs in page.tags if tag == "img")
    assert TEXT not in text
    assert text.count("<svg") - page.count("svg", "mark") - 4 * 4 - 4 - 1 == 8


def test_report_of_a_large_patch_shows_a_window(tmp_path: Path) -> None:
    options = ReportOptions(patch_pix=40, zoom_pix=16, max_patches=1)
    results = [every_class(), replace(every_class(seed=2), name="patch 2")]
    _, page, _ = report(tmp_path, results, options=options)
    assert "shown: 40 x 40 of 64 x 64 pixels" in page.text
    assert "The first 1 of 2 patches are shown" in page.text
    sizes = [
        pixels(str(attrs["src"])).shape[:2] for tag, attrs in page.tags if tag == "img" and attrs.get("src")
    ]
    assert sizes[:4] == [(40, 40)] * 4
    assert set(sizes[4:]) == {(16, 16)}


def test_report_without_truth(tmp_path: Path) -> None:
    text, page, evaluations = report(tmp_path, [replace(every_class(), truth=None)])
    assert_self_contained(text, page)
    assert "Recovery" not in page.text
    assert "Purity" not in page.text
    assert page.count("g", "truth") + page.count("g", "target") == 0
    assert page.count("figure", "view") == 1
    rows = {row["peak"]: row for row in listed(page)}
    for peak in evaluations[0].peaks:
        row = rows.pop(peak["id"])
        assert (row["x"], row["y"], row["score"]) == (peak["x"], peak["y"], peak["score"])
        assert row["class"] == ""
    assert not rows


def test_report_with_nothing_new(tmp_path: Path) -> None:
    result = every_class()
    result = replace(result, after=result.before, model_after=result.model_before)
    text, page, _ = report(tmp_path, [result])
    assert_self_contained(text, page)
    assert "0 of 2 unrecognised sources" in page.text
    assert "nan" not in page.text.lower()


@pytest.mark.parametrize("with_truth", [True, False])
def test_report_of_an_empty_patch(tmp_path: Path, with_truth: bool) -> None:
    result = make_result([], [], [], [], bands="gr")
    text, page, _ = report(tmp_path, [result if with_truth else replace(result, truth=None)])
    assert_self_contained(text, page)
    assert page.count("img") == 8
    assert "There are no new peaks" in page.text
    assert "nan" not in page.text.lower()


def test_report_of_no_patches(tmp_path: Path) -> None:
    _, page, _ = report(tmp_path, [])
    assert "There are no patches." in page.text


def test_report_of_faint_finds_only(tmp_path: Path) -> None:
    # Neither right nor wrong: purity has nothing to divide by, the score
    # histogram a single value.
    result = make_result(
        true=[(20.0, 20.0, 900.0), (20.0, 26.0, 200.0), (40.0, 40.0, 30.0)],
        old=[[(20.0, 20.0, 900.0)], [(46.0, 46.0, 9.0)]],
        new=[[], [(40.0, 40.0, 20.0, 0.5)]],
        boxes=[(10, 30, 10, 34), (36, 50, 36, 50)],
    )
    _, page, evaluations = report(tmp_path, [result])
    assert list(evaluations[0].peaks["class"]) == ["right_faint"]
    assert "Purity – right 0" in page.text  # noqa: RUF001


def test_report_is_the_same_every_time(tmp_path: Path) -> None:
    assert report(tmp_path, [every_class()])[0] == report(tmp_path, [every_class()])[0]


def test_report_escapes_what_it_is_given(tmp_path: Path) -> None:
    text, page, _ = report(tmp_path, [every_class()], title="<script>alert(1)</script>")
    assert_self_contained(text, page)


def test_report_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="zoom_pix"):
        ReportOptions(zoom_pix=0)
