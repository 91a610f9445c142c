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


"""Tables of several patches, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from .evaluation import COUNTED, TARGETS, Evaluation, PeakClass
from .metrics import RankingCurve, ranking_curve

__all__ = ["classified_curve", "pooled_column", "pooled_curve", "target_rows"]


def pooled_column(evaluations: Sequence[Evaluation], table: str, name: str) -> npt.NDArray[Any]:
    """One column of a table of all patches that have it, end to end.

    Parameters
    ----------
    evaluations : `~collections.abc.Sequence` [`Evaluation`]
        Patches.
    table : `str`
        ``truth``, ``peaks`` or ``parents``.
    name : `str`
        Column.

    Returns
    -------
    column : `numpy.ndarray`, (n,)
        Empty if no patch has the column.
    """
    tables = [getattr(evaluation, table) for evaluation in evaluations]
    columns = [np.asarray(item[name]) for item in tables if item is not None and name in item.colnames]
    return np.concatenate(columns) if columns else np.empty(0)


def target_rows(evaluations: Sequence[Evaluation]) -> npt.NDArray[np.bool_]:
    """True for the unrecognised and partially deblended sources of the
    pooled truth: (n,), bool.
    """
    return np.isin(pooled_column(evaluations, "truth", "class"), TARGETS)


def classified_curve(
    peaks: Table, n_targets: float, weight: npt.NDArray[np.float64] | None = None
) -> RankingCurve:
    """Purity and recovery of classified peaks, ranked by score; those on
    sources too faint to count are left out.

    Parameters
    ----------
    peaks : `astropy.table.Table`
        Columns ``score``, ``class`` and ``target``; see `Evaluation`.
    n_targets : `float`
        Number of sources that were to be found.
    weight : `numpy.ndarray`, (n,), optional
        How often each peak counts; once if absent.

    Returns
    -------
    curve : `RankingCurve`
        The ranking.
    """
    name = np.asarray(peaks["class"])
    counted = np.isin(name, COUNTED)
    return ranking_curve(
        np.asarray(peaks["score"])[counted],
        name[counted] == PeakClass.RIGHT,
        np.asarray(peaks["target"])[counted].astype(bool),
        n_targets,
        None if weight is None else weight[counted],
    )


def pooled_curve(evaluations: Sequence[Evaluation]) -> RankingCurve:
    """The `classified_curve` of all patches' new peaks."""
    known = [evaluation for evaluation in evaluations if evaluation.truth is not None]
    names = ("score", "class", "target")
    pooled = Table({name: pooled_column(known, "peaks", name) for name in names})
    return classified_curve(pooled, int(target_rows(known).sum()))
