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


"""Known and new sources as a table of the sky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.table import Table, hstack

from ..boxes import nearest_pixel
from ..deblend.centroids import centroids
from ..deblend.flux_errors import flux_errors
from ..detections import places_of, positions_of
from ..neighbours import nearest
from ..scene import Scene
from ..scene_model import SceneModel
from .missing import Missing

__all__ = ["all_sources", "new_sources"]

_DESCRIPTIONS: Mapping[str, str] = {
    "id": "number of the peak",
    "name": "name in the catalogue of known sources, else the number",
    "new": "whether it was found in the residual",
    "ra": "right ascension, ICRS",
    "dec": "declination, ICRS",
    "y": "pixel, centres on integers from 0; of new sources the centroid of what is theirs",
    "x": "as y",
    "parent": "number of its footprint",
    "score": "confidence of the detector",
    "area": "pixels of its mask",
    "n_bands": "bands in which it stands out",
    "contrast": "its light over that of the known sources there, before it was deblended",
    "nearest_known": "name of the nearest known source",
    "nearest_distance": "distance of that",
    "flag_no_model": "it could not be deblended",
    "flag_bad_pixel": "the pixel that it lies on is masked in some band",
    "flag_edge": "its PSF reaches over the image's edge",
}
_OF_BANDS: Mapping[str, str] = {
    "snr": "signal-to-noise ratio as a point source in the residual, before it was deblended",
    "flux": "flux after it was deblended",
    "flux_err": "standard deviation of that, of all fluxes of the parent fitted together",
}


def all_sources(
    scene: Scene,
    missing: Missing,
    model: SceneModel,
    *,
    known_names: Sequence[str] | npt.NDArray[np.str_] | None = None,
    flux_units: Sequence[str] = (),
) -> Table:
    """Every source, known and new.

    Parameters
    ----------
    scene : `Scene`
        The coadds.
    missing : `Missing`
        What a look at their residual gave.
    model : `SceneModel`
        Deblended sources of ``missing.detections``.
    known_names : `~collections.abc.Sequence` [`str`], optional
        Names of the peaks of ``missing.before``, in the order of their ids;
        the ids if absent.
    flux_units : `~collections.abc.Sequence` [`str`], optional
        Unit of the pixels in each band; empty where it is unknown.

    Returns
    -------
    sources : `astropy.table.Table`
        A row for each peak, in the order of their ids: ``id``, ``name``,
        ``new``, ``ra``, ``dec`` (ICRS, degrees; NaN if unknown), ``y``, ``x``
        (pixels; of new sources from `centroids`), ``parent``, ``flux_<band>``, ``flux_err_<band>`` (NaN where
        there is no model) and ``flag_<what>`` (bool).
    """
    before = sorted(peak.id for peak in missing.before.peaks)
    names = dict(zip(before, before if known_names is None else known_names, strict=True))
    found = sorted(
        ((peak, parent.id) for parent in missing.detections for peak in parent.peaks),
        key=lambda pair: pair[0].id,
    )
    peaks = [peak for peak, _ in found]
    ids = np.array([peak.id for peak in peaks], np.int64)
    y, x = positions_of(peaks).T
    new = ~np.isin(ids, before)
    y[new], x[new] = centroids(scene, model, ids[new], np.stack([y[new], x[new]], axis=1)).T
    ra, dec = scene.sky(y, x)
    fluxes, errors = model.peak_fluxes(ids), flux_errors(scene, model, ids)
    columns: dict[str, Any] = {
        "id": ids,
        "name": np.array([str(names.get(peak.id, peak.id)) for peak in peaks], np.str_),
        "new": new,
        "ra": ra,
        "dec": dec,
        "y": y,
        "x": x,
        "parent": np.array([parent for _, parent in found], np.int64),
    }
    for index, band in enumerate(scene.bands):
        columns |= {f"flux_{band}": fluxes[:, index], f"flux_err_{band}": errors[:, index]}
    row, column = nearest_pixel(np.stack([y, x], axis=1), scene.origin).T
    margin = np.array(scene.psfs.shape[1:]) // 2
    columns["flag_no_model"] = ~np.isfinite(fluxes).all(axis=1)
    # What a source leaves may have its centre beyond the edge.
    inside = np.clip(row, 0, scene.shape[0] - 1), np.clip(column, 0, scene.shape[1] - 1)
    columns["flag_bad_pixel"] = scene.bad()[:, *inside].any(axis=0)
    columns["flag_edge"] = (
        (row < margin[0])
        | (column < margin[1])
        | (row >= scene.shape[0] - margin[0])
        | (column >= scene.shape[1] - margin[1])
    )
    return _described(Table(columns), scene.bands, flux_units)


def new_sources(missing: Missing, sources: Table) -> Table:
    """What was found in the residual.

    Parameters
    ----------
    missing : `Missing`
        What a look at a residual gave.
    sources : `astropy.table.Table`
        From `all_sources`.

    Returns
    -------
    new : `astropy.table.Table`
        A row for each new source, surest first: the columns of ``sources``
        but ``name`` and ``new``; ``score``, ``area`` (pixels), ``n_bands``,
        ``contrast`` and ``snr_<band>`` as in `candidate_table`;
        ``nearest_known`` (name) and ``nearest_distance`` (arcsec; NaN if
        nothing is known).
    """
    bands = missing.scene.bands
    candidates = missing.table
    candidates = candidates[candidates["peak"] > 0]
    place = {int(number): row for row, number in enumerate(sources["id"])}
    new = sources[np.array([place[number] for number in candidates["peak"]], np.int64)]
    known = sources[~sources["new"]]
    distance, which = nearest(places_of(new), places_of(known))
    beside = Table(
        {
            "nearest_known": known["name"][which] if len(known) else np.full(len(new), "", np.str_),
            "nearest_distance": distance * missing.scene.pixel_scale_arcsec,
        }
    )
    fluxes = [f"{what}_{band}" for band in bands for what in ("snr", "flux", "flux_err")]
    flags = [name for name in sources.colnames if name.startswith("flag_")]
    order = ["id", "ra", "dec", "y", "x", "score", "parent", *beside.colnames, *fluxes]
    of_candidates = ["score", *(f"snr_{band}" for band in bands), "area", "n_bands", "contrast"]
    del new["name"], new["new"]
    table = hstack([new, candidates[of_candidates], beside], metadata_conflicts="silent")
    return _described(table[[*order, "area", "n_bands", "contrast", *flags]], bands)


def _described(table: Table, bands: Sequence[str], flux_units: Sequence[str] = ()) -> Table:
    """The same table with units and descriptions."""
    for name, description in _DESCRIPTIONS.items():
        if name in table.colnames:
            table[name].description = description
    for what, description in _OF_BANDS.items():
        for index, band in enumerate(bands):
            if f"{what}_{band}" not in table.colnames:
                continue
            column = table[f"{what}_{band}"]
            column.description = f"{description}, band {band}"
            if what != "snr" and any(flux_units) and flux_units[index]:
                column.unit = u.Unit(flux_units[index])
    for name in ("ra", "dec"):
        table[name].unit = u.deg
    for name, unit in (("y", u.pix), ("x", u.pix), ("nearest_distance", u.arcsec)):
        if name in table.colnames:
            table[name].unit = unit
    return table
