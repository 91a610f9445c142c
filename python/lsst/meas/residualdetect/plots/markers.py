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


"""Windows on a patch and the marks drawn over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..boxes import Box, box_at, grown, nearest_pixel, overlap, shape_of
from ..detections import Detections, positions_of
from ..scene import Scene
from ..truth.evaluation import Evaluation, PatchResult, PeakClass, TruthClass

__all__ = [
    "Marker",
    "Window",
    "busiest_window",
    "class_label",
    "outline_path",
    "patch_markers",
    "window_around",
]

Values = npt.NDArray[np.float64]


def class_label(name: str) -> str:
    """Name of a class as people write it."""
    if name == PeakClass.UNLABELLED:
        return "new peak"
    return str(name).replace("_", " ").replace("recognized", "recognised")


@dataclass(frozen=True)
class Window:
    """A rectangle of a scene's pixels.

    Parameters
    ----------
    top, left : `int`
        Patch coordinates (y, x) of its first pixel.
    height, width : `int`
        Size in pixels.
    """

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(cls, box: Box, margin_pix: int, scene: Scene) -> Window:
        """A box in patch coordinates with a margin, as far as it is in a scene."""
        seen, _ = overlap(box_at(scene.origin, scene.shape), grown(box, margin_pix))
        return cls(scene.origin[0] + seen[0].start, scene.origin[1] + seen[1].start, *shape_of(seen))

    def box(self, scene: Scene) -> Box:
        """Its rows and columns in the arrays of a scene that holds it."""
        corner = self.top - scene.origin[0], self.left - scene.origin[1]
        return box_at(corner, (self.height, self.width))

    def cut(self, scene: Scene) -> Scene:
        """The window's part of a scene that holds it."""
        pixels = (slice(None), *self.box(scene))
        return replace(
            scene,
            images=scene.images[pixels],
            variance=scene.variance[pixels],
            mask=scene.mask[pixels],
            origin=(self.top, self.left),
        )

    def holds(self, y: Values, x: Values) -> npt.NDArray[np.bool_]:
        """Whether each position is in it: (n,), bool."""
        return (np.abs(y - self.top - (self.height - 1) / 2) <= self.height / 2) & (
            np.abs(x - self.left - (self.width - 1) / 2) <= self.width / 2
        )

    def to_picture(self, y: float, x: float) -> tuple[float, float]:
        """Column and row, from the upper left corner, in a picture with its
        first row at the bottom.
        """
        return x - self.left + 0.5, self.height - (y - self.top + 0.5)


@dataclass(frozen=True)
class Marker:
    """One mark on a picture.

    Parameters
    ----------
    kind : `str`
        ``old``, ``truth``, ``target``, ``new`` and the class of a new peak,
        or ``subject`` for what a close-up is of, as in the style sheet.
    x, y : `float`
        Place in the picture, from its upper left corner, in pixels.
    text : `str`
        What a pointer resting on it shows.
    """

    kind: str
    x: float
    y: float
    text: str


def window_around(scene: Scene, y: float, x: float, size: int) -> Window:
    """A square of ``size`` pixels about (y, x), moved inside the scene and
    cut to it if the scene is smaller.
    """
    (height, width), origin = scene.shape, scene.origin
    rows, columns = min(size, height), min(size, width)
    row, column = nearest_pixel((y, x))
    top = int(np.clip(row - size // 2, origin[0], origin[0] + height - rows))
    left = int(np.clip(column - size // 2, origin[1], origin[1] + width - columns))
    return Window(top, left, rows, columns)


def busiest_window(scene: Scene, positions: npt.NDArray[np.float64], size: int) -> Window:
    """The square of ``size`` pixels, about one of the positions (n, 2), that
    holds most of them; about the middle if there are none.
    """
    (height, width), origin = scene.shape, scene.origin
    windows = [window_around(scene, y, x, size) for y, x in positions]
    if not windows or size >= max(height, width):
        return window_around(scene, origin[0] + height / 2, origin[1] + width / 2, size)
    held = [int(window.holds(*positions.T).sum()) for window in windows]
    return windows[int(np.argmax(held))]


def outline_path(detections: Detections, window: Window) -> str:
    """Outlines of all footprints in a window, along pixel edges, as the data
    of an SVG path in picture coordinates.
    """
    bottom, right = window.top + window.height, window.left + window.width
    near = tuple(
        parent
        for parent in detections
        if parent.footprint.bbox[0].start < bottom
        and parent.footprint.bbox[0].stop > window.top
        and parent.footprint.bbox[1].start < right
        and parent.footprint.bbox[1].stop > window.left
    )
    shape = (window.height, window.width)
    labels = Detections(near).labels(shape, (window.top, window.left))[::-1]
    parts = []
    for y, x in zip(*np.nonzero(labels[1:] != labels[:-1]), strict=True):
        parts.append(f"M{x} {y + 1}h1")
    for y, x in zip(*np.nonzero(labels[:, 1:] != labels[:, :-1]), strict=True):
        parts.append(f"M{x + 1} {y}v1")
    return "".join(parts)


def patch_markers(result: PatchResult, evaluation: Evaluation, window: Window) -> Sequence[Marker]:
    """Marks of true sources, old and new peaks in a window.

    Sources too faint to count are left out, and so are those outside the
    window.
    """
    places: list[tuple[str, float, float, str]] = []
    if evaluation.truth is not None:
        truth = evaluation.truth
        inside = window.holds(truth["y"].value, truth["x"].value)
        for row in truth[inside & (truth["class"] != TruthClass.FAINT)]:
            kind = "truth" if row["class"] == TruthClass.MATCHED else "target"
            text = f"true source {row['id']}: {class_label(row['class'])}, SNR {row['snr']:.0f}"
            places.append((kind, row["y"], row["x"], text))
    old = result.before.peaks
    for index in np.flatnonzero(window.holds(*positions_of(old).T)):
        places.append(("old", old[index].y, old[index].x, f"peak {old[index].id}"))
    new = evaluation.peaks
    for row in new[window.holds(new["y"].value, new["x"].value)]:
        name = "" if row["class"] == PeakClass.UNLABELLED else f": {class_label(row['class'])}"
        text = f"new peak {row['id']}{name}, score {row['score']:.2f}"
        places.append((f"new {row['class']}", row["y"], row["x"], text))
    return [Marker(kind, *window.to_picture(y, x), text) for kind, y, x, text in places]
