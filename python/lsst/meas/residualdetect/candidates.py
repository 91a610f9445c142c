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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .footprint import Detections, Footprint, Parent, Peak
from .scene import Scene

__all__ = ["Candidate", "add_candidates"]


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


def _too_near(candidate: Candidate, peaks: Sequence[Peak], distance_pix: float) -> bool:
    return any(np.hypot(peak.y - candidate.y, peak.x - candidate.x) < distance_pix for peak in peaks)


def add_candidates(
    detections: Detections,
    candidates: Sequence[Candidate],
    scene: Scene,
    *,
    iteration: int = 1,
    min_distance_pix: float = 0.0,
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
    min_distance_pix : `float`, optional
        Candidates nearer than this to a peak, old or just added, are dropped.

    Returns
    -------
    detections : `Detections`
        The catalogue with the new peaks.
    """
    if iteration < 1:
        raise ValueError(f"iteration is {iteration}; residual detections are numbered from 1")
    parents = list(detections)
    labels = detections.labels(scene.shape, scene.origin)
    grown: set[int] = set()
    known = list(detections.peaks)
    next_peak = max((peak.id for peak in known), default=0) + 1
    next_parent = max((parent.id for parent in parents), default=0) + 1
    extent = (
        slice(scene.origin[0], scene.origin[0] + scene.shape[0]),
        slice(scene.origin[1], scene.origin[1] + scene.shape[1]),
    )
    for candidate in sorted(candidates, key=lambda candidate: -candidate.score):
        y, x = round(candidate.y) - scene.origin[0], round(candidate.x) - scene.origin[1]
        if not (0 <= y < scene.shape[0] and 0 <= x < scene.shape[1]):
            continue
        if _too_near(candidate, known, min_distance_pix):
            continue
        peak = Peak(next_peak, candidate.y, candidate.x, candidate.bands, iteration, candidate.score)
        next_peak += 1
        known.append(peak)

        mask = candidate.footprint.to_mask(extent)
        mask[y, x] = True
        label = int(labels[y, x])
        if not label:
            overlapped = Counter(labels[mask].tolist())
            overlapped.pop(0, None)
            label = overlapped.most_common(1)[0][0] if overlapped else 0
        if label:
            parents[label - 1] = replace(parents[label - 1], peaks=(*parents[label - 1].peaks, peak))
        else:
            parents.append(Parent(next_parent, Footprint(np.zeros((0, 3), np.int32)), (peak,)))
            next_parent += 1
            label = len(parents)
        free = mask & (labels == 0)
        if free.any():
            labels[free] = label
            grown.add(label)
    for label in grown:
        parents[label - 1] = replace(
            parents[label - 1], footprint=Footprint.from_mask(labels == label, scene.origin)
        )
    return Detections(tuple(parents))
