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


"""The HTML report: it needs nothing else, says what it must, and its pictures
and marks are where they should be.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from lsst.meas.residualdetect.plots.markers import (
    busiest_window,
    outline_path,
    patch_markers,
    window_around,
)
from lsst.meas.residualdetect.plots.pictures import (
    colour_picture,
    png_data_uri,
    residual_picture,
    rgb_weights,
    smoothed_significance,
    white_balance,
)
from lsst.meas.residualdetect.plots.svg import TEXT
from lsst.meas.residualdetect.report import ReportOptions, write_report
from lsst.meas.residualdetect.truth import (
    Evaluation,
    PatchResult,
    evaluate_patch,
    summarise,
)
from test_evaluation import every_class, make_result


class Page(HTMLParser):
    """What a browser would fetch or show of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str, css_class: str = "") -> int:
        wanted = set(css_class.split())
        return sum(
            name == tag and wanted <= set((attrs.get("class") or "").split()) for name, attrs in self.tags
        )


def report(path: Path, results: list[PatchResult], **keywords: object) -> tuple[str, Page, list[Evaluation]]:
    evaluations = [evaluate_patch(result) for result in results]
    settings = {"title": "A run", "detector": "matched_filter", "version": "0.1.0", **keywords}
    write_report(path / "report.html", results, evaluations, {"deblend": 12.5, "detect": 2.5}, **settings)
    text = (path / "report.html").read_text(encoding="utf-8")
    return text, Page(text), evaluations


