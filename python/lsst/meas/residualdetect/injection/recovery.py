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


"""What became of injected companions, by the taxonomy of blends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from ..boxes import nearest_pixel
from ..detection import DetectionOptions, detect
from ..detections import Detections, Peak, peak_columns, places_of, positions_of
from ..neighbours import distances_to
from ..noise import point_source_flux, snr_over_bands
from ..scene import DEFAULT_BAD_PLANES, Scene
from ..scene_model import SceneModel
from ..truth.evaluation import FOUND, TARGETS, EvaluationOptions, PatchResult, PeakClass, TruthClass
from ..truth.matching import Floats, match_peaks
from ..truth.measures import psf_sigma_pix
from ..truth.taxonomy import (
    CLASS_DTYPE,
    PeakLabels,
    TruthLabels,
    classify_new_peaks,
    classify_truth,
)

__all__ = [
    "InjectedPatch",
    "InjectedResult",
    "evaluate_companions",
]

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class InjectedPatch:
    """A patch with companions, and without.

    Parameters
    ----------
    name : `str`
        Patch, for messages.
    scene : `Scene`
        Coadds with companions.
    before : `Detections`
        Catalogue of the ordinary detection, which knows no companions.
    control, after : `Detections`
        The same with the peaks found in the residual of the coadds without
        companions, and with them.
    model : `SceneModel`
        Deblended models of ``before`` in the coadds with companions, in the
        scene's bands.
    companions : `numpy.ndarray`, structured
        At least ``id``, ``y``, ``x``, ``snr`` (over all bands, 0 for one that
        was not injected), ``separation_fwhm`` and ``delta_mag``.
    """

    name: str
    scene: Scene
    before: Detections
    control: Detections
    after: Detections
    model: SceneModel
    companions: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class InjectedResult:
    """What became of the companions of a patch.

    Parameters
    ----------
    companions : `astropy.table.Table`
        The companions' columns, and ``class`` (`TruthClass`), ``confused``
        (too near to a peak that is found without companions, so that nothing
        can be said), ``counted`` (unrecognised or partially deblended, and
        not confused), ``recovered``, ``recognized`` (ordinary detection of
        the coadds with companions would give it a peak of its own),
        ``new_peak_id`` (-1 = none), ``new_distance_pix`` and ``new_score``
        (NaN).
    peaks : `astropy.table.Table`
        One row for each new peak in the coadds with companions: ``id``,
        ``y``, ``x``, ``score``, ``class`` (`PeakClass`; `UNLABELLED` if it
        is found without companions too), ``companion_id`` (found or
        shredded; -1 = none) and ``distance_pix`` to it.
    n_control : `int`
        New peaks in the coadds without companions.
    n_lost : `int`
        Those of them that are not found with companions.
    """

    companions: Table
    peaks: Table
    n_control: int
    n_lost: int


def _label_by_construction(
    patch: InjectedPatch, known: Floats, positions: Floats, snr: Floats, options: EvaluationOptions
) -> TruthLabels:
    """Known objects, which all have their own peaks, and after them the
    companions, which have none.
    """
    parents = patch.before.parents
    n_known = len(known)
    peak = np.append(np.arange(n_known), np.full(len(positions), -1))
    labels = patch.before.labels(patch.scene.shape, patch.scene.origin)
    rows, columns = nearest_pixel(positions, patch.scene.origin).T
    parent_of_peak = np.repeat(np.arange(len(parents)), [len(parent.peaks) for parent in parents])
    parent = np.append(parent_of_peak, labels[rows, columns].astype(np.int64) - 1)
    n_peaks = np.array([0, *(len(item.peaks) for item in parents)])[parent + 1]
    is_known = peak >= 0
    name = np.select(
        [is_known, np.append(np.zeros(n_known), snr) < options.min_snr, parent < 0, n_peaks > 1],
        [TruthClass.MATCHED, TruthClass.FAINT, TruthClass.MISSED, TruthClass.PARTIALLY_DEBLENDED],
        default=TruthClass.UNRECOGNIZED,
    ).astype(CLASS_DTYPE)
    distance = np.where(is_known, 0.0, np.nan)
    return TruthLabels(name, parent, peak, distance, np.zeros(len(peak), dtype=bool))


def _recognized(
    scene: Scene,
    known: Floats,
    positions: Floats,
    snr: Floats,
    detection: DetectionOptions,
    options: EvaluationOptions,
    bad_planes: Sequence[str],
) -> Booleans:
    """Companions that ordinary detection gives a peak of their own."""
    seen = scene.with_bad(scene.bad(bad_planes))
    flux, sigma = point_source_flux(seen.images, seen, *known.T)
    known_snr = snr_over_bands(flux, sigma)
    labels = classify_truth(
        detect(scene, detection),
        scene,
        np.concatenate([known, positions]),
        np.concatenate([known_snr, snr]),
        options,
    )
    return labels.peak[len(known) :] >= 0


def evaluate_companions(
    patch: InjectedPatch,
    options: EvaluationOptions | None = None,
    detection: DetectionOptions = DetectionOptions(),
    *,
    bad_planes: Sequence[str] = DEFAULT_BAD_PLANES,
) -> InjectedResult:
    """Hold the new peaks of coadds with companions against the companions.

    On a real sky nobody knows all true sources, so that a new peak cannot be
    called spurious for being on no known one. The same coadds without
    companions are the control: a peak found in both says nothing
    (`PeakClass.UNLABELLED`); one found only with companions is right, a
    shred, or spurious, by the rules of `classify_new_peaks`. A companion near
    a peak of the control is confused and not counted.

    Parameters
    ----------
    patch : `InjectedPatch`
        The patch.
    options : `EvaluationOptions`, optional
        Limits; the defaults if absent.
    detection : `DetectionOptions`, optional
        The ordinary detection that companions are tried with.
    bad_planes : `~collections.abc.Sequence` [`str`], optional
        Mask planes whose pixels say nothing of known sources' brightness, as
        the run had them.

    Returns
    -------
    result : `InjectedResult`
        Tables of companions and of new peaks.
    """
    options = EvaluationOptions() if options is None else options
    companions = patch.companions
    positions = places_of(companions)
    snr = np.asarray(companions["snr"], dtype=np.float64)
    known = positions_of(patch.before.peaks)
    control, new = patch.control.new_peaks, patch.after.new_peaks

    same = match_peaks(
        positions_of(control),
        np.ones(len(control)),
        positions_of(new),
        radius_pix=options.match_radius_pix,
        sigma_pix=psf_sigma_pix(patch.scene),
    )
    in_control = np.zeros(len(new), dtype=bool)
    in_control[same[same >= 0]] = True

    # Twice the radius: a peak may be that far from the companion that it
    # finds, and as far from the control's peak that it is taken for.
    confused = distances_to(positions, positions_of(control)) <= 2 * options.match_radius_pix
    labels = _label_by_construction(patch, known, positions, snr, options)
    gained = PatchResult(
        name=patch.name,
        scene=patch.scene,
        before=patch.before,
        after=patch.after.without({peak.id for peak, drop in zip(new, in_control, strict=True) if drop}),
        model_before=patch.model,
        model_after=patch.model,
    )
    # What is too uncertain to count is treated like what is too faint to.
    weight = np.where(confused, np.minimum(snr, options.faint_snr), snr)
    found = classify_new_peaks(
        gained,
        np.concatenate([known, positions]),
        np.concatenate([np.full(len(known), np.inf), weight]),
        labels,
        options,
    )
    table = _companion_table(companions, labels.name[len(known) :], confused, gained, found, len(known))
    table["recognized"] = _recognized(patch.scene, known, positions, snr, detection, options, bad_planes)
    peaks = _peak_table(new, ~in_control, found, companions["id"], len(known))
    return InjectedResult(table, peaks, len(control), int((same < 0).sum()))


def _companion_table(
    companions: npt.NDArray[Any],
    name: npt.NDArray[np.str_],
    confused: Booleans,
    gained: PatchResult,
    found: PeakLabels,
    n_known: int,
) -> Table:
    table = Table(companions)
    right = np.flatnonzero(np.isin(found.name, FOUND))
    place = found.source[right] - n_known
    table["class"] = name
    table["confused"] = confused
    table["counted"] = np.isin(name, TARGETS) & ~confused
    for column, values, nothing in (
        ("new_peak_id", np.array([peak.id for peak in gained.new_peaks], dtype=np.int64), -1),
        ("new_distance_pix", found.distance_pix, np.nan),
        ("new_score", np.array([peak.score for peak in gained.new_peaks], dtype=np.float64), np.nan),
    ):
        filled = np.full(len(table), nothing)
        filled[place] = values[right]
        table[column] = filled
    table["recovered"] = table["counted"] & (table["new_peak_id"] >= 0)
    return table


def _peak_table(
    new: Sequence[Peak], gained: Booleans, found: PeakLabels, companion_ids: npt.NDArray[Any], n_known: int
) -> Table:
    name = np.full(len(new), PeakClass.UNLABELLED, dtype=CLASS_DTYPE)
    name[gained] = found.name
    companion = np.full(len(new), -1, dtype=np.int64)
    on_companion = found.source >= n_known
    companion[np.flatnonzero(gained)[on_companion]] = companion_ids[found.source[on_companion] - n_known]
    distance = np.full(len(new), np.nan)
    distance[np.flatnonzero(gained)[on_companion]] = found.distance_pix[on_companion]
    columns = peak_columns(new)
    del columns["iteration"]
    return Table({**columns, "class": name, "companion_id": companion, "distance_pix": distance})
