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

"""One list of peaks from those of all bands, as the stack's
MergeDetectionsTask makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ..detections import Peak, positions_of
from ..scene import Array

__all__ = ["BandPeaks", "CullPeaksOptions", "cull_peaks", "merge_peaks"]


@dataclass(frozen=True)
class CullPeaksOptions:
    """Which peaks of a parent with many are dropped; the defaults are those of
    the stack's MergeDetectionsTask (``cullPeaks``).

    A peak is kept if it was seen in enough bands, or is among the brightest of
    its parent.

    Parameters
    ----------
    n_bands_sufficient : `int`
        Peaks seen in this many bands are kept.
    rank_sufficient : `int`
        This many of the brightest peaks of each parent are kept.
    rank_considered : `int`
        Peaks of lower rank are kept if ``rank_normalized_considered`` allows.
    rank_normalized_considered : `float`
        Peaks whose rank is below this part of the parent's peaks are kept if
        ``rank_considered`` allows.
    """

    n_bands_sufficient: int = 2
    rank_sufficient: int = 20
    rank_considered: int = 30
    rank_normalized_considered: float = 0.7

    def __post_init__(self) -> None:
        for name in ("n_bands_sufficient", "rank_sufficient", "rank_considered"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.rank_normalized_considered >= 0:
            raise ValueError(
                f"rank_normalized_considered is {self.rank_normalized_considered}; it must not be negative"
            )

    def keeps(self, n_bands: int, rank: int, n_peaks: int) -> bool:
        """Whether a peak seen in some bands, with so many brighter ones among
        its parent's, is kept.
        """
        return (
            rank < self.rank_sufficient
            or n_bands >= self.n_bands_sufficient
            or (rank < self.rank_considered and rank < self.rank_normalized_considered * n_peaks)
        )


@dataclass(frozen=True, eq=False)
class BandPeaks:
    """Peaks of one band, brightest first.

    Parameters
    ----------
    band : `str`
        The band.
    positions : `numpy.ndarray`, (n, 2), int
        Array indices (y, x).
    heights : `numpy.ndarray`, (n,), float
        In image units, above what was taken for background.
    """

    band: str
    positions: npt.NDArray[np.intp]
    heights: Array


def merge_peaks(
    found: Sequence[BandPeaks], min_new_pix: float, max_same_pix: float
) -> tuple[list[Peak], list[float]]:
    """Peaks of all bands; positions and heights are the earlier band's.

    Parameters
    ----------
    found : `~collections.abc.Sequence` [`BandPeaks`]
        Each band's, in the order of priority.
    min_new_pix, max_same_pix : `float`
        A peak farther than the one from all before it is new; one nearer than
        the other to one of them is the same; one in between is dropped.

    Returns
    -------
    peaks : `list` [`Peak`]
        In array coordinates, with the bands that saw them.
    heights : `list` [`float`]
        How high each is.
    """
    merged: list[Peak] = []
    heights: list[float] = []
    for peaks in found:
        # Peaks of one band are never merged with each other.
        n_peaks = len(peaks.positions)
        distance, nearest = np.full(n_peaks, np.inf), np.zeros(n_peaks, int)
        if merged:
            distance, nearest = cKDTree(positions_of(merged)).query(peaks.positions)
        for (y, x), height, away, same in zip(
            peaks.positions.tolist(), peaks.heights.tolist(), distance, nearest, strict=True
        ):
            if away > min_new_pix:
                merged.append(Peak(len(merged) + 1, float(y), float(x), frozenset({peaks.band})))
                heights.append(height)
            elif away < max_same_pix:
                merged[same] = replace(merged[same], bands=merged[same].bands | {peaks.band})
    return merged, heights


def cull_peaks(
    peaks: Sequence[Peak], heights: Sequence[float], labels: npt.NDArray[Any], options: CullPeaksOptions
) -> list[Peak]:
    """Peaks without the faint ones of parents with many.

    Parameters
    ----------
    peaks : `~collections.abc.Sequence` [`Peak`]
        In array coordinates, on whole pixels.
    heights : `~collections.abc.Sequence` [`float`]
        How high each is.
    labels : `numpy.ndarray`, (y, x), int
        Footprints.
    options : `CullPeaksOptions`
        Which to drop.

    Returns
    -------
    peaks : `list` [`Peak`]
        In the same order, numbered again.
    """
    families: dict[int, list[int]] = {}
    for place in np.argsort(-np.asarray(heights), kind="stable").tolist():
        peak = peaks[place]
        families.setdefault(int(labels[int(peak.y), int(peak.x)]), []).append(place)
    kept = sorted(
        place
        for family in families.values()
        for rank, place in enumerate(family)
        if options.keeps(len(peaks[place].bands), rank, len(family))
    )
    return [replace(peaks[place], id=number) for number, place in enumerate(kept, start=1)]
