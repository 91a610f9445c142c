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


"""Galaxies from a catalogue instead of the default population."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from ..io.remarks import reason_of
from .simulation_options import BANDS, SimulationError
from .sources import Component, Sources, flux_njy

__all__ = ["draw_from_catalogue", "read_catsim"]

_PARTS = ("disk", "bulge", "agn")
_COLUMNS = (
    "a_d",
    "b_d",
    "a_b",
    "b_b",
    "pa_disk",
    "pa_bulge",
    *(f"fluxnorm_{part}" for part in _PARTS),
    *(f"{band}_ab" for band in BANDS),
    "redshift",
)


def _refuse_rows(source: str, column: str, wrong: npt.NDArray[np.bool_], expected: str) -> None:
    if wrong.any():
        raise SimulationError(
            f"{source}: column {column!r} has {wrong.sum()} bad of {len(wrong)} values, "
            f"the first in row {int(np.flatnonzero(wrong)[0])}; expected {expected}"
        )


def _refuse_missing(table: Table, source: str) -> None:
    missing = [name for name in _COLUMNS if name not in table.colnames]
    if missing:
        raise SimulationError(f"{source}: lacks the columns {', '.join(missing)}")
    if not len(table):
        raise SimulationError(f"{source}: has no rows; expected one for each galaxy")


def _checked(table: Table, source: str) -> Table:
    """The columns needed, as float64, after a look at each value."""
    checked = Table()
    for name in _COLUMNS:
        try:
            values: npt.NDArray[np.float64] = np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan)
        except (TypeError, ValueError):
            raise SimulationError(f"{source}: column {name!r} is not numeric") from None
        if values.ndim != 1:
            raise SimulationError(
                f"{source}: column {name!r} has shape {values.shape}; expected one number a row"
            )
        _refuse_rows(source, name, ~np.isfinite(values), "finite numbers")
        checked[name] = values
    for part in _PARTS:
        name = f"fluxnorm_{part}"
        _refuse_rows(source, name, np.asarray(checked[name] < 0), "none negative")
    for part, axes in (("disk", ("a_d", "b_d")), ("bulge", ("a_b", "b_b"))):
        shines = np.asarray(checked[f"fluxnorm_{part}"] > 0)
        for name in axes:
            _refuse_rows(
                source, name, shines & np.asarray(checked[name] <= 0), f"more than 0 where there is a {part}"
            )
    dark = sum(np.asarray(checked[f"fluxnorm_{part}"]) for part in _PARTS) == 0
    _refuse_rows(source, "fluxnorm_disk", np.asarray(dark), "a disk, a bulge or a nucleus with flux")
    return checked


def read_catsim(path: str | Path) -> Table:
    """Read a catalogue in the format of LSST's CatSim.

    It is the catalogue that WeakLensingDeblending and the BlendingToolKit
    draw from, e.g. their ``OneDegSq.fits``.

    Parameters
    ----------
    path : `str` or `~pathlib.Path`
        FITS, CSV, or any other table that astropy reads. Needed are
        ``a_d``, ``b_d``, ``a_b``, ``b_b`` (half-light semi-axes of disk and
        bulge, arcsec), ``pa_disk``, ``pa_bulge`` (degrees),
        ``fluxnorm_disk``, ``fluxnorm_bulge``, ``fluxnorm_agn`` (relative
        fluxes), ``u_ab`` to ``y_ab`` (total magnitudes) and ``redshift``.

    Returns
    -------
    catalogue : `astropy.table.Table`
        Those columns.

    Raises
    ------
    SimulationError
        Raised if the file cannot be read, has no rows, lacks a column, or
        has values that make no galaxy.
    """
    try:
        table = Table.read(path)
    except Exception as error:  # astropy's readers raise many kinds
        raise SimulationError(f"{path}: cannot be read as a table: {reason_of(error)}") from error
    _refuse_missing(table, str(path))
    return _checked(table, str(path))


def draw_from_catalogue(catalogue: Table, n: int, mag_limit: float, rng: np.random.Generator) -> Sources:
    """Draw galaxies at random, with replacement, each turned by a random
    angle.

    Parameters
    ----------
    catalogue : `astropy.table.Table`
        As `read_catsim` returns it.
    n : `int`
        How many.
    mag_limit : `float`
        Faintest i magnitude; fainter rows are left out.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    galaxies : `Sources`
        Exponential disks, de Vaucouleurs bulges and point-like nuclei, with
        the same colour in all components, for the catalogue has one only.

    Raises
    ------
    SimulationError
        Raised if the catalogue lacks a column, has values that make no
        galaxy, or has no galaxy bright enough.
    """
    _refuse_missing(catalogue, "catalogue")
    bright = np.flatnonzero(catalogue["i_ab"] <= mag_limit)
    if not len(bright):
        raise SimulationError(
            f"catalogue: column 'i_ab' begins at {catalogue['i_ab'].min():g}; "
            f"expected some brighter than mag_limit, {mag_limit:g}"
        )
    # A catalogue may have a million rows: look only at those used.
    drawn = _checked(catalogue[rng.choice(bright, n)], "galaxies drawn from the catalogue")
    total = flux_njy(np.stack([drawn[f"{band}_ab"] for band in BANDS], axis=-1))
    norm = np.stack([drawn[f"fluxnorm_{part}"] for part in _PARTS])
    disk, bulge, nucleus = (norm / norm.sum(axis=0))[..., None] * total
    turn = rng.uniform(0, np.pi, n)

    def component(flux: npt.NDArray[np.float64], part: str, letter: str) -> Component:
        a, b = (np.where(flux[:, 0] > 0, drawn[f"{axis}_{letter}"], 1) for axis in "ab")
        angle = np.radians(drawn[f"pa_{part}"]) + turn
        return Component(flux, np.sqrt(a * b), np.minimum(a, b) / np.maximum(a, b), np.asarray(angle))

    return Sources(
        disk=component(disk, "disk", "d"),
        bulge=component(bulge, "bulge", "b"),
        point_njy=nucleus,
        redshift=np.asarray(drawn["redshift"]),
        is_star=np.zeros(n, dtype=bool),
    )