def assert_self_contained(text: str, page: Page) -> None:
    assert "://" not in text
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "srcset"):
            if attrs.get(name):
                assert str(attrs[name]).startswith(("data:image/png;base64,", "#"))
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def pixels(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    picture = matplotlib.image.imread(io.BytesIO(data), format="png")
    return np.round(255 * picture[..., :3]).astype(np.uint8)


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
    # Two patches, and a close-up of every right, wrong and unrecovered one.
    n_views = 2 + summary["n_right"] + summary["n_shreds"] + summary["n_spurious"] + 2
    assert page.count("figure", "view") == n_views
    assert page.count("img") == 4 * n_views
    assert TEXT not in text
    assert text.count("<svg") - page.count("svg", "mark") - 4 * n_views - 1 == 8


def test_marks_of_a_patch() -> None:
    result = every_class(origin=(300, 700))
    evaluation = evaluate_patch(result)
    window = window_around(result.scene, 332, 732, 64)
    assert (window.top, window.left, window.height, window.width) == (300, 700, 64, 64)
    kinds = [mark.kind for mark in patch_markers(result, evaluation, window)]
    assert sorted(kinds) == sorted(
        ["truth"] * 3 + ["target"] * 3 + ["old"] * 4
        + ["new right", "new right_faint", "new shred", "new spurious"]
    )  # fmt: skip


@pytest.mark.parametrize("origin", [(0, 0), (1000, 40)])
def test_a_mark_is_where_its_source_is(origin: tuple[int, int]) -> None:
    result = make_result(
        true=[(10.0, 50.0, 3000.0)],
        old=[[(10.0, 50.0, 3000.0)]],
        new=[[]],
        boxes=[(4, 17, 44, 57)],
        origin=origin,
        bands="g",
    )
    window = window_around(result.scene, origin[0] + 20, origin[1] + 44, 40)
    picture = pixels(png_data_uri(colour_picture(window.cut(result.scene).images, np.ones(1), "g")))
    assert picture.shape[:2] == (window.height, window.width)
    row, column = np.unravel_index(picture[..., 0].argmax(), picture.shape[:2])
    for mark in patch_markers(result, evaluate_patch(result), window):
        # The middle of a pixel is half a pixel from its upper left corner.
        assert (mark.y, mark.x) == (row + 0.5, column + 0.5)


def test_outline_is_the_perimeter() -> None:
    result = make_result([], [[(14.0, 14.0, 1.0)]], [[]], [(10, 20, 12, 30)])
    window = window_around(result.scene, 32, 32, 64)
    path = outline_path(result.before, window)
    assert (path.count("h1"), path.count("v1")) == (2 * 18, 2 * 10)
    # Its lower edge is the upper side of pixel row 9, of 64 counted from the
    # top.
    assert "M12 54h1" in path
    assert outline_path(result.before, window_around(result.scene, 60, 60, 8)) == ""


def test_busiest_window_holds_the_crowd_and_stays_inside() -> None:
    result = every_class(origin=(100, 200))
    crowd = np.array([(101.0, 262.0), (103.0, 260.0), (104.0, 258.0), (150.0, 210.0)])
    window = busiest_window(result.scene, crowd, 20)
    assert window.holds(*crowd.T).tolist() == [True, True, True, False]
    assert window.cut(result.scene).shape == (20, 20)
    whole = busiest_window(result.scene, np.empty((0, 2)), 500)
    assert whole.cut(result.scene).images.shape == result.scene.images.shape


def test_report_of_a_large_patch_shows_a_window(tmp_path: Path) -> None:
    options = ReportOptions(patch_pix=40, zoom_pix=16, max_patches=1)
    results = [every_class(), replace(every_class(seed=2), name="patch 2")]
    _, page, _ = report(tmp_path, results, options=options)
    assert "shown: 40 x 40 of 64 x 64 pixels" in page.text
    assert "The first 1 of 2 patches are shown" in page.text
    sizes = [pixels(str(attrs["src"])).shape[:2] for tag, attrs in page.tags if tag == "img"]
    assert sizes[:4] == [(40, 40)] * 4
    assert set(sizes[4:]) == {(16, 16)}


def test_report_without_truth(tmp_path: Path) -> None:
    text, page, evaluations = report(tmp_path, [replace(every_class(), truth=None)])
    assert_self_contained(text, page)
    assert "Recovery" not in page.text
    assert "Purity" not in page.text
    assert page.count("g", "truth") + page.count("g", "target") == 0
    assert page.count("figure", "view") == 1 + len(evaluations[0].peaks)
    for row in evaluations[0].peaks:
        assert f"{row['x']:.1f} {row['y']:.1f} {row['score']:.3f}" in page.text


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
    assert page.count("img") == 4
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


def test_report_refuses_evaluations_of_other_patches(tmp_path: Path) -> None:
    result = every_class()
    with pytest.raises(ValueError, match="evaluations of"):
        write_report(
            tmp_path / "r.html",
            [replace(result, name="another")],
            [evaluate_patch(result)],
            {},
            title="",
            detector="",
            version="",
        )


@pytest.mark.parametrize(
    ("bands", "red", "green", "blue"),
    [
        ("ugrizy", "z", "i", "g"),
        ("grizy", "z", "i", "g"),
        ("irg", "i", "r", "g"),
        ("iz", "z", "iz", "i"),
        ("r", "r", "r", "r"),
        (("F106", "F129", "F158"), ("F158",), ("F129",), ("F106",)),
    ],
)
def test_bands_of_pictures(bands, red, green, blue) -> None:
    weights = rgb_weights(tuple(bands))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    for row, wanted in zip(weights, (red, green, blue), strict=True):
        assert {tuple(bands)[index] for index in np.flatnonzero(row)} == set(wanted)


def test_colours_of_pictures() -> None:
    images = np.zeros((3, 1, 3), np.float32)
    images[:, 0, 0] = 5, 10, 40
    images[:, 0, 1] = 40, 10, 5
    picture = colour_picture(images, np.ones(3, np.float32), "gri").astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 1] > picture[0, 0, 2]
    assert picture[0, 1, 2] > picture[0, 1, 1] > picture[0, 1, 0]
    assert picture[0, 2].tolist() == [0, 0, 0]
    residual = residual_picture(np.array([[[0, 9, -9]], [[0, 0, 0]], [[0, -9, 9]]]), "gri", 6.0)
    assert residual[0].tolist() == [[128, 128, 128], [0, 128, 255], [255, 128, 0]]


def test_typical_source_is_white() -> None:
    result = make_result([(32.0, 32.0, 5000.0)], [], [], [])
    gains = white_balance(result.scene)
    centre = result.scene.images[:, 32, 32] * gains
    np.testing.assert_allclose(centre, centre.mean(), rtol=0.05)
    assert gains.mean() == pytest.approx(1.0, rel=1e-5)


def test_smoothed_residuals_of_noise_have_unit_scatter() -> None:
    scene = make_result([], [], [], [], shape=(200, 200)).scene
    significance = smoothed_significance(scene, np.zeros_like(scene.images), 1.0)
    assert significance.std() == pytest.approx(1.0, rel=0.05)


def test_report_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="zoom_pix"):
        ReportOptions(zoom_pix=0)
