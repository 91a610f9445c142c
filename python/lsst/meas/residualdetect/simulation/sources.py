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


"""What every source is made of, before any telescope saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from .simulation_options import BANDS, ZERO_POINT

__all__ = ["Component", "Sources", "flux_njy"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Component:
    """The disks, or the bulges, of n sources.

    Parameters
    ----------
    flux_njy : `numpy.ndarray`, (n, 6), float64
        Total flux in ugrizy; 0 where a source has no such component.
    radius_arcsec : `numpy.ndarray`, (n,), float64
        Circularised half-light radius, sqrt(a b).
    axis_ratio : `numpy.ndarray`, (n,), float64
        Minor over major axis.
    angle_rad : `numpy.ndarray`, (n,), float64
        Angle of the major axis from +x towards +y.
    """

    flux_njy: Values
    radius_arcsec: Values
    axis_ratio: Values
    angle_rad: Values

    @classmethod
    def none(cls, n: int) -> Component:
        """A component that none of n sources has."""
        return cls(np.zeros((n, len(BANDS))), np.zeros(n), np.ones(n), np.zeros(n))


@dataclass(frozen=True, eq=False)
class Sources:
    """Sources as an exponential disk, a de Vaucouleurs bulge and a point.

    Parameters
    ----------
    disk, bulge : `Component`
        Extended light.
    point_njy : `numpy.ndarray`, (n, 6), float64
        Flux of an unresolved component in ugrizy: a star or a nucleus.
    redshift : `numpy.ndarray`, (n,), float64
        Redshift; 0 for stars.
    is_star : `numpy.ndarray`, (n,), bool
        True for stars.
    """

    disk: Component
    bulge: Component
    point_njy: Values
    redshift: Values
    is_star: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.is_star)

    @property
    def flux_njy(self) -> Values:
        """Total flux in ugrizy: (n, 6), float64."""
        return self.disk.flux_njy + self.bulge.flux_njy + self.point_njy

    @property
    def mag_i(self) -> Values:
        """Total i magnitude: (n,), float64."""
        return ZERO_POINT - 2.5 * np.log10(self.flux_njy[:, BANDS.index("i")])

    @property
    def bulge_fraction(self) -> Values:
        """Bulge over total flux in i: (n,), float64."""
        i = BANDS.index("i")
        return self.bulge.flux_njy[:, i] / self.flux_njy[:, i]

    @property
    def r_half_arcsec(self) -> Values:
        """Mean of the components' half-light radii, weighted with their i
        flux: (n,), float64. 0 for stars.
        """
        i = BANDS.index("i")
        light = sum(part.flux_njy[:, i] * part.radius_arcsec for part in (self.disk, self.bulge))
        return np.asarray(light / self.flux_njy[:, i])

    @classmethod
    def concatenate(cls, parts: Sequence[Sources]) -> Sources:
        """All sources of several sets, in order."""

        def component(name: str) -> Component:
            values = (
                np.concatenate([getattr(getattr(part, name), field.name) for part in parts])
                for field in fields(Component)
            )
            return Component(*values)

        return cls(
            component("disk"),
            component("bulge"),
            np.concatenate([part.point_njy for part in parts]),
            np.concatenate([part.redshift for part in parts]),
            np.concatenate([part.is_star for part in parts]),
        )


def flux_njy(mag: npt.ArrayLike) -> Values:
    """Flux of an AB magnitude in nJy."""
    return 10 ** (0.4 * (ZERO_POINT - np.asarray(mag, dtype=float)))
