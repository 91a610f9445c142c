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

"""Places beside places: the nearest, and which of them repeat a surer one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from .scene import Positions

__all__ = ["distances_to", "near_known", "nearest", "repeats"]


def nearest(places: Positions, others: Positions) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Nearest of others (m, 2) to each place (n, 2): distances and which,
    both (n,); NaN and 0 if there is none.
    """
    if not len(places) or not len(others):
        return np.full(len(places), np.nan), np.zeros(len(places), np.int64)
    distance, which = cKDTree(others).query(places)
    return distance, which


def distances_to(places: Positions, others: Positions) -> npt.NDArray[np.float64]:
    """Distance of each place (n, 2) to the nearest of others (m, 2): (n,);
    infinite if there is none.
    """
    distance = nearest(places, others)[0]
    return np.where(np.isnan(distance), np.inf, distance)


def near_known(places: Positions, known: Positions, distance_pix: float) -> npt.NDArray[np.bool_]:
    """Whether places lie nearer than a distance to known ones.

    Parameters
    ----------
    places, known : `numpy.ndarray`, (n, 2) and (m, 2)
        Positions.
    distance_pix : `float`
        The distance.

    Returns
    -------
    near : `numpy.ndarray`, (n,), bool
        True where there is a known place within the distance.
    """
    return distances_to(places, known) < distance_pix


def repeats(places: Positions, distance_pix: float) -> npt.NDArray[np.bool_]:
    """Which of some places repeat an earlier one.

    Parameters
    ----------
    places : `numpy.ndarray`, (n, 2)
        Positions, the surest first.
    distance_pix : `float`
        Nearer than this, the later place repeats the earlier one, unless
        that is itself a repeat.

    Returns
    -------
    repeated : `numpy.ndarray`, (n,), bool
        True for repeats.
    """
    repeated = np.zeros(len(places), bool)
    if not len(places) or distance_pix <= 0:
        return repeated
    # The tree's distance is inclusive.
    neighbours = cKDTree(places).query_ball_point(places, np.nextafter(distance_pix, 0))
    for place, near in enumerate(neighbours):
        if not repeated[place]:
            repeated[[other for other in near if other > place]] = True
    return repeated
