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


"""Pictures of multi-band pixels, windows on them, and marks where they should
be.
"""

from __future__ import annotations

import base64
import io

import matplotlib.image
import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect.plots.close_ups import draw_close_ups, take_close_up
from lsst.meas.residualdetect.plots.markers import (
    busiest_window,
    outline_path,
    patch_markers,
    window_around,
)
from lsst.meas.residualdetect.plots.pictures import (
    colour_picture,
    jpeg_base64,
    png_data_uri,
    residual_picture,
    rgb_weights,
    smoothed_significance,
    white_balance,
)
from lsst.meas.residualdetect.truth import evaluate_patch
from test_evaluation import every_class, make_result


def pixels(uri: str) -> np.ndarray:
    """Of a PNG in a URI, or of a JPEG in base64."""
    kind, data = ("png", uri[22:]) if uri.startswith("data:image/png;base64,") else ("jpeg", uri)
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format=kind)
    return np.round(picture[..., :3] * (255 if kind == "png" else 1)).astype(np.uint8)


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


def test_a_jpeg_looks_like_its_picture() -> None:
    result = every_class()
    significance = smoothed_significance(result.scene, result.model_before.image(result.scene), 1.0)
    picture = residual_picture(significance, result.scene.bands, 8.0)
    seen = pixels(jpeg_base64(picture)).astype(int)
    # The noise is 128 / 8 = 16 levels.
    assert np.abs(seen - picture[::-1].astype(int)).mean() < 6


def test_close_ups_stand_three_in_a_row_and_mark_their_places(tmp_path) -> None:
    scene = make_scene([(230.0, 134.0, 900.0)], origin=(200, 100), rng=np.random.default_rng(1))
    known = np.array([[230.0, 134.0], [400.0, 400.0]])

    def drawn(n: int, known: np.ndarray) -> np.ndarray:
        close_up = take_close_up(scene, 0 * scene.images, np.ones(3), (226.0, 130.0), known, "here", size=20)
        assert close_up.pictures[0].shape == (20, 20, 3)
        # The source is the brightest pixel, four pixels from what is looked at.
        light = close_up.pictures[0].sum(axis=2)
        found = np.unravel_index(np.argmax(light), light.shape)
        np.testing.assert_allclose(np.subtract(found, close_up.place), (4, 4), atol=1)
        draw_close_ups([close_up] * n, tmp_path / f"{n}.png")
        return matplotlib.image.imread(tmp_path / f"{n}.png")[..., :3]

    one, four = drawn(1, known), drawn(4, known)
    assert four.shape[0] == pytest.approx(2 * one.shape[0], rel=0.01)
    assert four.shape[1] == pytest.approx(3 * one.shape[1], rel=0.01)
    # A yellow circle on each of the three pictures; a blue cross where something is known.
    yellow = np.all(np.abs(one - np.array([0xFF, 0xDD, 0x33]) / 255) < 0.05, axis=2)
    assert all(part.any() for part in np.array_split(yellow, 3, axis=1))
    blue = np.array([0x7F, 0xD0, 0xFF]) / 255
    crosses = [np.all(np.abs(picture - blue) < 0.05, axis=2).sum() for picture in (one, drawn(1, known[1:]))]
    assert crosses[0] > crosses[1]
