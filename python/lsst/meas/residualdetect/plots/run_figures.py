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

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from astropy.table import Table
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from ..truth.evaluation import Evaluation, PeakClass
from ..truth.metrics import RankingCurve, are_probabilities, bin_label
from ..truth.pooling import WRONG, pooled_column, pooled_curve
from .shares import draw_binned, draw_purity, draw_reliability
from .svg import STYLE, TEXT, new_figure, to_svg

__all__ = [
    "PEAK_COLOURS",
    "chi2_figure",
    "flux_error_figure",
    "purity_figure",
    "recovery_figure",
    "reliability_figure",
    "run_figures",
    "score_figure",
]

# Told apart by the colour-blind, and readable on white and on black.
PEAK_COLOURS: Mapping[str, str] = {
    PeakClass.RIGHT: "#2f8fd8",
    PeakClass.RIGHT_FAINT: "#94a4a2",
    PeakClass.SHRED: "#ef9f1a",
    PeakClass.SPURIOUS: "#dd4f9b",
    PeakClass.UNLABELLED: "#2f8fd8",
}
MAIN, SECOND = PEAK_COLOURS[PeakClass.RIGHT], PEAK_COLOURS[PeakClass.SHRED]


def recovery_figure(bins: Sequence[Mapping[str, Any]], xlabel: str, name: str) -> str:
    """Recovered fraction of the unrecognised sources in bins.

    Parameters
    ----------
    bins : `~collections.abc.Sequence`
        Bins of the summary's ``recovery_by``.
    xlabel : `str`
        What was binned.
    name : `str`
        Different for each figure of a page.

    Returns
    -------
    svg : `str`
        With Wilson 68 % intervals and the number of sources under each bin.
    """
    k, n = (np.array([item[key] for item in bins]) for key in ("n_recovered", "n"))
    names = [f"{bin_label(item['low'], item['high'])}\n{item['n_recovered']}/{item['n']}" for item in bins]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        draw_binned(axes, [("", k, n)], names, xlabel)
        axes.set_ylabel("recovered")
        return to_svg(figure, name)


