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

"""Mask planes of bands that number them differently."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ...mask_bits import N_BITS, Mask, set_bit, widened
from ...scene import MASK_PLANES
from ..fits_common import FitsError

__all__ = ["PlaneNumbers"]


class PlaneNumbers:
    """Mask planes of all bands of a scene under one numbering.

    Parameters
    ----------
    shape : `tuple` [`int`, ...]
        Of the scene: (band, y, x).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.names = dict(MASK_PLANES)
        self.mask: Mask = np.zeros(shape, np.int32)

    def add(self, index: int, planes: Iterable[tuple[str, npt.NDArray[np.bool_]]], what: str) -> None:
        """Set the planes of a band.

        Parameters
        ----------
        index : `int`
            Which band.
        planes : `~collections.abc.Iterable` [`tuple` [`str`, `numpy.ndarray`]]
            Name of each plane, and the pixels (y, x) where it is set.
        what : `str`
            The band, for messages.

        Raises
        ------
        FitsError
            Raised if there are more planes than bits.
        """
        for name, pixels in planes:
            if name not in self.names:
                bit = max(self.names.values()) + 1
                if bit >= N_BITS:
                    raise FitsError(f"{what}: more than {N_BITS} mask planes are in use")
                self.names[name] = bit
            if not pixels.any():
                continue
            if self.names[name] >= 32:
                self.mask = widened(self.mask)
            self.mask[index] = set_bit(self.mask[index], self.names[name], pixels)
