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

"""The table that a run ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ..tasks.read_run import Usage

__all__ = ["print_summary"]

# Rows of the table: what a person reads, and the summary's key.
_ROWS = (
    ("true sources", "n_truth"),
    ("peaks of ordinary detection", "n_peaks"),
    ("sources to find (unrecognised)", "n_unrecognized"),
    ("  of these in single-peak parents", "n_unrecognized_single_peak"),
    ("  recovered", "n_recovered"),
    ("new peaks", "n_new_peaks"),
    ("  right", "n_right"),
    ("  shreds", "n_shreds"),
    ("  spurious", "n_spurious"),
    ("  right but faint, not counted", "n_right_faint"),
    ("recovery", "recovery"),
    ("purity", "purity"),
    ("reduced chi-square before", "chi2_before"),
    ("reduced chi-square after", "chi2_after"),
)


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN: there was nothing to divide by
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_summary(summary: Mapping[str, Any], usage: Mapping[str, Usage], detector: str) -> None:
    """Print the figures of a run and what each task took."""
    console = Console(highlight=False)
    console.print(f"Residual detection with {detector}", soft_wrap=True)
    figures = Table()
    figures.add_column("figure")
    figures.add_column("value", justify="right")
    for label, key in _ROWS:
        figures.add_row(label, _text(summary.get(key)))
    console.print(figures)
    tasks = Table(title="Tasks")
    tasks.add_column("task")
    for column in ("patches", "seconds", "peak memory, MiB"):
        tasks.add_column(column, justify="right")
    for label, used in usage.items():
        tasks.add_row(label, str(used.n_quanta), f"{used.seconds:.1f}", f"{used.peak_memory_mib:.0f}")
    console.print(tasks)
