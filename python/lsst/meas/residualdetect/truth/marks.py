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


"""Purity from the marks that a person gave to candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from ..candidates import Fate
from .metrics import Booleans, Floats, ratio, shares

__all__ = ["Mark", "judge_marks"]

# Strata have at least so many candidates told real or artefact, and are no
# more than so many.
_LEAST_IN_STRATUM, _MOST_STRATA = 10, 10


class Mark(StrEnum):
    """What a person makes of a candidate."""

    REAL = "real"
    """A source that the catalogue lacked."""
    ARTEFACT = "artefact"
    """Anything else: noise, a shred, a flaw of model, PSF or image."""
    UNSURE = "unsure"
    """Not to be told from the pictures."""


@dataclass(frozen=True, eq=False)
class _Marked:
    """Candidates that are peaks, or would be at a lower threshold, down to
    the lowest score at which one was told real or artefact: (n,).
    """

    score: Floats
    is_peak: Booleans
    mark: npt.NDArray[np.str_]
    stratum: npt.NDArray[np.int64]
    n_strata: int

    @property
    def told(self) -> Booleans:
        """Those told real or artefact."""
        return np.isin(self.mark, [Mark.REAL, Mark.ARTEFACT])


def _edges(score: Floats, told: Floats) -> Floats:
    """Inner edges of strata in score: of about equal numbers of candidates,
    joined where too few of them were told.
    """
    edges: list[float] = []
    for cut in np.unique(np.quantile(score, np.arange(1, _MOST_STRATA) / _MOST_STRATA))[::-1]:
        above = (told >= cut) & (told < (edges[-1] if edges else np.inf))
        if min(above.sum(), (told < cut).sum()) >= _LEAST_IN_STRATUM:
            edges.append(float(cut))
    return np.array(edges[::-1])


def _read(table: Table) -> tuple[_Marked, int]:
    """What was looked at, and how many new peaks lie below it."""
    peak, reason = np.asarray(table["peak"]), np.asarray(table["reason"])
    score, mark = np.asarray(table["score"], np.float64), np.asarray(table["mark"], np.str_)
    use = ((peak > 0) | (reason == Fate.BELOW_THRESHOLD)) & np.isfinite(score)
    told = score[use & np.isin(mark, [Mark.REAL, Mark.ARTEFACT])]
    if not len(told):
        raise ValueError(f"none of {use.sum()} candidates is marked real or artefact")
    looked = use & (score >= told.min())
    edges = _edges(score[looked], told)
    stratum = np.searchsorted(edges, score[looked], side="right")
    marked = _Marked(score[looked], peak[looked] > 0, mark[looked], stratum, len(edges) + 1)
    return marked, int((use & ~looked & (peak > 0)).sum())


def _purity(marked: _Marked, of: Booleans) -> dict[str, Any]:
    """Purity of some candidates, of which some are marked.

    Who marks may have looked at the surest first, or at a few; so purity is
    that of strata in score, each weighted by all its candidates, and what is
    unsure or not marked is taken to be as pure as the rest of its stratum.
    The interval adds Wilson's of the strata in quadrature (Newcombe 1998,
    Stat. Med. 17, 873; Zou & Donner 2008, Stat. Med. 27, 1693); of one
    stratum it is Wilson's.
    """
    told, real = of & marked.told, of & (marked.mark == Mark.REAL)
    total, n, k = (np.bincount(marked.stratum[rows], minlength=marked.n_strata) for rows in (of, told, real))
    seen = n > 0
    if not seen.any():
        return {"value": np.nan, "interval": (np.nan, np.nan), "n_real": np.nan}
    share, (below, above) = shares(k[seen], n[seen])
    weight = total[seen] / total[seen].sum()
    value = float(weight @ share)
    low, high = (float(np.sqrt(np.square(weight * error).sum())) for error in (below, above))
    return {"value": value, "interval": (value - low, value + high), "n_real": float(total[seen] @ share)}


def _at_threshold(marked: _Marked, threshold: float) -> dict[str, Any]:
    above = marked.score >= threshold
    return {"threshold": threshold, "n_candidates": int(above.sum()), **_purity(marked, above)}


def _counts(marked: _Marked, of: Booleans) -> dict[str, int]:
    counts = {f"n_{mark}": int((of & (marked.mark == mark)).sum()) for mark in Mark}
    return {"n": int(of.sum()), **counts}


def _strata(marked: _Marked) -> list[dict[str, Any]]:
    rows = []
    for number in range(marked.n_strata):
        of = marked.stratum == number
        if of.any():
            score = marked.score[of]
            purity = _purity(marked, of)
            rows.append(
                {
                    "low": float(score.min()),
                    "high": float(score.max()),
                    "mean_score": float(score.mean()),
                    **_counts(marked, of),
                    "value": purity["value"],
                    "interval": purity["interval"],
                }
            )
    return rows[::-1]


def _lowest(points: list[dict[str, Any]], reaches: list[bool]) -> dict[str, Any] | None:
    allowed = [point for point, good in zip(points, reaches, strict=True) if good]
    if not allowed:
        return None
    # Of the real ones among all that were looked at.
    kept = ratio(allowed[-1]["n_real"], points[-1]["n_real"])
    return {**allowed[-1], "kept": kept}


def judge_marks(table: Table, wanted: float) -> Mapping[str, Any]:
    """How pure new peaks are, and from which score on they are as pure as is
    wanted.

    Parameters
    ----------
    table : `astropy.table.Table`
        Candidates: ``score``, ``peak`` (id; 0 if it became none), ``reason``
        (why it became none, a `Fate`) and ``mark`` (a `Mark`; empty for
        none). Candidates that became no peak for another reason than their
        score would become none at any, and are left out.
    wanted : `float`
        Purity.

    Returns
    -------
    figures : `~collections.abc.Mapping`
        Numbers of new peaks (``n``) and of those marked (``n_real`` ...),
        down to the ``lowest`` score that was told; ``n_below`` that are below
        it, and in no other figure; their ``purity``, with ``if_unsure``, what it is if all that are
        unsure are artefacts or real; ``by_score``, the same for strata of
        all candidates, highest first; ``reaches``, the lowest score from
        which purity is as wanted, and ``surely_reaches``, from which the
        lower end of its interval is; `None` if there is none. ``best`` and
        ``surest`` are where purity and the lower end are highest. ``kept`` is
        the share of the real ones that is above a threshold. Intervals
        are 68 %.

    Raises
    ------
    ValueError
        Raised if no candidate was told real or artefact, or the purity
        wanted is no share.
    """
    if not 0 < wanted <= 1:
        raise ValueError(f"the purity wanted is {wanted}; expected a share above 0, up to 1")
    marked, n_below = _read(table)
    peaks = _counts(marked, marked.is_peak)
    told = peaks["n_real"] + peaks["n_artefact"] + peaks["n_unsure"]
    purity = _purity(marked, marked.is_peak)
    points = [_at_threshold(marked, float(t)) for t in np.unique(marked.score[marked.told])[::-1]]
    return {
        **peaks,
        "n_below": n_below,
        "lowest": float(marked.score.min()),
        "purity": {
            "value": purity["value"],
            "interval": purity["interval"],
            "if_unsure": (
                ratio(peaks["n_real"], told),
                ratio(peaks["n_real"] + peaks["n_unsure"], told),
            ),
        },
        "by_score": _strata(marked),
        "wanted": wanted,
        "reaches": _lowest(points, [point["value"] >= wanted for point in points]),
        "surely_reaches": _lowest(points, [point["interval"][0] >= wanted for point in points]),
        "best": max(points, key=lambda point: point["value"]),
        "surest": max(points, key=lambda point: point["interval"][0]),
    }