def purity_figure(curve: RankingCurve, target_purity: float, operating: tuple[float, float]) -> str:
    """Purity against recovery as the score threshold falls.

    Parameters
    ----------
    curve : `RankingCurve`
        The ranking.
    target_purity : `float`
        Drawn as a line.
    operating : `tuple` [`float`, `float`]
        Recovery and purity of the whole run.

    Returns
    -------
    svg : `str`
        The figure.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        draw_purity(axes, [("", curve, operating)], target_purity)
        axes.plot(*operating, "o", color=SECOND, markersize=8, label="this run")
        axes.set_title(f"average precision {curve.average_precision:.2f}", loc="left")
        axes.legend(loc="lower left")
        return to_svg(figure, "purity")


def chi2_figure(parents: Table) -> str:
    """Reduced chi-square of each parent that gained peaks, before and after.

    Parameters
    ----------
    parents : `astropy.table.Table`
        Pooled parents of the evaluations.

    Returns
    -------
    svg : `str`
        The figure.
    """
    rows = parents[(parents["n_new_peaks"] > 0) & (parents["n_pixels"] > 0) & ~parents["failed"]]
    before = np.asarray(rows["chi2_before"] / rows["n_pixels"])
    after = np.asarray(rows["chi2_after"] / rows["n_pixels"])
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        values = np.concatenate([before, after, [0.8, 2.0]])
        ends = [float(values.min()) / 1.1, float(values.max()) * 1.1]
        axes.plot(ends, ends, color=TEXT, linestyle=":", linewidth=1)
        axes.scatter(before, after, s=18, alpha=0.6, color=MAIN, linewidths=0, rasterized=len(rows) > 500)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.set_xlabel("reduced chi-square before")
        axes.set_ylabel("after")
        axes.set_title(f"{(after < before).sum()} of {len(rows)} parents improve", loc="left")
        return to_svg(figure, "chi2")


def flux_error_figure(errors: Mapping[str, Mapping[str, float]]) -> str:
    """Median flux error in each band before and after.

    Parameters
    ----------
    errors : `~collections.abc.Mapping`
        The summary's ``flux_error``.

    Returns
    -------
    svg : `str`
        The figure.
    """
    bands = [band for band in errors["blended_before"] if band != "all"]
    series = {
        "blended sources, before": ("blended_before", "#94a4a2", "o"),
        "the same, after": ("blended_after", MAIN, "o"),
        "recovered sources, after": ("recovered_after", SECOND, "D"),
    }
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        place = np.arange(len(bands))
        before, after = (
            np.array([errors[key][band] for band in bands]) for key in ("blended_before", "blended_after")
        )
        axes.vlines(place, before, after, color="#94a4a2", linewidth=1.5)
        for label, (key, colour, shape) in series.items():
            values = [errors[key][band] for band in bands]
            axes.plot(place, values, shape, color=colour, markersize=8, label=label)
        axes.set_xticks(place, bands)
        axes.set_xlim(-0.5, len(bands) - 0.5)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("band")
        axes.set_ylabel("median |model - true| / true")
        axes.legend(fontsize=9.5)
        return to_svg(figure, "flux")


def score_figure(scores: npt.NDArray[np.float64], names: npt.NDArray[np.str_]) -> str:
    """Histogram of the new peaks' scores by class.

    Parameters
    ----------
    scores : `numpy.ndarray`, (n,)
        Scores; those not finite are left out.
    names : `numpy.ndarray`, (n,), str
        `PeakClass` values.

    Returns
    -------
    svg : `str`
        The figure.
    """
    finite = np.isfinite(scores)
    kinds = [kind for kind in PeakClass if (names[finite] == kind).any()]
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        if kinds:
            low, high = scores[finite].min(), scores[finite].max()
            # Scores that are signal-to-noise ratios span decades.
            wide = low > 0 and high > 10 * low
            if wide:
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_formatter("")
            axes.hist(
                [scores[finite & (names == kind)] for kind in kinds],
                bins=list(
                    np.geomspace(low, high, 26) if wide else np.histogram_bin_edges(scores[finite], 25)
                ),
                stacked=True,
                color=[PEAK_COLOURS[kind] for kind in kinds],
                label=[f"{kind.replace('_', ' ')} ({(names == kind).sum()})" for kind in kinds],
            )
            if kinds != [PeakClass.UNLABELLED]:
                axes.legend()
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("score")
        axes.set_ylabel("new peaks")
        return to_svg(figure, "scores")


def reliability_figure(scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> str:
    """Share of right peaks against their score.

    Parameters
    ----------
    scores : `numpy.ndarray`, (n,)
        Scores that are meant to be probabilities, from 0 to 1.
    right : `numpy.ndarray`, (n,), bool
        Which peaks are right.

    Returns
    -------
    svg : `str`
        See `draw_reliability`.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        draw_reliability(axes, [("", scores, right)])
        return to_svg(figure, "reliability")


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
            figures.append((title, recovery_figure(summary["recovery_by"][key], xlabel, key)))
        if summary["n_new_peaks"]:
            options = summary["options"]
            svg = purity_figure(
                pooled_curve(evaluations),
                options["target_purity"],
                (summary["recovery"], summary["purity"]),
            )
            figures.append(("Purity and recovery", svg))
    if summary["n_new_peaks"]:
        names = ("n_new_peaks", "n_pixels", "failed", "chi2_before", "chi2_after")
        parents = Table({name: pooled_column(evaluations, "parents", name) for name in names})
        figures.append(("Chi-square of parents that gained peaks", chi2_figure(parents)))
        scores, classes = (pooled_column(evaluations, "peaks", name) for name in ("score", "class"))
        figures.append(("Scores of new peaks", score_figure(scores, classes)))
        counted = np.isin(classes, [PeakClass.RIGHT, *WRONG])
        if are_probabilities(scores[counted]):
            svg = reliability_figure(scores[counted], classes[counted] == PeakClass.RIGHT)
            figures.append(("Scores as probabilities", svg))
    if summary.get("flux_error") and math.isfinite(summary["flux_error"]["blended_before"]["all"]):
        figures.append(("Flux errors of blended sources", flux_error_figure(summary["flux_error"])))
    return figures
