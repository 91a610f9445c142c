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

"""What a second deblend made of new peaks, as a table on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from ..detections import places_of
from ..neighbours import nearest

__all__ = ["new_object_table"]

_DESCRIPTIONS: Mapping[str, tuple[str, str]] = {
    "id": ("", "object, as in the deblended catalogue"),
    "parent": ("", "top-level parent; 0 if it has it to itself"),
    "ra": ("deg", "right ascension of the peak, ICRS"),
    "dec": ("deg", "declination of the peak, ICRS"),
    "score": ("", "confidence of the detector, for a network the probability of being right"),
    "iteration": ("", "in which residual detection it was found, from 1"),
    "nearest_known": ("", "nearest object that was known before; 0 if there is none"),
    "nearest_distance": ("arcsec", "distance of that; NaN if there is none"),
}
_OF_BANDS: Mapping[str, tuple[str, str]] = {
    "snr": ("", "signal-to-noise ratio as a point source in the residual, before it was deblended"),
    "flux": ("nJy", "deblended flux"),
    "nearest_flux_before": ("nJy", "flux of nearest_known in the deblend before"),
    "nearest_flux_after": ("nJy", "flux of nearest_known beside the new object"),
}


def new_object_table(
    objects: Table, candidates: Table, bands: Sequence[str], pixel_scale_arcsec: float
) -> Table:
    """New objects, with what one would have to join for.

    Parameters
    ----------
    objects : `astropy.table.Table`
        A row for each object of the second deblend that is no sky object:
        ``id``, ``parent``, ``family`` and ``peak`` (ids of the top-level
        parent and of the peak in it), ``y``, ``x`` (pixels), ``score``,
        ``iteration``, and ``before``, ``after`` ((n, band), fluxes in nJy of
        the two deblends; NaN where there is none).
    candidates : `astropy.table.Table`
        From `candidate_table`; those that became peaks are what is new.
    bands : `~collections.abc.Sequence` [`str`]
        Bands of the fluxes.
    pixel_scale_arcsec : `float`
        Size of a pixel.

    Returns
    -------
    new : `astropy.table.Table`
        A row for each new object, surest first: ``id``, ``parent``, ``ra``,
        ``dec`` (degrees), ``score``, ``iteration``, ``nearest_known`` (id),
        ``nearest_distance`` (arcsec), and in each band ``snr_<band>``,
        ``flux_<band>``, ``nearest_flux_before_<band>`` and
        ``nearest_flux_after_<band>`` (nJy). Units and descriptions are the
        columns' own.
    """
    place = {(int(c["parent"]), int(c["peak"])): row for row, c in enumerate(candidates) if c["peak"] > 0}
    row = np.array(
        [
            place.get(key, -1)
            for key in zip(objects["family"].tolist(), objects["peak"].tolist(), strict=True)
        ],
        np.int64,
    )
    known, found, row = objects[row < 0], objects[row >= 0], row[row >= 0]
    surest = np.argsort(-np.asarray(found["score"]), kind="stable")
    found, seen = found[surest], candidates[row[surest]]
    distance, beside = nearest(places_of(found), places_of(known))

    def of_nearest(name: str, absent: Any) -> Any:
        values = np.asarray(known[name])
        return values[beside] if len(known) else np.full((len(found), *values.shape[1:]), absent)

    columns: dict[str, Any] = {
        "id": found["id"],
        "parent": found["parent"],
        "ra": seen["ra"],
        "dec": seen["dec"],
        "score": found["score"],
        "iteration": found["iteration"],
        "nearest_known": of_nearest("id", 0),
        "nearest_distance": distance * pixel_scale_arcsec,
    }
    columns = {name: np.asarray(column) for name, column in columns.items()}
    fluxes = {
        "flux": np.asarray(found["after"]),
        "nearest_flux_before": of_nearest("before", np.nan),
        "nearest_flux_after": of_nearest("after", np.nan),
    }
    for index, band in enumerate(bands):
        in_band = f"snr_{band}"
        missing = np.full(len(found), np.nan, np.float32)
        columns[in_band] = np.asarray(seen[in_band]) if in_band in seen.colnames else missing
        columns |= {f"{name}_{band}": values[:, index] for name, values in fluxes.items()}
    table = Table(columns)
    described = dict(_DESCRIPTIONS)
    for name, (unit, text) in _OF_BANDS.items():
        described |= {f"{name}_{band}": (unit, f"{text}, band {band}") for band in bands}
    for name, (unit, text) in described.items():
        table[name].unit = unit or None
        table[name].description = text
    return table
