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


"""What withheld peaks say of a detector: figures, a table, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from matplotlib.ticker import PercentFormatter

from ..io.whole_file import write_whole
from ..plots.close_ups import draw_close_ups
from ..plots.png import png_figure
from ..plots.shares import coloured, draw_binned
from ..truth.evaluation import EvaluationOptions
from ..truth.metrics import bin_label, binned_recovery, ratio, scene_interval
from ..truth.summary import strict_json
from .leave_out import LeftOut
from .tables import number_text, percent_text, table_lines, with_interval

__all__ = ["figures_of", "leave_out_markdown", "write_leave_out"]

# New peaks per known peak at which the share found is quoted.
_EXTRA = (0.05, 0.1, 0.2)
_CLOSE_UPS = 24
_PROPERTIES = {
    "snr": ("S/N of the withheld source", (10.0, 20.0, 50.0, 200.0)),
    "separation_fwhm": (
        "separation from the nearest known peak / FWHM",
        (1.0, 1.5, 2.0, 3.0, 5.0),
    ),
    "flux_ratio": ("flux / flux of the nearest known peak", (0.05, 0.2, 0.5, 1.0, 5.0)),
}

_LEGEND = """
Every known peak is withheld once, one at a time in parents of up to five, a fifth at a time in larger ones; a
peak alone in its parent is not. Found: a candidate of at least the threshold lies within {radius:g} pixels of
the withheld peak, and nearer to it than to any known one. New per known: candidates of at least the threshold
where nothing is withheld, over the number of known peaks; they are errors, or sources that the catalogue
lacks (see the close-ups). Without one: the same two without the scene that has the most new peaks, for one
odd scene, about a saturated star, may have them nearly all. Found at 0.05, 0.1 and 0.2: at the threshold
that gives so many new per known.
Intervals: 68 %, by bootstrap over scenes.
"""


def _by_scene(table: Table, names: Sequence[str]) -> npt.NDArray[np.int64]:
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[name] for name in np.asarray(table["scene"]).tolist()], np.int64)


def _quotient(above: npt.NDArray[Any], below: npt.NDArray[Any], rng: np.random.Generator) -> dict[str, Any]:
    """Sum of one over sum of the other, both by scene."""
    interval = scene_interval(lambda w: ratio(float(w @ above), float(w @ below)), len(above), rng)
    return {"value": ratio(float(above.sum()), float(below.sum())), "interval": interval}


def _without_one(
    names: Sequence[str],
    n_found: npt.NDArray[np.int64],
    n_withheld: npt.NDArray[np.int64],
    extra: npt.NDArray[np.int64],
    n_known: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The scene of most new peaks, and what remains without it."""
    one = int(extra.argmax())
    others = np.arange(len(names)) != one
    return {
        "scene": names[one],
        "extra": int(extra[one]),
        "of": int(extra.sum()),
        "found": ratio(float(n_found[others].sum()), float(n_withheld[others].sum())),
        "extra_per_known": ratio(float(extra[others].sum()), float(n_known[others].sum())),
    }


def _threshold_at(left_out: LeftOut, extra: float) -> float:
    """Lowest threshold that gives no more new peaks per known one."""
    scores = np.sort(np.asarray(left_out.extra["score"]))[::-1]
    allowed = int(extra * sum(left_out.n_known.values()))
    return float("-inf") if allowed >= len(scores) else float(np.nextafter(scores[allowed], np.inf))


def figures_of(left_out: LeftOut, rng: np.random.Generator) -> dict[str, Any]:
    """The figures of a detector.

    Parameters
    ----------
    left_out : `LeftOut`
        What it made of withheld peaks.
    rng : `numpy.random.Generator`
        For the bootstrap.

    Returns
    -------
    figures : `dict`
        Shares as ``value`` and ``interval``.
    """
    names = list(left_out.n_known)
    n_known = np.array(list(left_out.n_known.values()), np.int64)
    score = np.asarray(left_out.withheld["score"])
    scene = _by_scene(left_out.withheld, names)
    found = score >= left_out.threshold
    n_withheld = np.bincount(scene, minlength=len(names))
    sure = np.asarray(left_out.extra["score"]) >= left_out.threshold
    extra = np.bincount(_by_scene(left_out.extra, names)[sure], minlength=len(names))
    n_found = np.bincount(scene[found], minlength=len(names))
    bins = {
        column: [
            {"low": item.low, "high": item.high, "n": item.n, "n_found": item.n_recovered}
            for item in binned_recovery(np.asarray(left_out.withheld[column]), found, edges)
        ]
        for column, (_, edges) in _PROPERTIES.items()
    }
    at = {}
    for wanted in _EXTRA:
        threshold = _threshold_at(left_out, wanted)
        hits = np.bincount(scene[score >= threshold], minlength=len(names))
        at[f"{wanted:g}"] = {"threshold": threshold, **_quotient(hits, n_withheld, rng)}
    return {
        "detector": left_out.detector,
        "threshold": left_out.threshold,
        "n_scenes": len(names),
        "n_known": int(n_known.sum()),
        "n_withheld": len(score),
        "found": _quotient(n_found, n_withheld, rng),
        "extra_per_known": _quotient(extra, n_known, rng),
        "without_one": _without_one(names, n_found, n_withheld, extra, n_known),
        "found_at_extra": at,
        "found_by": bins,
    }


