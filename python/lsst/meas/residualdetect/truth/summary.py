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


"""The figures of a run, pooled over its patches."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from ..detections import places_of
from ..neighbours import distances_to
from .evaluation import TARGETS, WRONG, Evaluation, EvaluationOptions, PeakClass, TruthClass
from .metrics import binned_recovery, median, ratio
from .pooling import pooled_column, pooled_curve, target_rows

__all__ = ["strict_json", "summarise"]


def _flux_errors(evaluations: Sequence[Evaluation], rows: npt.NDArray[Any], when: str) -> dict[str, float]:
    """Median |model - truth| / truth of some true sources, per band and over
    all bands.
    """
    bands = list(dict.fromkeys(band for evaluation in evaluations for band in evaluation.bands))
    errors = {}
    for band in bands:
        # A patch without this band has no flux column, and no rows here.
        has_band = np.concatenate(
            [np.full(len(item.truth), band in item.bands) for item in evaluations if item.truth is not None]
            or [np.empty(0, bool)]
        )
        truth = pooled_column(evaluations, "truth", f"flux_{band}")
        model = pooled_column(evaluations, "truth", f"flux_{when}_{band}")
        use = rows[has_band] & (truth > 0)
        errors[band] = np.abs(model[use] - truth[use]) / truth[use]
    pooled = np.concatenate(list(errors.values())) if errors else np.empty(0)
    return {"all": median(pooled), **{band: median(values) for band, values in errors.items()}}


def _neighbours(evaluations: Sequence[Evaluation], radius_pix: float) -> npt.NDArray[np.bool_]:
    """Matched sources close to one that was recovered, of all patches."""
    near = []
    for evaluation in evaluations:
        truth = evaluation.truth
        if truth is None:
            continue
        positions = places_of(truth)
        found = (np.asarray(truth["new_peak_id"]) >= 0) & np.isin(truth["class"], TARGETS)
        distance = distances_to(positions, positions[found])
        near.append((distance <= radius_pix) & (np.asarray(truth["class"]) == TruthClass.MATCHED))
    return np.concatenate(near) if near else np.empty(0, bool)


def _colours(truth: Table, prefix: str, bands: tuple[str, str]) -> npt.NDArray[np.float64]:
    """Magnitudes; infinite for no light in a band, NaN for no model."""
    blue, red = (np.asarray(truth[f"{prefix}_{band}"], dtype=np.float64) for band in bands)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.minimum(blue, red) <= 0, np.inf, -2.5 * np.log10(blue / red))


def _colour_errors(evaluations: Sequence[Evaluation], use: npt.NDArray[Any], when: str) -> float:
    """Median |error| in magnitudes of g - i of some true sources, or of the
    first and last band where one of the two is not there. A source that a
    model leaves without light in a band counts as infinitely wrong.
    """
    errors = []
    first = 0
    for evaluation in evaluations:
        truth, bands = evaluation.truth, evaluation.bands
        if truth is None:
            continue
        rows = use[first : first + len(truth)]
        first += len(truth)
        pair = ("g", "i") if {"g", "i"} <= set(bands) else (bands[0], bands[-1])
        true, model = (_colours(truth, prefix, pair) for prefix in ("flux", f"flux_{when}"))
        rows = rows & np.isfinite(true) & ~np.isnan(model)
        errors.append(np.abs(model[rows] - true[rows]))
    pooled = np.concatenate(errors) if errors else np.empty(0)
    return float(np.median(pooled)) if len(pooled) else float("nan")


def _reduced_chi2(evaluations: Sequence[Evaluation], when: str, *, gained_only: bool) -> float:
    use = ~pooled_column(evaluations, "parents", "failed").astype(bool)
    if gained_only:
        use &= pooled_column(evaluations, "parents", "n_new_peaks") > 0
    chi2 = pooled_column(evaluations, "parents", f"chi2_{when}")[use].sum()
    return ratio(chi2, pooled_column(evaluations, "parents", "n_pixels")[use].sum())


def _truth_figures(evaluations: Sequence[Evaluation], options: EvaluationOptions) -> dict[str, Any]:
    """What can only be said with truth; `evaluations` all have it."""
    truth_class = pooled_column(evaluations, "truth", "class")
    peak_class = pooled_column(evaluations, "peaks", "class")
    n_true = {name: int((truth_class == name).sum()) for name in TruthClass}
    n_peaks = {name: int((peak_class == name).sum()) for name in PeakClass}

    target = target_rows(evaluations)
    found = pooled_column(evaluations, "truth", "new_peak_id") >= 0
    recovered = target & found
    blended = pooled_column(evaluations, "truth", "blended").astype(bool)
    neighbours = _neighbours(evaluations, options.neighbour_radius_pix)
    right = peak_class == PeakClass.RIGHT
    curve = pooled_curve(evaluations)
    recovery_at, threshold_at = curve.at_purity(options.target_purity)
    n_counted = n_peaks[PeakClass.RIGHT] + sum(n_peaks[name] for name in WRONG)
    n_target, n_recovered = int(target.sum()), int(recovered.sum())

    def bins(column: str, edges: Sequence[float]) -> list[dict[str, Any]]:
        values = pooled_column(evaluations, "truth", column)
        return [asdict(item) for item in binned_recovery(values[target], recovered[target], edges)]

    return {
        "n_truth": len(truth_class) - n_true[TruthClass.FAINT],
        "n_faint": n_true[TruthClass.FAINT],
        "n_matched": n_true[TruthClass.MATCHED],
        "n_unrecognized": n_target,
        "n_unrecognized_single_peak": n_true[TruthClass.UNRECOGNIZED],
        "n_partially_deblended": n_true[TruthClass.PARTIALLY_DEBLENDED],
        "n_missed": n_true[TruthClass.MISSED],
        "n_right": n_peaks[PeakClass.RIGHT],
        "n_recovered": n_recovered,
        "n_recovered_single_peak": int((recovered & (truth_class == TruthClass.UNRECOGNIZED)).sum()),
        "n_recovered_partially_deblended": int(
            (recovered & (truth_class == TruthClass.PARTIALLY_DEBLENDED)).sum()
        ),
        "n_right_faint": n_peaks[PeakClass.RIGHT_FAINT],
        "n_shreds": n_peaks[PeakClass.SHRED],
        "n_spurious": n_peaks[PeakClass.SPURIOUS],
        "recovery": ratio(n_recovered, n_target),
        "purity": ratio(n_peaks[PeakClass.RIGHT], n_counted),
        "average_precision": curve.average_precision if n_target else float("nan"),
        "recovery_at_purity": {
            "purity": options.target_purity,
            "recovery": recovery_at if n_target else float("nan"),
            "threshold": threshold_at,
        },
        "shreds_per_matched_source": ratio(n_peaks[PeakClass.SHRED], n_true[TruthClass.MATCHED]),
        "centroid_error_pix": median(pooled_column(evaluations, "peaks", "distance_pix")[right]),
        "flux_error": {
            "blended_before": _flux_errors(evaluations, blended, "before"),
            "blended_after": _flux_errors(evaluations, blended, "after"),
            "neighbours_before": _flux_errors(evaluations, neighbours, "before"),
            "neighbours_after": _flux_errors(evaluations, neighbours, "after"),
            "recovered_after": _flux_errors(evaluations, recovered, "after"),
        },
        "colour_error_mag": {
            "blended_before": _colour_errors(evaluations, blended, "before"),
            "blended_after": _colour_errors(evaluations, blended, "after"),
            "neighbours_before": _colour_errors(evaluations, neighbours, "before"),
            "neighbours_after": _colour_errors(evaluations, neighbours, "after"),
        },
        "recovery_by": {
            "snr": bins("snr", options.snr_edges),
            "separation_fwhm": bins("separation_fwhm", options.separation_edges_fwhm),
            "flux_ratio": bins("flux_ratio", options.flux_ratio_edges),
        },
    }


# What a run on real data has no answer to; null in JSON.
_UNKNOWN = dict.fromkeys(
    (
        *("n_truth", "n_unrecognized", "n_right", "n_recovered", "n_spurious", "n_shreds"),
        *("recovery", "purity"),
    )
)


def summarise(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Counts and figures of merit over all patches.

    ``n_truth`` counts the observed true sources of at least ``min_snr``;
    ``n_unrecognized`` those without a peak of their own inside a footprint,
    the split by the number of old peaks there being
    ``n_unrecognized_single_peak`` and ``n_partially_deblended``;
    ``n_recovered`` those of them that a new peak found, so that ``recovery``
    is n_recovered / n_unrecognized. ``purity`` is right / (right + shred +
    spurious): a new peak on a source outside all footprints is right too, and
    one on a source too faint to count is left out. ``chi2_before`` and
    ``chi2_after`` are reduced, over the parents that gained peaks;
    ``chi2_all_before`` and ``chi2_all_after`` over all parents. Parents that
    a deblend left without a model count in neither.

    Parameters
    ----------
    evaluations : `~collections.abc.Sequence` [`Evaluation`]
        Patches, all evaluated with the same options.

    Returns
    -------
    summary : `dict`
        Figures that need the truth are taken over the patches that have one,
        and are `None` if none has; a quotient of nothing is NaN.

    Raises
    ------
    ValueError
        Raised if patches were evaluated with different options.
    """
    options = evaluations[0].options if evaluations else EvaluationOptions()
    for evaluation in evaluations:
        if evaluation.options != options:
            raise ValueError(f"{evaluation.name} was evaluated with other options than {evaluations[0].name}")
    known = [evaluation for evaluation in evaluations if evaluation.truth is not None]
    parents_failed = pooled_column(evaluations, "parents", "failed").astype(bool)
    return {
        "n_patches": len(evaluations),
        "n_patches_with_truth": len(known),
        "n_peaks": sum(evaluation.n_peaks for evaluation in evaluations),
        "n_new_peaks": sum(len(evaluation.peaks) for evaluation in evaluations),
        "n_parents": len(parents_failed),
        "n_parents_with_new_peaks": int((pooled_column(evaluations, "parents", "n_new_peaks") > 0).sum()),
        "n_parents_failed": int(parents_failed.sum()),
        **(_truth_figures(known, options) if known else _UNKNOWN),
        "chi2_before": _reduced_chi2(evaluations, "before", gained_only=True),
        "chi2_after": _reduced_chi2(evaluations, "after", gained_only=True),
        "chi2_all_before": _reduced_chi2(evaluations, "before", gained_only=False),
        "chi2_all_after": _reduced_chi2(evaluations, "after", gained_only=False),
        "options": asdict(options),
    }


def _strict(value: Any) -> Any:
    """The same in the types of JSON, which knows no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def strict_json(content: Mapping[str, Any]) -> str:
    """A JSON object; NaN and infinite numbers are null."""
    return json.dumps(_strict(content), allow_nan=False, indent=2) + "\n"
