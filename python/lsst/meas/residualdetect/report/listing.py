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


"""The candidates that a report lists, each with its close-ups."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..boxes import is_inside, nearest_pixel
from ..detections import positions_of
from ..neighbours import distances_to
from ..noise import point_source_flux, snr_over_bands
from ..plots.markers import Marker, window_around
from ..plots.pictures import jpeg_base64
from ..truth.evaluation import EvaluatedPatch, PeakClass
from .report_options import ReportOptions
from .views import Canvas

__all__ = ["Drawn", "Listed", "choose_candidates", "draw_listed"]


@dataclass(frozen=True)
class Listed:
    """A candidate as the run's tables know it.

    Parameters
    ----------
    place : `int`
        Place of its patch in the run.
    peak, parent : `int`
        Ids of the peak that it became and of that peak's parent; 0 if none.
    y, x : `float`
        Centre in patch coordinates.
    score : `float`
        The detector's confidence.
    reason : `str`
        Why it became no peak; empty if it did.
    kind : `str`
        What the truth says of the peak, a `PeakClass`; empty if nothing.
    """

    place: int
    peak: int
    parent: int
    y: float
    x: float
    score: float
    reason: str
    kind: str


@dataclass(frozen=True)
class Drawn:
    """A candidate as the page lists it.

    Parameters
    ----------
    facts : `dict`
        What can be sorted and filtered by.
    pictures : `str`
        JSON of its close-ups and the marks on them, to be read when seen.
    """

    facts: dict[str, Any]
    pictures: str


def _listed(place: int, patch: EvaluatedPatch) -> Iterator[Listed]:
    for row in patch.evaluation.peaks:
        kind = "" if row["class"] == PeakClass.UNLABELLED else str(row["class"])
        y, x, score = (float(row[name]) for name in ("y", "x", "score"))
        yield Listed(place, int(row["id"]), int(row["parent_id"]), y, x, score, "", kind)
    if patch.candidates is not None:
        for row in patch.candidates[patch.candidates["peak"] == 0]:
            y, x, score = (float(row[name]) for name in ("y", "x", "score"))
            yield Listed(place, 0, 0, y, x, score, str(row["reason"]), "")


def choose_candidates(
    patches: Sequence[EvaluatedPatch], options: ReportOptions
) -> tuple[list[Listed], dict[str, int]]:
    """The candidates to show.

    Parameters
    ----------
    patches : `~collections.abc.Sequence` [`EvaluatedPatch`]
        The run.
    options : `ReportOptions`
        How many.

    Returns
    -------
    chosen : `list` [`Listed`]
        New peaks of all iterations before other candidates of the last one,
        surest first.
    left_out : `dict` [`str`, `int`]
        How many more there are of either, if there are.
    """
    every = [item for place, patch in enumerate(patches) for item in _listed(place, patch)]
    every.sort(key=lambda item: -np.nan_to_num(item.score, nan=-np.inf))
    peaks = [item for item in every if item.peak]
    others = [item for item in every if not item.peak]
    left_out = {
        "new peaks": len(peaks) - options.max_peaks,
        "other candidates": len(others) - options.max_others,
    }
    chosen = peaks[: options.max_peaks] + others[: options.max_others]
    return chosen, {name: count for name, count in left_out.items() if count > 0}


def _number(value: float, digits: int) -> float | None:
    """A number for JSON; none if it is not finite."""
    return round(float(value), digits) if math.isfinite(value) else None


def _marks(markers: Sequence[Marker]) -> list[tuple[str, float, float, str]]:
    return [(mark.kind, round(mark.x, 1), round(mark.y, 1), mark.text) for mark in markers]


def _pictures(canvas: Canvas, item: Listed) -> str:
    size = canvas.options.zoom_pix
    window = window_around(canvas.result.scene, item.y, item.x, size)
    known, found = (_marks(markers) for markers in canvas.markers(window))
    # What lies beyond a small scene is black, to the right and below.
    edges = ((size - window.height, 0), (0, size - window.width), (0, 0))
    pictures = [np.pad(picture, edges) for picture in canvas.pictures(window)]
    return json.dumps(
        {
            # Side by side in one picture, which the browser decodes at once.
            "jpeg": jpeg_base64(np.concatenate(pictures, axis=1)),
            "subject": [round(value, 1) for value in window.to_picture(item.y, item.x)],
            "known": known,
            "found": found,
        },
        separators=(",", ":"),
    ).replace("<", "\\u003c")


def draw_listed(canvas: Canvas, chosen: Sequence[Listed]) -> Iterator[Drawn]:
    """Facts and close-ups of a patch's candidates.

    Parameters
    ----------
    canvas : `Canvas`
        The patch.
    chosen : `~collections.abc.Sequence` [`Listed`]
        Its candidates.

    Yields
    ------
    item : `Drawn`
        Facts: ``patch``, ``peak``, ``parent`` (in whose footprint it lies; 0
        if in none), ``y``, ``x``, ``ra``, ``dec`` (degrees), ``score``,
        ``snr`` (of a point source in the first model's residual, over all
        bands), ``distance_pix`` and ``distance_arcsec`` (to the nearest
        known peak), ``reason`` and ``class``.
    """
    if not chosen:
        return
    result = canvas.result
    scene = result.scene
    y, x = np.array([(item.y, item.x) for item in chosen], np.float64).T
    places = np.stack([y, x], axis=1)
    snr = snr_over_bands(*point_source_flux(scene.images - canvas.before, scene, y, x))
    known = positions_of(
        tuple(peak for parent in result.before if not parent.is_sky for peak in parent.peaks)
    )
    distance = distances_to(places, known)
    ra, dec = scene.sky(y, x)
    labels = result.after.labels(scene.shape, scene.origin)
    ids = [0, *(parent.id for parent in result.after)]
    pixels = nearest_pixel(places, scene.origin)
    inside = is_inside(pixels, scene.shape)
    for row, item in enumerate(chosen):
        parent = item.parent or (ids[labels[tuple(pixels[row])]] if inside[row] else 0)
        facts = {
            "patch": result.name,
            "peak": item.peak,
            "parent": int(parent),
            "y": round(item.y, 2),
            "x": round(item.x, 2),
            "ra": _number(ra[row], 7),
            "dec": _number(dec[row], 7),
            "score": _number(item.score, 6),
            "snr": _number(snr[row], 2),
            "distance_pix": _number(distance[row], 2),
            "distance_arcsec": _number(distance[row] * scene.pixel_scale_arcsec, 3),
            "reason": item.reason,
            "class": item.kind,
        }
        yield Drawn(facts, _pictures(canvas, item))
