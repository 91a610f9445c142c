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

"""Candidates of a detector, and how they become peaks of a catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .boxes import Box, box_at, grown, is_inside, nearest_pixel, overlap, pixels_within, shape_of
from .detections import GROW_SIGMA, Detections, Footprint, Parent, Peak, positions_of
from .neighbours import near_known, repeats
from .scene import Scene

__all__ = [
    "DEFAULT_MIN_DISTANCE_PIX",
    "Addition",
    "Candidate",
    "Fate",
    "Placement",
    "add_candidates",
    "ranked",
]

# Nearer to a peak, a candidate is taken for a flaw of that peak's model.
DEFAULT_MIN_DISTANCE_PIX = 1.5

# Ids that one deblend uses up for every peak, at most: the stack's takes one for
# each of two copies of a parent, for a parent alone, a part of one, and a child.
_IDS_OF_A_DEBLEND = 5


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
        Bands in which it stands out by itself.
    n_bands : `int`, optional
        Number of bands that have seen it, alone or together; see
        `n_bands_seen`. The number of ``bands`` if absent.
    """

    y: float
    x: float
    score: float
    footprint: Footprint
    bands: frozenset[str] = frozenset()
    n_bands: int | None = None

    @property
    def seen_in(self) -> int:
        """Number of bands that have seen it."""
        return len(self.bands) if self.n_bands is None else self.n_bands


class Fate(StrEnum):
    """What became of a candidate; the first that holds, in this order."""

    OUTSIDE = "outside the image"
    LEFT_ALONE = "in a parent left alone"
    BELOW_THRESHOLD = "below the threshold"
    TOO_FEW_BANDS = "stands out in too few bands"
    NEAR_PEAK = "near a known peak"
    NEAR_SURER = "near a surer candidate"
    ADDED = "added"


@dataclass(frozen=True)
class Placement:
    """What became of one candidate.

    Parameters
    ----------
    fate : `Fate`
        Whether it became a peak, and if not, why.
    peak, parent : `int`
        Ids of the peak that it became and of that peak's parent; 0 if it
        became none.
    """

    fate: Fate
    peak: int = 0
    parent: int = 0


@dataclass(frozen=True)
class Addition:
    """A catalogue with candidates added.

    Parameters
    ----------
    detections : `Detections`
        The catalogue with the new peaks.
    placements : `tuple` [`Placement`]
        What became of each candidate, in the order in which they were given.
    """

    detections: Detections
    placements: tuple[Placement, ...]


def ranked(candidates: Sequence[Candidate]) -> list[int]:
    """Indices of candidates, surest first; of equal scores in the order of
    their places and pixels, so that the order given does not matter.
    """

    def key(index: int) -> tuple[float, float, float, bytes, list[str]]:
        candidate = candidates[index]
        spans = candidate.footprint.spans.tobytes()
        return -candidate.score, candidate.y, candidate.x, spans, sorted(candidate.bands)

    return sorted(range(len(candidates)), key=key)


def _union(one: Box, other: Box) -> Box:
    return (
        slice(min(one[0].start, other[0].start), max(one[0].stop, other[0].stop)),
        slice(min(one[1].start, other[1].start), max(one[1].stop, other[1].stop)),
    )