def _without_one_text(facts: dict[str, Any]) -> str:
    if not facts["of"]:
        return ""
    rest = f"{percent_text(facts['found'])}, {number_text(facts['extra_per_known'], 3)}"
    return f"{rest} ({facts['scene']} has {facts['extra']} of {facts['of']})"


def leave_out_markdown(figures: Sequence[dict[str, Any]], command: str) -> str:
    """A table of all detectors.

    Parameters
    ----------
    figures : `~collections.abc.Sequence` [`dict`]
        What `figures_of` gave.
    command : `str`
        Command line that made them.

    Returns
    -------
    text : `str`
        Markdown.
    """
    first = figures[0]
    at = [f"found at {extra:g}" for extra in _EXTRA]
    header = ["detector", "threshold", "found", "new per known", "without one", *at]
    rows = [
        [
            item["detector"],
            number_text(item["threshold"], 2),
            with_interval(item["found"], percent_text),
            with_interval(item["extra_per_known"], lambda value: number_text(value, 3)),
            _without_one_text(item["without_one"]),
            *(with_interval(item["found_at_extra"][f"{extra:g}"], percent_text) for extra in _EXTRA),
        ]
        for item in figures
    ]
    blocks = [(header, rows)]
    for column, (label, _) in _PROPERTIES.items():
        bins = first["found_by"][column]
        titles = [f"{bin_label(item['low'], item['high'])} ({item['n']})" for item in bins]
        rows = [
            [item["detector"], *(percent_text(ratio(b["n_found"], b["n"])) for b in item["found_by"][column])]
            for item in figures
        ]
        blocks.append(([f"found, by {label}", *titles], rows))
    text = " ".join(_LEGEND.format(radius=EvaluationOptions().match_radius_pix).split())
    counts = f"Scenes: {first['n_scenes']}; known peaks: {first['n_known']}, withheld: {first['n_withheld']}."
    lines = [f"`{command}`", "", f"{counts} {text}", ""]
    for names, block in blocks:
        lines += table_lines(names, block)
    return "\n".join(lines)


def _curve(left_out: LeftOut) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """New peaks per known one, and share found, as the threshold falls."""
    extra, score = np.asarray(left_out.extra["score"]), np.asarray(left_out.withheld["score"])
    thresholds = np.unique(np.concatenate([extra, score[np.isfinite(score)]]))[::-1]
    per_known = np.array([(extra >= t).sum() for t in thresholds]) / sum(left_out.n_known.values())
    return per_known, np.array([(score >= t).mean() for t in thresholds])


def write_leave_out(
    left_out: Sequence[LeftOut], folder: Path, command: str, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Write figures, tables and pictures.

    Parameters
    ----------
    left_out : `~collections.abc.Sequence` [`LeftOut`]
        One for each detector.
    folder : `pathlib.Path`
        Where to write ``leave_out.md``, ``leave_out.json``, the withheld and
        new peaks of each detector as ECSV tables, and PNG files.
    command : `str`
        Command line that made them.
    rng : `numpy.random.Generator`
        For the bootstrap.

    Returns
    -------
    figures : `list` [`dict`]
        What is in ``leave_out.json``.
    """
    figures = [figures_of(item, rng) for item in left_out]
    for name, text in (
        ("leave_out.md", leave_out_markdown(figures, command)),
        ("leave_out.json", strict_json({"command": command, "detectors": figures})),
    ):
        write_whole(folder / name, text)
    with png_figure(folder / "leave_out_found.png") as axes:
        for colour, item in coloured(left_out):
            axes.step(*_curve(item), where="post", color=colour, linewidth=2, label=item.detector)
        for colour, facts in coloured(figures):
            operating = facts["extra_per_known"]["value"], facts["found"]["value"]
            axes.plot(*operating, "o", color=colour, markersize=8)
        axes.set(xlim=(0, 0.5), ylim=(0, 1.03), xlabel="new peaks per known peak, where nothing is withheld")
        axes.set_ylabel("withheld peaks found again")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for column, (label, _) in _PROPERTIES.items():
        with png_figure(folder / f"leave_out_{column}.png") as axes:
            binned = [
                (
                    facts["detector"],
                    *(np.array([b[key] for b in facts["found_by"][column]]) for key in ("n_found", "n")),
                )
                for facts in figures
            ]
            names = [f"{bin_label(b['low'], b['high'])}\n{b['n']}" for b in figures[0]["found_by"][column]]
            draw_binned(axes, binned, names, label)
            axes.set_ylabel("withheld peaks found again")
    for item in left_out:
        item.withheld.write(folder / f"leave_out_withheld_{item.detector}.ecsv", overwrite=True)
        item.extra.write(folder / f"leave_out_new_{item.detector}.ecsv", overwrite=True)
        surest = sorted(item.close_ups, key=lambda scored: -scored[0])[:_CLOSE_UPS]
        if surest:
            draw_close_ups([picture for _, picture in surest], folder / f"leave_out_new_{item.detector}.png")
    return figures
