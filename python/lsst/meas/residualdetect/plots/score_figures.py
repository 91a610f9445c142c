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

"""Plots of the report that show what scores are worth."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from ..truth.evaluation import PeakClass
from ..truth.metrics import reliability, shares
from .run_figures import MAIN, PEAK_COLOURS
from .svg import STYLE, TEXT, new_figure, to_svg

__all__ = ["reliability_figure", "score_figure"]


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
        With Wilson 68 % intervals, and the line on which scores are
        probabilities.
    """
    mean, n, k = reliability(scores, right)
    with mpl.rc_context(STYLE):
        figure, axes = new_figure()
        axes.plot([0, 1], [0, 1], color=TEXT, linestyle=":", linewidth=1)
        share, bars = shares(k, n)
        axes.errorbar(mean, share, yerr=bars, fmt="o", color=MAIN, markersize=7, capsize=3)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("score")
        axes.set_ylabel("right")
        return to_svg(figure, "reliability")
