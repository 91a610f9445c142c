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


"""What a network found in cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Found", "Judged"]


@dataclass(frozen=True, eq=False)
class Found:
    """Candidates of one case or of many; those on sources that are too faint
    to count are left out.

    Parameters
    ----------
    score, objectness : `numpy.ndarray`, (n,), float64
        What the network says of each, and what its first stage says.
    measured : `numpy.ndarray`, (n, k), float64
        See `covariates`.
    right, target, shred : `numpy.ndarray`, (n,), bool
        Whether it is on a source that had no peak, whether in a footprint,
        and whether it is a second peak on a source.
    """

    score: npt.NDArray[np.float64]
    objectness: npt.NDArray[np.float64]
    measured: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    target: npt.NDArray[np.bool_]
    shred: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judged:
    """What a network finds in many cases.

    Parameters
    ----------
    found : `Found`
        All candidates.
    case : `numpy.ndarray`, (n,), int64
        Number of the case of each.
    population, group : `numpy.ndarray`, (cases,), str
        See `Case`.
    n_targets : `numpy.ndarray`, (cases,), int64
        Sources to be found.
    facts : `tuple` [`dict` [`str`, `float`], ...]
        What each case's sky is like; see `measure_sky`.
    """

    found: Found
    case: npt.NDArray[np.int64]
    population: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    n_targets: npt.NDArray[np.int64]
    facts: tuple[dict[str, float], ...]
