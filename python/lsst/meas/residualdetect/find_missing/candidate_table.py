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

from ..candidates import Candidate, Fate, Placement
from ..detections import positions_of
from ..noise import point_source_flux, snr_over_bands
from ..scene import Array, Scene

__all__ = ["candidate_table"]


def candidate_table(
    scene: Scene, model_image: Array, candidates: Sequence[Candidate], placements: Sequence[Placement]
) -> Table:
    """All candidates, surest first, with what became of them.

    Parameters
    ----------
    scene : `Scene`
        Coadds, with what was not to be looked at marked as bad.
    model_image : `numpy.ndarray`, (band, y, x), float32
        All deblended sources, convolved to each band's PSF.
    candidates : `~collections.abc.Sequence` [`Candidate`]
        What was found, surest first.
    placements : `~collections.abc.Sequence` [`Placement`]
        What became of each.

    Returns
    -------
    table : `astropy.table.Table`
        ``peak`` and ``parent`` (ids; 0 if it became none), ``y``, ``x``
        (patch pixels), ``ra``, ``dec`` (degrees; NaN if unknown), ``score``,
        ``area`` (pixels), ``n_bands`` (that have seen it), ``contrast``
        (light of the residual over that of the model, as signal-to-noise
        ratios of a point source over all bands), ``reason`` (why it became no
        peak; empty if it did) and ``snr_<band>`` (of a point source in the
        residual, at the pixel nearest to the centre, without bad pixels).
    """
    y, x = positions_of(candidates).T
    ra, dec = scene.sky(y, x)
    flux, sigma = point_source_flux(scene.images - model_image, scene, y, x)
    snr = (flux / sigma).astype(np.float32)
    light = snr_over_bands(point_source_flux(model_image, scene, y, x)[0], sigma)
    contrast = np.divide(snr_over_bands(flux, sigma), light, out=np.full(len(light), np.inf), where=light > 0)
    columns: dict[str, Any] = {
        "peak": np.array([p.peak for p in placements], np.int64),
        "parent": np.array([p.parent for p in placements], np.int64),
        "y": y,
        "x": x,
        "ra": ra,
        "dec": dec,
        "score": np.array([c.score for c in candidates], np.float64),
        "area": np.array([c.footprint.area for c in candidates], np.int64),
        "n_bands": np.array([c.seen_in for c in candidates], np.int64),
        "contrast": contrast,
        "reason": np.array(["" if p.fate == Fate.ADDED else p.fate.value for p in placements], np.str_),
    }
    columns |= {f"snr_{band}": snr[:, index] for index, band in enumerate(scene.bands)}
    table = Table(columns)
    for name in ("ra", "dec"):
        table[name].unit = "deg"
    return table
