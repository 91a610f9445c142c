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

"""From a detector's candidates to new peaks and grown footprints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from .detections import Detections, Footprint, Parent, Peak
from .scene import Scene

__all__ = ["DEFAULT_MIN_DISTANCE_PIX", "Candidate", "add_candidates"]

# Nearer to a peak, a candidate is taken for a flaw of that peak's model.
DEFAULT_MIN_DISTANCE_PIX = 1.5

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Candidate:
    """A source that a detector thinks the deblender was not told of.

    Parameters
    ----------
    y, x : `float`
        Centre in patch coordinates.
    score : `float`
        The detector's confidence; larger is surer.
    footprint : `Footprint`
        Pixels where the source stands out; holds the centre.
    bands : `frozenset` [`str`]
        Bands in which it stands out.
    """

    y: float
    x: float
    score: float
    footprint: Footprint
    bands: frozenset[str] = frozenset()


def _apart(candidates: Sequence[Candidate], peaks: Sequence[Peak], distance_pix: float) -> list[Candidate]:
    """Candidates, surest first, without those near a peak or a surer one."""
    ranked = sorted(candidates, key=lambda candidate: -candidate.score)
    if not ranked or distance_pix <= 0:
        return ranked
    places = np.array([(candidate.y, candidate.x) for candidate in ranked])
    kept = np.ones(len(ranked), dtype=bool)
    if peaks:
        known = cKDTree([(peak.y, peak.x) for peak in peaks])
        kept = known.query(places)[0] >= distance_pix
    neighbours = cKDTree(places).query_ball_point(places, distance_pix)
    for place, near in enumerate(neighbours):
        if kept[place]:
            less_sure = [other for other in near if other > place]
            kept[less_sure] &= np.hypot(*(places[less_sure] - places[place]).T) >= distance_pix
    return [candidate for candidate, keep in zip(ranked, kept, strict=True) if keep]


def _is_inside(candidate: Candidate, scene: Scene) -> bool:
    y, x = round(candidate.y) - scene.origin[0], round(candidate.x) - scene.origin[1]
    return 0 <= y < scene.shape[0] and 0 <= x < scene.shape[1]


def _union(one: Box, other: Box) -> Box:
    return (
        slice(min(one[0].start, other[0].start), max(one[0].stop, other[0].stop)),
        slice(min(one[1].start, other[1].start), max(one[1].stop, other[1].stop)),
    )


def _moved(box: Box, by: tuple[int, int]) -> Box:
    return (
        slice(box[0].start + by[0], box[0].stop + by[0]),
        slice(box[1].start + by[1], box[1].stop + by[1]),
    )


def _box_inside(footprint: Footprint, centre: tuple[int, int], scene: Scene) -> Box:
    """The part of a footprint's box that lies in the image, grown to hold a
    pixel of it; in array indices.
    """
    pixel = (slice(centre[0], centre[0] + 1), slice(centre[1], centre[1] + 1))
    if not footprint.area:
        return pixel
    rows, columns = _moved(footprint.bbox, (-scene.origin[0], -scene.origin[1]))
    inside = (
        slice(max(rows.start, 0), min(rows.stop, scene.shape[0])),
        slice(max(columns.start, 0), min(columns.stop, scene.shape[1])),
    )
    return _union(inside, pixel)


def add_candidates(
    detections: Detections,
    candidates: Sequence[Candidate],
    scene: Scene,
    *,
    iteration: int = 1,
    min_score: float = float("-inf"),
    min_distance_pix: float = 0.0,
    left_alone: Collection[int] = (),
) -> Detections:
    """Append candidates to a detection catalogue as peaks.

    A candidate joins the parent whose footprint holds its centre, else the
    one its mask overlaps most, else it founds a parent. Masks are clipped to
    the image and to what no other parent holds, and footprints grow by the
    rest, so footprints never overlap. Old parents and peaks keep their ids
    and order; a parent that gains nothing is returned as it is.

    Parameters
    ----------
    detections : `Detections`
        The catalogue so far.
    candidates : `~collections.abc.Sequence` [`Candidate`]
        What the detector found, in any order; surer ones are added first.
    scene : `Scene`
        Gives the extent of the patch.
    iteration : `int`, optional
        Number written into the new peaks, at least 1.
    min_score : `float`, optional
        Candidates of a lower score are dropped.
    min_distance_pix : `float`, optional
        Candidates nearer than this to a peak, old or just added, are dropped.
    left_alone : `~collections.abc.Collection` [`int`], optional
        Ids of parents that stay as they are: candidates centred on their
        footprints are dropped.

    Returns
    -------
    detections : `Detections`
        The catalogue with the new peaks.
    """
    if iteration < 1:
        raise ValueError(f"iteration is {iteration}; residual detections are numbered from 1")
    parents = list(detections)
    labels = detections.labels(scene.shape, scene.origin)
    grown: dict[int, tuple[slice, slice]] = {}
    next_peak = max((peak.id for peak in detections.peaks), default=0) + 1
    next_parent = max((parent.id for parent in parents), default=0) + 1
    usable = [c for c in candidates if c.score >= min_score and _is_inside(c, scene)]
    closed = {label for label, parent in enumerate(parents, start=1) if parent.id in left_alone}
    for candidate in _apart(usable, detections.peaks, min_distance_pix):
        y, x = round(candidate.y) - scene.origin[0], round(candidate.x) - scene.origin[1]
        label = int(labels[y, x])
        if label in closed:
            continue
        peak = Peak(next_peak, candidate.y, candidate.x, candidate.bands, iteration, candidate.score)
        next_peak += 1

        box = _box_inside(candidate.footprint, (y, x), scene)
        mask = candidate.footprint.to_mask(_moved(box, scene.origin))
        mask[y - box[0].start, x - box[1].start] = True
        if not label:
            overlapped = Counter(labels[box][mask].tolist())
            for other in closed.intersection(overlapped) | {0}:
                overlapped.pop(other, None)
            label = overlapped.most_common(1)[0][0] if overlapped else 0
        if label:
            parents[label - 1] = replace(parents[label - 1], peaks=(*parents[label - 1].peaks, peak))
        else:
            parents.append(Parent(next_parent, Footprint(np.zeros((0, 3), np.int32)), (peak,)))
            next_parent += 1
            label = len(parents)
        free = mask & (labels[box] == 0)
        if free.any():
            labels[box][free] = label
            grown[label] = _union(grown.get(label, box), box)
    for label, box in grown.items():
        old = parents[label - 1].footprint
        if old.area:
            rows, columns = _union(_moved(box, scene.origin), old.bbox)
        else:
            rows, columns = _moved(box, scene.origin)
        mask = old.to_mask((rows, columns))
        top, left = rows.start - scene.origin[0], columns.start - scene.origin[1]
        mask[box[0].start - top : box[0].stop - top, box[1].start - left : box[1].stop - left] |= (
            labels[box] == label
        )
        parents[label - 1] = replace(
            parents[label - 1], footprint=Footprint.from_mask(mask, (rows.start, columns.start))
        )
    return Detections(tuple(parents))
