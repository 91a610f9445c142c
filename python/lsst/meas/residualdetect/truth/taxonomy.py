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


"""The taxonomy: what became of each true source and of each new peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from ..boxes import nearest_pixel
from ..detections import Detections, positions_of
from ..scene import Scene
from .evaluation import TARGETS, EvaluationOptions, PatchResult, PeakClass, TruthClass
from .matching import Floats, Integers, match_in_turn, match_peaks
from .measures import core_owner, psf_sigma_pix

__all__ = ["PeakLabels", "TruthLabels", "classify_new_peaks", "classify_truth"]

Names = npt.NDArray[np.str_]

CLASS_DTYPE = "U20"


def _distances(a: Floats, b: Floats, index: Integers) -> Floats:
    """Distance of each of ``a`` to the ``b`` of its index; NaN for -1."""
    if not len(b):
        return np.full(len(a), np.nan)
    return np.where(index >= 0, np.hypot(*(a - b[index]).T), np.nan)


@dataclass(frozen=True, eq=False)
class TruthLabels:
    """What the ordinary detection made of each true source.

    Parameters
    ----------
    name : `numpy.ndarray`, (n,), str
        `TruthClass` values.
    parent : `numpy.ndarray`, (n,), int64
        Index of the parent that holds its peak, or else its position; -1
        outside all footprints.
    peak : `numpy.ndarray`, (n,), int64
        Index of its peak, -1 for none.
    distance_pix : `numpy.ndarray`, (n,), float64
        Distance to that peak, NaN for none.
    blended : `numpy.ndarray`, (n,), bool
        Whether it is matched and its parent holds an unrecognised or
        partially deblended source.
    """

    name: Names
    parent: Integers
    peak: Integers
    distance_pix: Floats
    blended: npt.NDArray[np.bool_]

    @property
    def target(self) -> npt.NDArray[np.bool_]:
        """Unrecognised or partially deblended: what a residual detection is
        to find.
        """
        return np.isin(self.name, TARGETS)


def classify_truth(
    detections: Detections,
    scene: Scene,
    positions: Floats,
    snr: Floats,
    options: EvaluationOptions,
) -> TruthLabels:
    """Hold the ordinary detection against the truth.

    Sources from ``faint_snr`` up take part in the matching, so that a peak
    that a faint source makes is not handed to a brighter one nearby.

    Parameters
    ----------
    detections : `Detections`
        Catalogue of the ordinary detection.
    scene : `Scene`
        The patch.
    positions : `numpy.ndarray`, (n, 2)
        True positions (y, x) in patch coordinates, all on the image.
    snr : `numpy.ndarray`, (n,)
        Signal-to-noise ratios.
    options : `EvaluationOptions`
        Limits.

    Returns
    -------
    labels : `TruthLabels`
        One entry per true source.
    """
    parents = detections.parents
    peaks = positions_of(detections.peaks)
    parent_of_peak = np.repeat(np.arange(len(parents)), [len(parent.peaks) for parent in parents])
    peak = np.full(len(snr), -1, dtype=np.int64)
    seen = np.flatnonzero(snr >= options.faint_snr)
    peak[seen] = match_peaks(
        positions[seen],
        snr[seen],
        peaks,
        radius_pix=options.match_radius_pix,
        sigma_pix=psf_sigma_pix(scene),
        rule=options.match_rule,
    )

    labels = detections.labels(scene.shape, scene.origin)
    rows, columns = nearest_pixel(positions, scene.origin).T
    parent = labels[rows, columns].astype(np.int64) - 1
    has_peak = peak >= 0
    parent[has_peak] = parent_of_peak[peak[has_peak]]

    n_peaks = np.array([0, *(len(item.peaks) for item in parents)])[parent + 1]
    name = np.select(
        [snr < options.min_snr, has_peak, parent < 0, n_peaks > 1],
        [TruthClass.FAINT, TruthClass.MATCHED, TruthClass.MISSED, TruthClass.PARTIALLY_DEBLENDED],
        default=TruthClass.UNRECOGNIZED,
    ).astype(CLASS_DTYPE)
    found = TruthLabels(name, parent, peak, _distances(positions, peaks, peak), np.zeros(len(snr), bool))
    found.blended[:] = (name == TruthClass.MATCHED) & np.isin(parent, parent[found.target])
    return found


@dataclass(frozen=True, eq=False)
class PeakLabels:
    """What each new peak is.

    Parameters
    ----------
    name : `numpy.ndarray`, (m,), str
        `PeakClass` values.
    source : `numpy.ndarray`, (m,), int64
        Index of the true source that it found or shreds, -1 for none.
    distance_pix : `numpy.ndarray`, (m,), float64
        Distance to that source, NaN for none.
    """

    name: Names
    source: Integers
    distance_pix: Floats


def classify_new_peaks(
    result: PatchResult,
    positions: Floats,
    snr: Floats,
    truth: TruthLabels,
    options: EvaluationOptions,
) -> PeakLabels:
    """Hold the new peaks against the truth.

    A peak is a detection of a source without a peak only if it is nearer to
    it than to any source that has one, so that shreds do not pass for
    detections of a companion by chance. Surer peaks come first, whatever the
    others; sources that count are matched before those too faint to count.

    Parameters
    ----------
    result : `PatchResult`
        The patch.
    positions : `numpy.ndarray`, (n, 2)
        True positions (y, x) in patch coordinates.
    snr : `numpy.ndarray`, (n,)
        Signal-to-noise ratios.
    truth : `TruthLabels`
        What the ordinary detection made of them.
    options : `EvaluationOptions`
        Limits.

    Returns
    -------
    labels : `PeakLabels`
        One entry per new peak.
    """
    peaks = positions_of(result.new_peaks)
    name = np.full(len(peaks), PeakClass.SPURIOUS, dtype=CLASS_DTYPE)
    source = np.full(len(peaks), -1, dtype=np.int64)
    if not len(peaks):
        return PeakLabels(name, source, np.empty(0))

    owned = np.flatnonzero(truth.peak >= 0)
    to_owned, nearest = np.full(len(peaks), np.inf), np.full(len(peaks), -1, dtype=np.int64)
    if len(owned):
        to_owned, place = KDTree(positions[owned]).query(peaks)
        nearest = owned[place]

    scores = np.array([peak.score for peak in result.new_peaks], dtype=np.float64)
    surest_first = np.argsort(-scores, kind="stable")
    free = truth.peak < 0
    for wanted, label in (
        (free & (snr >= options.min_snr), PeakClass.RIGHT),
        (free & (snr >= options.faint_snr) & (snr < options.min_snr), PeakClass.RIGHT_FAINT),
    ):
        wanted_index = np.flatnonzero(wanted)
        if not len(wanted_index):
            continue
        to_wanted = KDTree(positions[wanted_index]).query(peaks)[0]
        is_open = (name == PeakClass.SPURIOUS) & (to_wanted < to_owned)
        open_peaks = surest_first[is_open[surest_first]]
        matched = match_in_turn(
            positions[wanted_index],
            snr[wanted_index],
            peaks[open_peaks],
            radius_pix=options.match_radius_pix,
            sigma_pix=psf_sigma_pix(result.scene),
            rule=options.match_rule,
        )
        taken = matched >= 0
        source[open_peaks[matched[taken]]] = wanted_index[taken]
        name[open_peaks[matched[taken]]] = label

    # What is left lies on a source that has its peak, old or new, or on
    # nothing.
    found = np.unique(source[source >= 0])
    if len(found):
        to_found, place = KDTree(positions[found]).query(peaks)
        closer = to_found < to_owned
        nearest[closer], to_owned[closer] = found[place[closer]], to_found[closer]
    old_ids = np.array([peak.id for peak in result.before.peaks] + [-1], dtype=np.int64)
    core = core_owner(peaks, result.model_before, old_ids[truth.peak], options.core_fraction)
    shredded = np.where(to_owned <= options.match_radius_pix, nearest, core)
    shred = (name == PeakClass.SPURIOUS) & (shredded >= 0)
    name[shred], source[shred] = PeakClass.SHRED, shredded[shred]
    return PeakLabels(name, source, _distances(peaks, positions, source))
