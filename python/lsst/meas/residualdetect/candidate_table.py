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


"""A detector's candidates as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from .candidates import Candidate
from .detections import Detections
from .noise import point_source_snr
from .scene import Array, Scene

__all__ = ["candidate_table"]


def candidate_table(
    candidates: Sequence[Candidate], detections: Detections, scene: Scene, residual: Array, iteration: int
) -> Table:
    """All candidates, surest first, with the peaks they became.

    Parameters
    ----------
    candidates : `~collections.abc.Sequence` [`Candidate`]
        What a detector found.
    detections : `Detections`
        The catalogue with those that became peaks.
    scene : `Scene`
        Coadds.
    residual : `numpy.ndarray`, (band, y, x), float32
        Coadds minus models.
    iteration : `int`
        Number that the new peaks carry.

    Returns
    -------
    table : `astropy.table.Table`
        ``peak`` and ``parent`` (ids; 0 if it became none), ``y``, ``x``
        (patch pixels), ``ra``, ``dec`` (degrees; NaN if unknown), ``score``,
        ``area`` (pixels) and ``snr_<band>`` (of a point source in the
        residual, at the pixel nearest to the centre).
    """
    became = {
        (peak.y, peak.x): (peak.id, parent.id)
        for parent in detections
        for peak in parent.peaks
        if peak.iteration == iteration
    }
    ranked = sorted(candidates, key=lambda candidate: -candidate.score)
    ids = np.array([became.get((c.y, c.x), (0, 0)) for c in ranked], np.int64).reshape(-1, 2)
    y = np.array([c.y for c in ranked], np.float64)
    x = np.array([c.x for c in ranked], np.float64)
    ra, dec = scene.sky_position(y, x) if scene.sky_position else np.full((2, len(ranked)), np.nan)
    snr = point_source_snr(residual, scene, y, x)
    columns: dict[str, Any] = {
        "peak": ids[:, 0],
        "parent": ids[:, 1],
        "y": y,
        "x": x,
        "ra": ra,
        "dec": dec,
        "score": np.array([c.score for c in ranked], np.float64),
        "area": np.array([c.footprint.area for c in ranked], np.int64),
    }
    columns |= {f"snr_{band}": snr[:, index] for index, band in enumerate(scene.bands)}
    table = Table(columns)
    for name in ("ra", "dec"):
        table[name].unit = "deg"
    return table
