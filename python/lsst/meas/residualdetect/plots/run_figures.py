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


"""Plots of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from ..truth.evaluation import COUNTED, Evaluation, PeakClass
from ..truth.metrics import RankingCurve, are_probabilities, bin_label
from ..truth.pooling import pooled_column, pooled_curve
from .shares import draw_binned, draw_purity, draw_reliability
from .svg import TEXT, svg_figure

__all__ = ["PEAK_COLOURS", "run_figures"]

# Told apart by the colour-blind, and readable on white and on black.
PEAK_COLOURS: Mapping[str, str] = {
    PeakClass.RIGHT: "#2f8fd8",
    PeakClass.RIGHT_FAINT: "#94a4a2",
    PeakClass.SHRED: "#ef9f1a",
    PeakClass.SPURIOUS: "#dd4f9b",
    PeakClass.UNLABELLED: "#2f8fd8",
}
MAIN, SECOND = PEAK_COLOURS[PeakClass.RIGHT], PEAK_COLOURS[PeakClass.SHRED]


def _recovery(axes: Axes, bins: Sequence[Mapping[str, Any]], xlabel: str) -> None:
    """Recovered share of the unrecognised sources, with Wilson 68 % intervals
    and the number of sources under each bin of the summary's ``recovery_by``.
    """
    k, n = (np.array([item[key] for item in bins]) for key in ("n_recovered", "n"))
    names = [f"{bin_label(item['low'], item['high'])}\n{item['n_recovered']}/{item['n']}" for item in bins]
    draw_binned(axes, [("", k, n)], names, xlabel)
    axes.set_ylabel("recovered")


def _purity(axes: Axes, curve: RankingCurve, target_purity: float, operating: tuple[float, float]) -> None:
    """Purity against recovery as the score threshold falls; a dot is the whole
    run, a line the purity wanted.
    """
    draw_purity(axes, [("", curve, operating)], target_purity)
    axes.plot(*operating, "o", color=SECOND, markersize=8, label="this run")
    axes.set_title(f"average precision {curve.average_precision:.2f}", loc="left")
    axes.legend(loc="lower left")


def _ticks_of_decades(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _chi2(axes: Axes, parents: Table) -> None:
    """Reduced chi-square of each parent that gained peaks, before and after."""
    rows = parents[(parents["n_new_peaks"] > 0) & (parents["n_pixels"] > 0) & ~parents["failed"]]
    before = np.asarray(rows["chi2_before"] / rows["n_pixels"])
    after = np.asarray(rows["chi2_after"] / rows["n_pixels"])
    values = np.concatenate([before, after, [0.8, 2.0]])
    ends = (float(values.min()) / 1.1, float(values.max()) * 1.1)
    axes.plot(ends, ends, color=TEXT, linestyle=":", linewidth=1)
    axes.scatter(before, after, s=18, alpha=0.6, color=MAIN, linewidths=0, rasterized=len(rows) > 500)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.set(xlabel="reduced chi-square before", ylabel="after")
    for axis in (axes.xaxis, axes.yaxis):
        _ticks_of_decades(axis)
    axes.set_title(f"{(after < before).sum()} of {len(rows)} parents improve", loc="left")


def _flux_error(axes: Axes, errors: Mapping[str, Mapping[str, float]]) -> None:
    """Median flux error in each band before and after, of the summary's
    ``flux_error``.
    """
    bands = [band for band in errors["blended_before"] if band != "all"]
    values = {key: np.array([of_band[band] for band in bands]) for key, of_band in errors.items()}
    place = np.arange(len(bands))
    axes.vlines(place, values["blended_before"], values["blended_after"], color="#94a4a2", linewidth=1.5)
    for label, key, colour, shape in (
        ("blended sources, before", "blended_before", "#94a4a2", "o"),
        ("the same, after", "blended_after", MAIN, "o"),
        ("recovered sources, after", "recovered_after", SECOND, "D"),
    ):
        axes.plot(place, values[key], shape, color=colour, markersize=8, label=label)
    axes.set_xticks(place, bands)
    axes.set_xlim(-0.5, len(bands) - 0.5)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="band", ylabel="median |model - true| / true")
    axes.legend(fontsize=9.5)


def _scores(axes: Axes, scores: npt.NDArray[np.float64], names: npt.NDArray[np.str_]) -> None:
    """Histogram of the new peaks' scores, as far as they are finite, by class."""
    finite = np.isfinite(scores)
    kinds = [kind for kind in PeakClass if (names[finite] == kind).any()]
    if kinds:
        low, high = scores[finite].min(), scores[finite].max()
        # Scores that are signal-to-noise ratios span decades.
        wide = low > 0 and high > 10 * low
        if wide:
            axes.set_xscale("log")
            _ticks_of_decades(axes.xaxis)
        axes.hist(
            [scores[finite & (names == kind)] for kind in kinds],
            bins=list(np.geomspace(low, high, 26) if wide else np.histogram_bin_edges(scores[finite], 25)),
            stacked=True,
            color=[PEAK_COLOURS[kind] for kind in kinds],
            label=[f"{kind.replace('_', ' ')} ({(names == kind).sum()})" for kind in kinds],
        )
        if kinds != [PeakClass.UNLABELLED]:
            axes.legend()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="score", ylabel="new peaks")


def run_figures(evaluations: Sequence[Evaluation], summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of a run.

    Parameters
    ----------
    evaluations : `~collections.abc.Sequence` [`Evaluation`]
        One for each patch.
    summary : `~collections.abc.Mapping`
        What `~lsst.meas.residualdetect.truth.summarise` makes of them.

    Returns
    -------
    figures : `list` [`tuple` [`str`, `str`]]
        Title and SVG of each figure there is something to show in.
    """
    figures = []
    if summary["n_unrecognized"]:
        for key, title, xlabel in (
            ("snr", "Recovery and signal to noise", "signal to noise over all bands"),
            ("separation_fwhm", "Recovery and separation", "separation to nearest brighter source / FWHM"),
            ("flux_ratio", "Recovery and flux ratio", "flux / flux of nearest brighter source"),
        ):
            figures.append((title, svg_figure(key, _recovery, summary["recovery_by"][key], xlabel)))
        if summary["n_new_peaks"]:
            operating = (summary["recovery"], summary["purity"])
            curve, wanted = pooled_curve(evaluations), summary["options"]["target_purity"]
            svg = svg_figure("purity", _purity, curve, wanted, operating)
            figures.append(("Purity and recovery", svg))
    if summary["n_new_peaks"]:
        names = ("n_new_peaks", "n_pixels", "failed", "chi2_before", "chi2_after")
        parents = Table({name: pooled_column(evaluations, "parents", name) for name in names})
        figures.append(("Chi-square of parents that gained peaks", svg_figure("chi2", _chi2, parents)))
        scores, classes = (pooled_column(evaluations, "peaks", name) for name in ("score", "class"))
        figures.append(("Scores of new peaks", svg_figure("scores", _scores, scores, classes)))
        counted = np.isin(classes, COUNTED)
        if are_probabilities(scores[counted]):
            series = [("", scores[counted], classes[counted] == PeakClass.RIGHT)]
            svg = svg_figure("reliability", draw_reliability, series)
            figures.append(("Scores as probabilities", svg))
    if summary.get("flux_error") and math.isfinite(summary["flux_error"]["blended_before"]["all"]):
        figures.append(
            ("Flux errors of blended sources", svg_figure("flux", _flux_error, summary["flux_error"]))
        )
    return figures
