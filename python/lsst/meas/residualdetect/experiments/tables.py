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

"""The results of a comparison as a table to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .entry import Entry

__all__ = ["markdown", "number_text", "percent_text", "table_lines", "with_interval"]


_LEGEND = """
True sources: signal-to-noise ratio {min_snr:g} and more over all bands; to find: without a peak of their
own in a footprint. Average precision and recovery at fixed purity: all candidates, ranked by
score. Recovery, purity, shreds (of the matched sources) and what follows: at the detector's own threshold.
Match radius {match_radius_pix:g} pixels. Before and after the re-deblend: flux error (median, all bands) and
colour error (median, g - i or the first and last band) of recognised sources in parents that hold a source to
be found (blended) and of those within {neighbour_radius_pix:g} pixels of one that was recovered (neighbours);
flux error of the recovered sources, after; reduced chi-square of the parents that gained peaks. Gain over 25:
sources to be found around which (2 sigma of the PSF) chi-square falls by more than 25. The detector oracle is
told the true centres of all sources of signal-to-noise ratio 5 and more without a peak. Intervals: 68 %, by
bootstrap over scenes.
"""

_WHO = ("blended", "neighbours")


def percent_text(value: float, digits: int = 1) -> str:
    """A share in per cent; a dash if it is not finite."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "-"


def number_text(value: float, digits: int) -> str:
    """A number; a dash if it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def with_interval(figure: Mapping[str, Any], text: Callable[[float], str]) -> str:
    """A figure and its interval, such as ``87 % (84 % to 90 %)``.

    Parameters
    ----------
    figure : `~collections.abc.Mapping`
        With ``value`` and ``interval``.
    text : `~collections.abc.Callable`
        How to write a number.
    """
    low, high = figure["interval"]
    if not math.isfinite(low):
        return text(figure["value"])
    return f"{text(figure['value'])} ({text(low)} to {text(high)})"


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, with an empty line after it."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)] + [""]


def _row(entry: Entry, iteration: int) -> list[str]:
    figures, run = entry.figures, entry.iterations[iteration]
    flux, colour = run["flux_error"], run["colour_error_mag"]
    first = iteration == 0
    precision = {
        "value": figures["average_precision"],
        "interval": figures["average_precision_interval"],
    }
    recoveries = figures["recovery_at_purity"].values()
    return [
        entry.population,
        entry.detector,
        str(iteration + 1),
        f"{run['n_truth']}",
        f"{run['n_unrecognized']} ({percent_text(run['n_unrecognized'] / max(run['n_truth'], 1), 0)})",
        with_interval(precision, lambda value: number_text(value, 3)) if first else "",
        *(with_interval(item, percent_text) if first else "" for item in recoveries),
        percent_text(run["recovery"]),
        percent_text(run["purity"]),
        percent_text(run["shreds_per_matched_source"], 2),
        number_text(run["centroid_error_pix"], 2),
        *(
            f"{percent_text(flux[f'{who}_before']['all'])} → {percent_text(flux[f'{who}_after']['all'])}"
            for who in _WHO
        ),
        percent_text(flux["recovered_after"]["all"]),
        *(
            f"{number_text(colour[f'{who}_before'], 3)} → {number_text(colour[f'{who}_after'], 3)}"
            for who in _WHO
        ),
        f"{number_text(run['chi2_before'], 3)} → {number_text(run['chi2_after'], 3)}",
        percent_text(figures["targets_with_chi2_gain_over_25"], 0) if first else "",
    ]


def markdown(entries: Sequence[Entry], command: str) -> str:
    """A table of all entries, a row for each iteration.

    Parameters
    ----------
    entries : `~collections.abc.Sequence` [`Entry`]
        What `compare` gave.
    command : `str`
        Command line that made them.

    Returns
    -------
    text : `str`
        Markdown.
    """
    options = entries[0].options
    header = [
        *("population", "detector", "iteration", "true sources", "to find", "average precision"),
        *(f"recovery at {purity:.0%} purity" for purity in entries[0].purities),
        *("recovery", "purity", "shreds", "centroid error, pixels"),
        *(f"flux error, {who}" for who in (*_WHO, "recovered")),
        *(f"colour error, {who}, mag" for who in _WHO),
        *("chi-square", "gain over 25"),
    ]
    rows = [_row(entry, number) for entry in entries for number in range(len(entry.iterations))]
    legend = " ".join(_LEGEND.format(**asdict(options)).split())
    return "\n".join([f"`{command}`", "", legend, "", *table_lines(header, rows)])