class _Catalogue:
    """A catalogue under construction, with an image of whose pixels are whose.

    Labels are one more than a parent's place, as in `Detections.labels`.
    """

    def __init__(
        self, detections: Detections, scene: Scene, left_alone: Collection[int], iteration: int
    ) -> None:
        self.origin = scene.origin
        self.labels = detections.labels(scene.shape, scene.origin)
        self.parents = list(detections)
        self._n_old = len(self.parents)
        self.closed = {label for label, parent in enumerate(detections, start=1) if parent.id in left_alone}
        sigmas = scene.psf_sigmas_pix
        self._grow_pix = GROW_SIGMA * float(sigmas.max(where=np.isfinite(sigmas), initial=0))
        self._gained: dict[int, list[Footprint]] = {}
        # 0 says in a placement that there is none.
        self._next_peak = max([0, *(peak.id for peak in detections.peaks)]) + 1
        last = max([0, *(parent.id for parent in detections)])
        self._next_parent = last + 1 + iteration * _IDS_OF_A_DEBLEND * len(detections.peaks)

    def pixel(self, candidate: Candidate) -> tuple[int, int] | None:
        """Array indices of the pixel nearest to a candidate; none outside."""
        pixel = nearest_pixel((candidate.y, candidate.x), self.origin)
        return tuple(pixel.tolist()) if is_inside(pixel, self.labels.shape) else None

    def _mask(self, candidate: Candidate, y: int, x: int) -> tuple[npt.NDArray[np.bool_], Box]:
        """A candidate's pixels in the image, its centre among them, and
        their box in array indices.
        """
        box: Box = (slice(y, y + 1), slice(x, x + 1))
        if candidate.footprint.area:
            inside, _ = overlap(box_at(self.origin, self.labels.shape), candidate.footprint.bbox)
            box = _union(inside, box)
        corner = box[0].start + self.origin[0], box[1].start + self.origin[1]
        mask = candidate.footprint.to_mask(box_at(corner, shape_of(box)))
        mask[y - box[0].start, x - box[1].start] = True
        return mask, box

    def add(self, candidate: Candidate, pixel: tuple[int, int], iteration: int) -> Placement:
        """Make a candidate, centred on a pixel of the image, a peak."""
        mask, box = self._mask(candidate, *pixel)
        label = int(self.labels[pixel])
        if not label:
            overlapped = Counter(self.labels[box][mask].tolist())
            for other in self.closed | {0}:
                overlapped.pop(other, None)
            # Of those overlapped equally the first in the catalogue.
            label = min(overlapped, key=lambda other: (-overlapped[other], other), default=0)
        if not label:
            self.parents.append(Parent(self._next_parent, Footprint(np.zeros((0, 3), np.int32)), ()))
            self._next_parent += 1
            label = len(self.parents)
        parent = self.parents[label - 1]
        peak = Peak(self._next_peak, candidate.y, candidate.x, candidate.bands, iteration, candidate.score)
        self._next_peak += 1
        self.parents[label - 1] = replace(parent, peaks=(*parent.peaks, peak))
        self._take(label, mask & (self.labels[box] == 0), box)
        return Placement(Fate.ADDED, peak.id, parent.id)

    def _grow_founded(self) -> None:
        everywhere = box_at((0, 0), self.labels.shape)
        places = ndimage.find_objects(self.labels) if len(self.parents) > self._n_old else []
        for label in range(self._n_old + 1, len(self.parents) + 1):
            inside, _ = overlap(everywhere, grown(places[label - 1], int(np.ceil(self._grow_pix))))
            here = self.labels[inside]
            near = (here == 0) & pixels_within(here == label, self._grow_pix)
            self._take(label, near, inside)

    def _take(self, label: int, free: npt.NDArray[np.bool_], box: Box) -> None:
        """Give free pixels of a box to a parent."""
        if free.any():
            self.labels[box][free] = label
            corner = box[0].start + self.origin[0], box[1].start + self.origin[1]
            self._gained.setdefault(label, []).append(Footprint.from_mask(free, corner))

    def detections(self) -> Detections:
        """The catalogue as it is now, parents that were founded grown into
        what nobody holds, as detection grows them.
        """
        self._grow_founded()
        parents = list(self.parents)
        for label, gained in self._gained.items():
            whole = parents[label - 1].footprint.union(*gained)
            parents[label - 1] = replace(parents[label - 1], footprint=whole)
        return Detections(tuple(parents))


def add_candidates(
    detections: Detections,
    candidates: Sequence[Candidate],
    scene: Scene,
    *,
    iteration: int = 1,
    min_score: float = float("-inf"),
    min_bands: int = 0,
    min_distance_pix: float = 0.0,
    left_alone: Collection[int] = (),
) -> Addition:
    """Append candidates to a detection catalogue as peaks.

    A candidate joins the parent whose footprint holds its centre, else the
    one its mask overlaps most, else it founds a parent. Masks are clipped to
    the image and to what no other parent holds, and footprints grow by the
    rest, so footprints never overlap; that of a parent founded grows into free
    pixels as in detection, by 2.4 standard deviations of the widest PSF. Old parents and peaks keep their ids
    and order; a parent that gains nothing is returned as it is. Parents
    founded are numbered after what the deblends so far may have numbered.

    Only a candidate that may become a peak itself keeps others from it: one
    in a parent left alone, or one seen in too few bands, hides nothing.

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
    min_bands : `int`, optional
        Candidates that fewer bands have seen are dropped.
    min_distance_pix : `float`, optional
        Candidates nearer than this to a peak, old or just added, are dropped.
    left_alone : `~collections.abc.Collection` [`int`], optional
        Ids of parents that stay as they are: candidates centred on their
        footprints are dropped.

    Returns
    -------
    addition : `Addition`
        The catalogue with the new peaks, and what became of each candidate.

    Raises
    ------
    ValueError
        Raised if ``iteration`` is less than 1.
    """
    if iteration < 1:
        raise ValueError(f"iteration is {iteration}; residual detections are numbered from 1")
    catalogue = _Catalogue(detections, scene, left_alone, iteration)
    placements: dict[int, Placement] = {}
    places = positions_of(candidates)
    known = positions_of(detections.peaks)
    near_peak = near_known(places, known, min_distance_pix)
    usable = []
    for index in ranked(candidates):
        candidate = candidates[index]
        pixel = catalogue.pixel(candidate)
        if pixel is None:
            placements[index] = Placement(Fate.OUTSIDE)
        elif catalogue.labels[pixel] in catalogue.closed:
            placements[index] = Placement(Fate.LEFT_ALONE)
        elif not candidate.score >= min_score:  # nor if it is not a number
            placements[index] = Placement(Fate.BELOW_THRESHOLD)
        elif candidate.seen_in < min_bands:
            placements[index] = Placement(Fate.TOO_FEW_BANDS)
        elif near_peak[index]:
            placements[index] = Placement(Fate.NEAR_PEAK)
        else:
            usable.append((index, pixel))
    surest_first = places[[index for index, _ in usable]]
    for (index, pixel), repeated in zip(usable, repeats(surest_first, min_distance_pix), strict=True):
        if repeated:
            placements[index] = Placement(Fate.NEAR_SURER)
        else:
            placements[index] = catalogue.add(candidates[index], pixel, iteration)
    return Addition(catalogue.detections(), tuple(placements[index] for index in range(len(candidates))))
