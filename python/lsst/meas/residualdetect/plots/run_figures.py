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

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from astropy.table import Table
from matplotlib.ticker import LogLocator, PercentFormatter

from ..truth.evaluation import PeakClass
from ..truth.metrics import RankingCurve, bin_label, shares
from .svg import STYLE, TEXT, new_figure, to_svg

__all__ = [
    "PEAK_COLOURS",
    "chi2_figure",
    "flux_error_figure",
    "purity_figure",
    "recovery_figure",
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
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        place = np.arange(len(bins))
        n = np.array([item["n"] for item in bins])
        k = np.array([item["n_recovered"] for item in bins])
        full = n > 0
        if full.any():
            mean, bars = shares(k[full], n[full])
            axes.errorbar(place[full], mean, yerr=bars, fmt="o", color=MAIN, markersize=7, capsize=3)
        axes.set_xticks(
            place,
            [f"{bin_label(item['low'], item['high'])}\n{item['n_recovered']}/{item['n']}" for item in bins],
            fontsize=9.5,
        )
        axes.set_xlim(-0.6, len(bins) - 0.4)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(xlabel)
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
        axes.axhline(target_purity, color=TEXT, linestyle=":", linewidth=1)
        # A recovered source counts with the purity at its own rank, as in the
        # average precision.
        recovery = np.append(0.0, curve.recovery)
        purity = np.append(curve.purity[:1] if len(curve.purity) else 0.0, curve.purity)
        axes.step(recovery, purity, where="pre", color=MAIN, linewidth=2)
        axes.plot(*operating, "o", color=SECOND, markersize=8, label="this run")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.03)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("recovery")
        axes.set_ylabel("purity")
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
