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

"""Skies to measure detectors on, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..simulation import SimulationOptions

__all__ = ["POPULATIONS", "population"]

_DENSE = {"density": 2.5}

# Not as SimulationOptions, whose import takes seconds: help must not wait.
POPULATIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "sparse": {"density": 0.5},
        "dense": _DENSE,
        # The same sky as dense, seen in fewer bands.
        "grizy": {**_DENSE, "bands": ("g", "r", "i", "z", "y")},
        "gri": {**_DENSE, "bands": ("g", "r", "i")},
        "shallow": {"exposure_factor": 0.1},
        "stars": {"star_density": 15.0},
        "hsc": {**_DENSE, "survey": "HSC", "bands": ("g", "r", "i", "z", "y")},
        # What simulated coadds otherwise lack.
        "correlated": {**_DENSE, "noise_correlation": 0.2, "knot_fraction": 0.3},
        # Arms, bars, rings, knots, dust and tails in large bright galaxies.
        "structured": {**_DENSE, "structured_fraction": 0.8},
        # A star in each of which the halo covers what is near and core and spikes saturate.
        "halo": {**_DENSE, "saturated_stars": 1},
        "one_year": {"exposure_factor": 0.1, "noise_correlation": 0.5},
    }
)
"""Options of each population that are not the defaults, but for the size of
the scenes.

``dense`` is the one that figures of merit are quoted for: more than a third of
its sources of signal-to-noise 8 and more have no peak of their own.
"""


def population(name: str, size: int) -> SimulationOptions:
    """Options of a population, for square scenes.

    Parameters
    ----------
    name : `str`
        One of `POPULATIONS`.
    size : `int`
        Side of a scene in pixels.

    Returns
    -------
    options : `SimulationOptions`
        What to simulate.

    Raises
    ------
    ValueError
        Raised if there is no population of that name.
    """
    if name not in POPULATIONS:
        raise ValueError(f"unknown population {name!r}; known: {', '.join(POPULATIONS)}")
    from ..simulation import SimulationOptions

    return SimulationOptions(shape=(size, size), **POPULATIONS[name])
