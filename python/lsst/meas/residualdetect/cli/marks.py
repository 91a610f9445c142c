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


"""``residualdetect marks``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..experiments.tables import percent_text, with_interval
from .common import check_parent, share_option

__all__ = ["marks"]


_percent = partial(percent_text, digits=0)
_with_interval = partial(with_interval, text=_percent)


def _score(point: Mapping[str, Any]) -> str:
    """A threshold, rounded so that who has just that score stays above it."""
    return f"{math.floor(1e4 * point['threshold']) / 1e4:g}"


def _print(figures: Mapping[str, Any]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    counts = ", ".join(f"{figures[f'n_{mark}']} {mark}" for mark in ("real", "artefact", "unsure"))
    worst, best = figures["purity"]["if_unsure"]
    table = Table(
        title="Candidates by score, and their purity",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("score", "mean", "all", "real", "artefact", "unsure", "purity, 68 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in figures["by_score"]:
        table.add_row(
            f"{row['low']:.3g} to {row['high']:.3g}",
            f"{row['mean_score']:.3g}",
            *(str(row[key]) for key in ("n", "n_real", "n_artefact", "n_unsure")),
            _with_interval(row),
        )
    out.print(table)
    out.print(f"New peaks: {figures['n']}, of them marked {counts}.")
    out.print(f"Purity of the new peaks: {_with_interval(figures['purity'])}", end="")
    out.print(f"; {_percent(worst)} to {_percent(best)} of those marked, as the unsure ones may be.")
    if figures["n_below"]:
        out.print(
            f"Not in it: {figures['n_below']} new peaks of scores below {figures['lowest']:.3g}, "
            "of which none was told real or artefact."
        )
    wanted = _percent(figures["wanted"])
    for key, otherwise, which in (
        ("reaches", "best", ""),
        ("surely_reaches", "surest", ", its whole interval,"),
    ):
        point = figures[key]
        if point is None:
            best = figures[otherwise]
            out.print(
                f"At no score is purity{which} {wanted} or more; "
                f"the highest is {_with_interval(best)}, from {_score(best)}."
            )
        else:
            out.print(
                f"Purity{which} is {wanted} or more from a score of {_score(point)}: "
                f"{_with_interval(point)}, {point['n_candidates']} candidates, "
                f"{_percent(point['kept'])} of the real ones."
            )


@click.command()
@click.argument("path", metavar="MARKS.csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@share_option("--purity", 0.9, "Purity wanted, a share.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file to write the figures to."
)
def marks(path: Path, purity: float, out: Path | None) -> None:
    """How pure new peaks are, from the marks given in a report.

    Reads the table that the page of `residualdetect report` saves. Says the
    purity of the new peaks with its interval, also by score, and from which
    score on candidates are as pure as is wanted: that is the score_threshold
    to run with.

    \b
    Example:
      residualdetect marks marks.csv --purity 0.95
    """
    from ..io.marks_file import read_marks
    from ..io.whole_file import write_whole
    from ..truth.marks import Mark, judge_marks
    from ..truth.summary import strict_json

    if out is not None:
        check_parent(out)
    table = read_marks(path, tuple(Mark))
    try:
        figures = judge_marks(table, purity)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if out is not None:
        write_whole(out, strict_json(figures))
    _print(figures)
