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


"""Hold one patch against its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from astropy.table import Table

from ..boxes import is_inside, nearest_pixel
from ..detections import peak_columns, places_of
from ..scene import DEFAULT_BAD_PLANES
from .evaluation import FOUND, Evaluation, EvaluationOptions, PatchResult, PeakClass
from .known_scenes import with_snr
from .matching import Floats, Integers
from .measures import (
    brighter_neighbours,
    parent_chi2,
    psf_sigma_pix,
)
from .taxonomy import (
    CLASS_DTYPE,
    PeakLabels,
    TruthLabels,
    classify_new_peaks,
    classify_truth,
)

__all__ = ["evaluate_patch"]


def _flux_columns(prefix: str, bands: tuple[str, ...], fluxes: Floats) -> dict[str, Floats]:
    return {f"{prefix}_{band}": column for band, column in zip(bands, fluxes.T, strict=True)}


def _true_fluxes(result: PatchResult) -> Floats:
    assert result.truth is not None
    return np.stack([result.truth[f"flux_{band}"] for band in result.scene.bands], axis=1).astype(np.float64)


def _observed(result: PatchResult, positions: Floats) -> Integers:
    """Indices of the true sources whose central pixel is good in a band."""
    pixels = nearest_pixel(positions, result.scene.origin)
    inside = is_inside(pixels, result.scene.shape)
    good = result.scene.weights().max(axis=0) > 0
    inside[inside] = good[tuple(pixels[inside].T)]
    return np.flatnonzero(inside)


def _truth_table(result: PatchResult, options: EvaluationOptions) -> tuple[Table, TruthLabels, PeakLabels]:
    assert result.truth is not None
    positions = places_of(result.truth)
    fluxes = _true_fluxes(result)
    neighbour, separation = brighter_neighbours(positions, fluxes.sum(axis=1))
    snr = np.asarray(with_snr(result.truth, result.scene)["snr"], dtype=np.float64)

    # Neighbours count wherever they are; what happens off the image or on
    # bad pixels is nobody's fault.
    rows = _observed(result, positions)
    labels = classify_truth(result.before, result.scene, positions[rows], snr[rows], options)
    peaks = classify_new_peaks(result, positions[rows], snr[rows], labels, options)

    found = np.isin(peaks.name, FOUND)
    old_ids = np.array([peak.id for peak in result.before.peaks] + [-1], dtype=np.int64)
    new_ids = np.full(len(rows), -1, dtype=np.int64)
    new_distance = np.full(len(rows), np.nan)
    new_ids[peaks.source[found]] = np.array([peak.id for peak in result.new_peaks], dtype=np.int64)[found]
    new_distance[peaks.source[found]] = peaks.distance_pix[found]
    parent_ids = np.array([parent.id for parent in result.before] + [-1], dtype=np.int64)
    peak_ids = old_ids[labels.peak]

    flux = fluxes[rows]
    has_neighbour = neighbour[rows] >= 0
    neighbour_flux = np.where(has_neighbour, fluxes.sum(axis=1)[neighbour[rows]], np.nan)
    ratio = np.full(len(rows), np.nan)
    np.divide(flux.sum(axis=1), neighbour_flux, out=ratio, where=neighbour_flux > 0)
    table = Table(
        {
            "id": np.asarray(result.truth["id"])[rows],
            "y": positions[rows, 0],
            "x": positions[rows, 1],
            "snr": snr[rows],
            "class": labels.name,
            "parent_id": parent_ids[labels.parent],
            "peak_id": peak_ids,
            "new_peak_id": new_ids,
            "distance_pix": labels.distance_pix,
            "new_distance_pix": new_distance,
            "blended": labels.blended,
            "neighbour_id": np.where(has_neighbour, np.asarray(result.truth["id"])[neighbour[rows]], -1),
            "separation_pix": separation[rows],
            "separation_fwhm": separation[rows] / (gaussian_sigma_to_fwhm * psf_sigma_pix(result.scene)),
            "flux_ratio": ratio,
            **_flux_columns("flux", result.scene.bands, flux),
            **_flux_columns("flux_before", result.scene.bands, result.model_before.peak_fluxes(peak_ids)),
            **_flux_columns(
                "flux_after",
                result.scene.bands,
                result.model_after.peak_fluxes(np.where(peak_ids >= 0, peak_ids, new_ids)),
            ),
        }
    )
    return table, labels, peaks


def _peak_table(result: PatchResult, truth: Table | None, target: Integers, labels: PeakLabels) -> Table:
    peaks = result.new_peaks
    columns = peak_columns(peaks)
    parent_ids = {peak.id: parent.id for parent in result.after for peak in parent.peaks}
    true_id = np.full(len(peaks), -1, dtype=np.int64)
    found = labels.source >= 0
    if truth is not None:
        true_id[found] = truth["id"][labels.source[found]]
    return Table(
        {
            "id": columns["id"],
            "parent_id": np.array([parent_ids[peak.id] for peak in peaks], dtype=np.int64),
            **columns,
            "class": labels.name,
            "true_id": true_id,
            "target": (labels.name == PeakClass.RIGHT) & np.isin(labels.source, target),
            "distance_pix": labels.distance_pix,
            **_flux_columns("flux_after", result.scene.bands, result.model_after.peak_fluxes(columns["id"])),
        }
    )


def _parent_table(result: PatchResult, truth: Table | None, options: EvaluationOptions) -> Table:
    scene, parents = result.scene, result.after.parents
    # Both models over the new footprints: the same pixels, or the two numbers
    # could not be compared.
    chi2_before, n_pixels = parent_chi2(scene, result.after, result.model_before.image(scene))
    chi2_after, _ = parent_chi2(scene, result.after, result.model_after.image(scene))
    n_true = np.full(len(parents), -1, dtype=np.int64)
    if truth is not None:
        counted = truth[truth["snr"] >= options.min_snr]
        rows, columns = nearest_pixel(places_of(counted), scene.origin).T
        labels = result.after.labels(scene.shape, scene.origin)[rows, columns]
        n_true = np.bincount(labels, minlength=len(parents) + 1)[1:]
    old = {parent.parent_id: bool(parent.failure) for parent in result.model_before}
    new = {parent.parent_id: bool(parent.failure) for parent in result.model_after}
    n_new = [sum(peak.from_residual for peak in parent.peaks) for parent in parents]
    n_all = [len(parent.peaks) for parent in parents]
    return Table(
        {
            "id": np.array([parent.id for parent in parents], dtype=np.int64),
            "n_old_peaks": np.array(n_all, dtype=np.int64) - np.array(n_new, dtype=np.int64),
            "n_new_peaks": np.array(n_new, dtype=np.int64),
            "n_true": n_true,
            "chi2_before": chi2_before,
            "chi2_after": chi2_after,
            "n_pixels": n_pixels,
            "failed": np.array([old.get(p.id, False) or new.get(p.id, True) for p in parents], dtype=bool),
        }
    )


def evaluate_patch(
    result: PatchResult,
    options: EvaluationOptions | None = None,
    *,
    bad_planes: Sequence[str] = DEFAULT_BAD_PLANES,
) -> Evaluation:
    """Classify true sources and new peaks, and measure what the new peaks
    changed.

    Parameters
    ----------
    result : `PatchResult`
        The patch, with or without truth.
    options : `EvaluationOptions`, optional
        Limits; the defaults if absent.
    bad_planes : `~collections.abc.Sequence` [`str`], optional
        Mask planes whose pixels say nothing, as the run had them.

    Returns
    -------
    evaluation : `Evaluation`
        Tables of true sources, new peaks and parents.
    """
    options = EvaluationOptions() if options is None else options
    result = replace(result, scene=result.scene.with_bad(result.scene.bad(bad_planes)))
    n_new = len(result.new_peaks)
    truth, target = None, np.empty(0, dtype=np.int64)
    peaks = PeakLabels(
        np.full(n_new, PeakClass.UNLABELLED, dtype=CLASS_DTYPE),
        np.full(n_new, -1, dtype=np.int64),
        np.full(n_new, np.nan),
    )
    if result.truth is not None:
        truth, labels, peaks = _truth_table(result, options)
        target = np.flatnonzero(labels.target)
    return Evaluation(
        name=result.name,
        bands=result.scene.bands,
        n_peaks=len(result.before.peaks),
        truth=truth,
        peaks=_peak_table(result, truth, target, peaks),
        parents=_parent_table(result, truth, options),
        options=options,
    )
