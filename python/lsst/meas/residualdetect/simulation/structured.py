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

"""Disks with structure as profiles that can be sheared and convolved."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np

from ..scene import Array
from .simulation_options import BANDS
from .sources import Values
from .structure import PIXELS_PER_RADIUS, SIDE, draw_disk

__all__ = ["LIBRARY_SIZE", "StructuredDisk", "library_number", "structured_disk"]

# Different disks; turned, inclined and of any size and colour they are many.
LIBRARY_SIZE = 160

# Young light over old in each band, relative to i, roughly as an Im spectrum
# over an Sbc (Coleman, Wu & Weedman 1980) at moderate redshift.
_YOUNG_OVER_OLD = {"u": 3.5, "g": 2.2, "r": 1.4, "i": 1.0, "z": 0.8, "y": 0.7}


@dataclass(frozen=True, eq=False)
class StructuredDisk:
    """A disk of unit half-light radius, seen face-on, in two populations.

    Parameters
    ----------
    old, young : `galsim.GSObject`
        Each of unit flux; the nucleus is at (0, 0).
    shares : `numpy.ndarray`, (6,), float64
        Share of the young light in ugrizy.
    old_centre, young_centre : `tuple` [`float`, `float`]
        Centres of their light, x and y.
    """

    old: galsim.GSObject
    young: galsim.GSObject
    shares: Values
    old_centre: tuple[float, float]
    young_centre: tuple[float, float]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of all light in i, x and y."""
        share = self.shares[BANDS.index("i")]
        x, y = (
            (1 - share) * old + share * young
            for old, young in zip(self.old_centre, self.young_centre, strict=True)
        )
        return float(x), float(y)


def _profile(image: Array) -> tuple[galsim.GSObject, tuple[float, float]]:
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) / PIXELS_PER_RADIUS
    total = image.sum(dtype=float)
    centre = (float(image.sum(axis=0) @ axis / total), float(image.sum(axis=1) @ axis / total))
    # The image ends in zeros, so that little padding will do; libraries are
    # kept in memory.
    profile = galsim.InterpolatedImage(
        galsim.ImageF(image, scale=1 / PIXELS_PER_RADIUS), x_interpolant="cubic", flux=1.0, pad_factor=2.0
    )
    return profile, centre


@lru_cache(maxsize=LIBRARY_SIZE)
def structured_disk(number: int) -> StructuredDisk:
    """A disk of the library.

    Parameters
    ----------
    number : `int`
        From 0 to `LIBRARY_SIZE` - 1; the same number is always the same disk.

    Returns
    -------
    disk : `StructuredDisk`
        The disk.
    """
    drawn = draw_disk(np.random.default_rng([20261125, number]))
    odds = drawn.young_share / (1 - drawn.young_share) * np.array([_YOUNG_OVER_OLD[b] for b in BANDS])
    old, old_centre = _profile(drawn.old)
    young, young_centre = _profile(drawn.young)
    return StructuredDisk(old, young, odds / (1 + odds), old_centre, young_centre)


def library_number(angle_rad: float, fraction: float) -> int | None:
    """Which disk of the library a galaxy has, if any.

    Parameters
    ----------
    angle_rad : `float`
        Position angle, whose digits far behind the point are as good as
        random and the galaxy's own: scenes without structure stay as they are.
    fraction : `float`
        Share of the galaxies that have one.
    """
    chance, digits = np.modf(angle_rad * 1e4)
    if not abs(chance) < fraction:
        return None
    return int(abs(digits)) % LIBRARY_SIZE
