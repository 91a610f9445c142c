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


"""What a report shows of the pixels of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..plots.markers import class_label
from ..truth.evaluation import TARGETS, EvaluatedPatch, Evaluation, TruthClass
from .listing import Drawn, choose_candidates, draw_listed
from .report_options import ReportOptions
from .views import Canvas, View, patch_view, source_view

__all__ = ["Contents", "Gallery", "draw_contents"]


@dataclass(frozen=True)
class Gallery:
    """Close-ups of one class, of ``total`` there are."""

    title: str
    views: list[View]
    total: int


def _spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` ranks, evenly from first to last."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def _not_recovered(
    evaluations: Sequence[Evaluation], kind: TruthClass, wanted: int
) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """Place of the patch and row of sources without a new peak, spread evenly
    through their ranking by signal to noise; and how many there are.
    """
    found = [
        (place, dict(row))
        for place, evaluation in enumerate(evaluations)
        if evaluation.truth is not None
        for row in evaluation.truth[evaluation.truth["class"] == kind]
        if row["new_peak_id"] < 0
    ]
    found.sort(key=lambda item: -item[1]["snr"])
    return [found[rank] for rank in _spread(len(found), wanted)], len(found)


@dataclass(frozen=True)
class Contents:
    """What a page shows of the pixels of a run.

    Parameters
    ----------
    drawn : `list` [`Drawn`]
        Candidates, in the order to list them.
    left_out : `dict` [`str`, `int`]
        How many more there are that are not listed.
    views : `list` [`View`]
        Patches.
    galleries : `list` [`Gallery`]
        Close-ups of sources that were not recovered.
    """

    drawn: list[Drawn]
    left_out: dict[str, int]
    views: list[View]
    galleries: list[Gallery]


def draw_contents(patches: Sequence[EvaluatedPatch], options: ReportOptions) -> Contents:
    """Draw what is to be shown, with the pixels of one patch in memory at a
    time.

    Parameters
    ----------
    patches : `~collections.abc.Sequence` [`EvaluatedPatch`]
        The run.
    options : `ReportOptions`
        How much to show.

    Returns
    -------
    contents : `Contents`
        Pictures and facts.
    """
    chosen, left_out = choose_candidates(patches, options)
    evaluations = [patch.evaluation for patch in patches]
    missed = {
        f"Not recovered: {class_label(kind)}": _not_recovered(evaluations, kind, options.max_unrecovered)
        for kind in TARGETS
    }
    drawn: dict[int, Drawn] = {}
    views: list[View] = []
    sources: dict[tuple[str, int], View] = {}
    for place, patch in enumerate(patches):
        listed = [rank for rank, item in enumerate(chosen) if item.place == place]
        of_patch = [
            (title, rank, row)
            for title, (rows, _) in missed.items()
            for rank, (where, row) in enumerate(rows)
            if where == place
        ]
        if not (listed or of_patch or place < options.max_patches):
            continue
        canvas = Canvas(patch.read(), patch.evaluation, options)
        if place < options.max_patches:
            views.append(patch_view(canvas))
        drawn.update(zip(listed, draw_listed(canvas, [chosen[rank] for rank in listed]), strict=True))
        sources.update({(title, rank): source_view(canvas, row) for title, rank, row in of_patch})
        del canvas  # before the next patch is read
    galleries = [
        Gallery(title, [sources[title, rank] for rank in range(len(rows))], total)
        for title, (rows, total) in missed.items()
        if rows
    ]
    return Contents([drawn[rank] for rank in range(len(chosen))], left_out, views, galleries)
