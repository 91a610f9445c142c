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


"""Plots of shares: recovered, right, pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ..truth.metrics import RankingCurve, reliability, shares

__all__ = ["COLOURS", "GREY", "coloured", "draw_binned", "draw_purity", "draw_reliability"]

# Told apart by the colour-blind, and readable on white and on black.
COLOURS = ("#2f8fd8", "#ef9f1a", "#3d9970", "#dd4f9b", "#7a5fc4")
GREY = "#808080"

_Item = TypeVar("_Item")
Integers = npt.NDArray[np.int64]


def coloured(items: Sequence[_Item]) -> Iterator[tuple[str, _Item]]:
    """Each item with a colour of its own."""
    return zip(cycle(COLOURS), items, strict=False)


def draw_binned(
    axes: Axes, series: Sequence[tuple[str, Integers, Integers]], names: Sequence[str], xlabel: str
) -> None:
    """Shares in bins, with Wilson 68 % intervals.

    Parameters
    ----------
    axes : `matplotlib.axes.Axes`
        Where to draw.
    series : `~collections.abc.Sequence` [`tuple`]
        Label, successes and tries, (bin,) each. Bins without tries are left
        out.
    names : `~collections.abc.Sequence` [`str`]
        What to write under each bin.
    xlabel : `str`
        What was binned.
    """
    for place, (colour, (label, k, n)) in enumerate(coloured(series)):
        full = np.flatnonzero(n)
        if len(full):
            share, bars = shares(k[full], n[full])
            x = full + 0.12 * (place - (len(series) - 1) / 2)
            axes.errorbar(x, share, yerr=bars, fmt="o", color=colour, markersize=7, capsize=3, label=label)
    axes.set_xticks(range(len(names)), names, fontsize=9.5)
    axes.set(xlabel=xlabel, xlim=(-0.6, len(names) - 0.4), ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def draw_purity(
    axes: Axes,
    series: Sequence[tuple[str, RankingCurve, tuple[float, float]]],
    target_purity: float,
) -> None:
    """Purity against recovery as the score threshold falls.

    Parameters
    ----------
    axes : `matplotlib.axes.Axes`
        Where to draw.
    series : `~collections.abc.Sequence` [`tuple`]
        Label, ranking, and recovery and purity at the threshold in use.
    target_purity : `float`
        Drawn as a line.
    """
    axes.axhline(target_purity, color=GREY, linestyle=":", linewidth=1)
    for colour, (label, curve, operating) in coloured(series):
        # A recovered source counts with the purity at its own rank, as in the
        # average precision.
        recovery = np.append(0.0, curve.recovery)
        purity = np.append(curve.purity[:1] if len(curve.purity) else 0.0, curve.purity)
        axes.step(recovery, purity, where="pre", color=colour, linewidth=2, label=label)
        axes.plot(*operating, "o", color=colour, markersize=8, clip_on=False)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recovery", ylabel="purity")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))


def draw_reliability(
    axes: Axes, series: Sequence[tuple[str, npt.NDArray[np.float64], npt.NDArray[np.bool_]]]
) -> None:
    """Share of right candidates against their score, with Wilson 68 %
    intervals, and the line on which scores are probabilities.

    Parameters
    ----------
    axes : `matplotlib.axes.Axes`
        Where to draw.
    series : `~collections.abc.Sequence` [`tuple`]
        Label, scores from 0 to 1, and which candidates are right.
    """
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for colour, (label, score, right) in coloured(series):
        mean, n, k = reliability(score, right)
        share, bars = shares(k, n)
        axes.errorbar(mean, share, yerr=bars, fmt="o-", color=colour, capsize=3, label=label)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="mean score", ylabel="right")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
