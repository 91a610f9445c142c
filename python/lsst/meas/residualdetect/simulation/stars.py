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


"""Stars of a high-latitude field."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .simulation_options import BANDS
from .sources import Component, Sources, flux_njy

__all__ = ["draw_stars", "stellar_locus"]

Values = npt.NDArray[np.float64]

# Stellar locus of Tonry et al. (2012, ApJ 750, 99): r-i, g-r, i-z, z-y.
_LOCUS = np.array(
    [
        [-0.4, -0.50, -0.290, -0.210],
        [-0.2, -0.19, -0.110, -0.050],
        [0.0, 0.15, -0.030, -0.025],
        [0.2, 0.55, 0.090, 0.035],
        [0.4, 0.97, 0.200, 0.095],
        [0.6, 1.16, 0.295, 0.140],
        [1.0, 1.20, 0.470, 0.195],
        [2.0, 1.26, 0.940, 0.470],
    ]
)
# u-g of main-sequence stars of [Fe/H] = -1 as a polynomial in g-i, highest
# power first: Yuan et al. (2015, ApJ 799, 134), table 1.
_U_G = np.array([1.1459, -5.4262, 8.7476, -4.3021, 1.6004])

# Width of the locus (Ivezic et al. 2004, AN 325, 583).
_LOCUS_WIDTH_MAG = 0.03
# A high-latitude field shows two clumps in colour (e.g. Juric et al. 2008,
# ApJ 673, 864): turn-off stars of the halo and thick disk, and M dwarfs.
_TURN_OFF_FRACTION = 0.35


def stellar_locus(r_minus_i: Values) -> Values:
    """Magnitudes of stars relative to i.

    Parameters
    ----------
    r_minus_i : `numpy.ndarray`, (n,)
        Colour, from -0.4 to 2.

    Returns
    -------
    mag_minus_i : `numpy.ndarray`, (n, 6), float64
        In the order ugrizy.
    """
    g_r, i_z, z_y = (np.interp(r_minus_i, _LOCUS[:, 0], column) for column in _LOCUS.T[1:])
    g_i = g_r + r_minus_i
    u_g = np.polyval(_U_G, np.clip(g_i, 0.3, 1.6))
    zero = np.zeros_like(r_minus_i)
    return np.stack([u_g + g_i, g_i, r_minus_i, zero, -i_z, -i_z - z_y], axis=-1)


def draw_stars(mag_i: Values, rng: np.random.Generator) -> Sources:
    """Draw stars of given i magnitudes.

    Parameters
    ----------
    mag_i : `numpy.ndarray`, (n,)
        Magnitudes.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    stars : `Sources`
        Points with the colours of the stellar locus.
    """
    n = len(mag_i)
    turn_off = rng.random(n) < _TURN_OFF_FRACTION
    r_minus_i = np.where(turn_off, rng.normal(0.12, 0.05, n), np.clip(rng.normal(1, 0.4, n), 0.3, 2))
    mag = mag_i[:, None] + stellar_locus(r_minus_i)
    scatter = rng.normal(0, _LOCUS_WIDTH_MAG, mag.shape)
    scatter[:, BANDS.index("i")] = 0
    return Sources(
        disk=Component.none(n),
        bulge=Component.none(n),
        point_njy=flux_njy(mag + scatter),
        redshift=np.zeros(n),
        is_star=np.ones(n, dtype=bool),
    )
