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

"""Footprints, peaks and parents: what detection found and where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .boxes import Box, is_inside, nearest_pixel

__all__ = [
    "GROW_SIGMA",
    "Detections",
    "Footprint",
    "Parent",
    "Peak",
    "peak_columns",
    "places_of",
    "positions_of",
]


GROW_SIGMA = 2.4
"""PSF standard deviations by which footprints grow, as in SourceDetectionTask."""


@dataclass(eq=False)
class Footprint:
    """A set of pixels, stored as horizontal spans.

    Parameters
    ----------
    spans : `numpy.ndarray`, (n, 3), int32
        Row, first column, and column after the last of each span, in patch
        coordinates; sorted, not overlapping.
    """

    spans: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        spans = np.ascontiguousarray(self.spans, dtype=np.int32)
        if spans.ndim != 2 or spans.shape[1] != 3 or (spans[:, 1] >= spans[:, 2]).any():
            raise ValueError(f"spans of shape {spans.shape} are not rows of (y, x_first, x_after)")
        self.spans = spans

    @classmethod
    def from_mask(cls, mask: npt.NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> Footprint:
        """The pixels where ``mask`` (y, x) is true; ``origin`` (y, x) is the
        position of its first pixel.
        """
        padded = np.zeros((mask.shape[0], mask.shape[1] + 2), bool)
        padded[:, 1:-1] = mask
        # Every other change ends a span.
        y, edges = np.nonzero(padded[:, 1:] != padded[:, :-1])
        y, first, after = y[::2], edges[::2], edges[1::2]
        return cls(np.stack([y + origin[0], first + origin[1], after + origin[1]], axis=1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Footprint) and np.array_equal(self.spans, other.spans)

    __hash__ = None  # type: ignore[assignment]  # compared by value, holds an array

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.spans[:, 2] - self.spans[:, 1]).sum())

    @cached_property
    def bbox(self) -> Box:
        """Half-open bounding box as (y, x) slices in patch coordinates."""
        if not len(self.spans):
            return slice(0, 0), slice(0, 0)
        y, first, after = self.spans.T
        return (
            slice(int(y.min()), int(y.max()) + 1),
            slice(int(first.min()), int(after.max())),
        )

    @property
    def middle(self) -> tuple[float, float]:
        """Patch coordinates (y, x) of the middle of the bounding box."""
        rows, columns = self.bbox
        return (rows.start + rows.stop - 1) / 2, (columns.start + columns.stop - 1) / 2

    def to_mask(self, bbox: Box | None = None) -> npt.NDArray[np.bool_]:
        """True at the footprint's pixels, over ``bbox`` (its own if absent;
        what lies outside is cut off): (y, x), bool.
        """
        rows, columns = self.bbox if bbox is None else bbox
        height, width = rows.stop - rows.start, columns.stop - columns.start
        # +1 where a span begins, -1 after its end; the running sum is the mask.
        edges = np.zeros((height, width + 1), dtype=np.int8)
        y = self.spans[:, 0] - rows.start
        inside = (y >= 0) & (y < height)
        first = np.clip(self.spans[inside, 1] - columns.start, 0, width)
        after = np.clip(self.spans[inside, 2] - columns.start, 0, width)
        np.add.at(edges, (y[inside], first), 1)
        np.add.at(edges, (y[inside], after), -1)
        return np.cumsum(edges[:, :-1], axis=1, dtype=np.int8) > 0

    def union(self, *others: Footprint) -> Footprint:
        """The pixels of this footprint and of others."""
        y, first, after = np.concatenate([self.spans, *(other.spans for other in others)]).T.astype(np.int64)
        if not len(y):
            return self
        # Rows one after the other, a pixel apart, so that spans of two never meet.
        left, width = first.min(), after.max() - first.min() + 1
        order = np.lexsort((first, y))
        begin, end = (y * width + first - left)[order], (y * width + after - left)[order]
        reach = np.maximum.accumulate(end)
        is_first = np.concatenate([[True], begin[1:] > reach[:-1]])
        is_last = np.concatenate([is_first[1:], [True]])
        rows, columns = np.divmod(begin[is_first], width)
        return Footprint(np.stack([rows, columns + left, reach[is_last] - rows * width + left], axis=1))

    def contains(self, y: float, x: float) -> bool:
        """Whether the pixel nearest to (y, x) belongs to the footprint."""
        row, column = nearest_pixel((y, x))
        rows, first, after = self.spans.T
        return bool(((rows == row) & (first <= column) & (column < after)).any())


@dataclass(frozen=True)
class Peak:
    """One source that the deblender is told of.

    Parameters
    ----------
    id : `int`
        Unique in its catalogue; kept through iterations.
    y, x : `float`
        Position in patch coordinates, pixel centres on integers.
    bands : `frozenset` [`str`]
        Bands in which it was seen (``merge_peak_<band>`` in the stack).
    iteration : `int`
        0 for a peak of the ordinary detection, k for one added by the k-th
        residual detection (``merge_peak_residual`` in the stack when > 0).
    score : `float`, optional
        Score the residual detector gave it; `None` for ordinary peaks.
    """

    id: int
    y: float
    x: float
    bands: frozenset[str] = frozenset()
    iteration: int = 0
    score: float | None = None

    @property
    def from_residual(self) -> bool:
        """Whether it was found in a residual."""
        return self.iteration > 0


class Placed(Protocol):
    """What has a position in patch coordinates: a peak, a candidate."""

    @property
    def y(self) -> float:
        """Row."""

    @property
    def x(self) -> float:
        """Column."""


def positions_of(placed: Iterable[Placed]) -> npt.NDArray[np.float64]:
    """Positions (y, x) of peaks or candidates: (n, 2), float64."""
    return np.array([(one.y, one.x) for one in placed], np.float64).reshape(-1, 2)


def places_of(table: Any) -> npt.NDArray[np.float64]:
    """Positions (y, x) in the rows of a table: (n, 2), float64."""
    return np.stack([np.asarray(table["y"]), np.asarray(table["x"])], axis=1).astype(np.float64)


def peak_columns(peaks: Sequence[Peak]) -> dict[str, Any]:
    """What a table has of peaks: ``id``, ``y``, ``x``, ``iteration`` and
    ``score`` (NaN for none), each (n,).
    """
    y, x = positions_of(peaks).T
    return {
        "id": np.array([peak.id for peak in peaks], np.int64),
        "y": y,
        "x": x,
        "iteration": np.array([peak.iteration for peak in peaks], np.int32),
        "score": np.array([peak.score for peak in peaks], np.float64),
    }


@dataclass(frozen=True)
class Parent:
    """A footprint and the peaks in it: what the deblender works on.

    Footprints of one catalogue do not overlap. New peaks come after old
    ones, which keep their order and ids.

    Parameters
    ----------
    id : `int`
        Unique in its catalogue.
    footprint : `Footprint`
        Pixels.
    peaks : `tuple` [`Peak`]
        Sources in it.
    is_sky : `bool`
        Whether it is a sky object: a place without a source, measured to
        know the background (``merge_peak_sky`` in the stack).
    """

    id: int
    footprint: Footprint
    peaks: tuple[Peak, ...]
    is_sky: bool = False


@dataclass(frozen=True)
class Detections:
    """The merged detection catalogue of a patch."""

    parents: tuple[Parent, ...]

    def __post_init__(self) -> None:
        for what, ids in (
            ("parent", [parent.id for parent in self.parents]),
            ("peak", [peak.id for peak in self.peaks]),
        ):
            if len(set(ids)) != len(ids):
                raise ValueError(f"{what} ids are not unique")

    def __len__(self) -> int:
        return len(self.parents)

    def __iter__(self) -> Iterator[Parent]:
        return iter(self.parents)

    @property
    def peaks(self) -> tuple[Peak, ...]:
        """All peaks, parent by parent."""
        return tuple(peak for parent in self.parents for peak in parent.peaks)

    @property
    def new_peaks(self) -> tuple[Peak, ...]:
        """Those of them that residual detection added."""
        return tuple(peak for peak in self.peaks if peak.from_residual)

    def without(self, peak_ids: Collection[int]) -> Detections:
        """The catalogue without some peaks, and without parents that have none left."""
        parents = (
            replace(parent, peaks=tuple(peak for peak in parent.peaks if peak.id not in peak_ids))
            for parent in self.parents
        )
        return Detections(tuple(parent for parent in parents if parent.peaks))

    def labels(self, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> npt.NDArray[np.int32]:
        """Image of 1 + the parent's place in the catalogue, 0 outside all
        footprints: (y, x), int32.
        """
        labels = np.zeros(shape, dtype=np.int32)
        for label, parent in enumerate(self.parents, start=1):
            for y, first, after in parent.footprint.spans - [origin[0], origin[1], origin[1]]:
                if 0 <= y < shape[0]:
                    labels[y, max(first, 0) : max(after, 0)] = label
        return labels

    @classmethod
    def from_labels(
        cls,
        labels: npt.NDArray[np.integer],
        peaks: Sequence[Peak],
        origin: tuple[int, int] = (0, 0),
    ) -> Detections:
        """Parents from a label image (y, x; 0 = none) and the peaks on it.

        Peaks off every footprint are left out, and so are footprints without
        a peak; parents are numbered from 1 in the order of the labels.
        """
        # Labels may be any integers; find_objects wants them small.
        names, small = np.unique(np.maximum(labels, 0), return_inverse=True)
        small = small.reshape(labels.shape) + (1 if names[0] > 0 else 0)
        by_label: dict[int, list[Peak]] = {}
        for peak in peaks:
            pixel = nearest_pixel((peak.y, peak.x), origin)
            label = int(small[tuple(pixel)]) if is_inside(pixel, labels.shape) else 0
            if label > 0:
                by_label.setdefault(label, []).append(peak)
        boxes = ndimage.find_objects(small)
        return cls(
            tuple(
                Parent(
                    number,
                    Footprint.from_mask(
                        small[boxes[label - 1]] == label,
                        (origin[0] + boxes[label - 1][0].start, origin[1] + boxes[label - 1][1].start),
                    ),
                    tuple(by_label[label]),
                )
                for number, label in enumerate(sorted(by_label), start=1)
            )
        )
