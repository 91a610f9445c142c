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

"""Bit masks of pixels, signed integers of 32 bits, or 64 where needed; and
their named planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "DEFAULT_BAD_PLANES",
    "MASK_PLANES",
    "N_BITS",
    "Mask",
    "PlaneNumbers",
    "as_mask",
    "has_bits",
    "one_bit",
    "set_bit",
    "widened",
]

Mask = npt.NDArray[np.int32] | npt.NDArray[np.int64]

N_BITS = 64
"""How many bits a mask can have."""

# The bits that lsst.afw gives its mask planes unless told otherwise.
MASK_PLANES: Mapping[str, int] = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
}

# What the stack's scarlet deblender leaves out of its fit by default.
DEFAULT_BAD_PLANES: tuple[str, ...] = ("BAD", "NO_DATA", "SAT", "SUSPECT", "EDGE")


def _value(bits: Sequence[int], dtype: np.dtype[Any]) -> Any:
    # Bits beyond the type are set nowhere in a mask of it.
    return np.uint64(sum(1 << bit for bit in set(bits))).astype(dtype)


def as_mask(bits: npt.NDArray[Any]) -> Mask:
    """The same bits as int32, or as int64 if higher ones are set; not copied
    if it is such a mask.
    """
    if bits.dtype.itemsize <= 4:
        return bits.astype(np.int32, copy=False)
    wide = bits.astype(np.int64, copy=False)
    fits = (wide >> 32 == 0) | (wide >> 31 == -1)  # without a sign, or with
    return wide.astype(np.int32) if fits.all() else wide


def has_bits(mask: Mask, bits: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Where one of some bits is set."""
    found: npt.NDArray[np.bool_] = (mask & _value(bits, mask.dtype)) != 0
    return found


def widened(mask: Mask) -> Mask:
    """The same bits in 64; bit 31, which is the sign of 32, stays one bit."""
    return mask if mask.dtype == np.int64 else mask.astype(np.int64) & 0xFFFFFFFF


def one_bit(bit: int, where: npt.NDArray[np.bool_]) -> Mask:
    """A mask in which a bit is set at some pixels, and no other anywhere."""
    value = _value([bit], np.dtype(np.int64 if bit >= 32 else np.int32))
    return np.where(where, value, np.zeros_like(value))


def set_bit(mask: Mask, bit: int, where: npt.NDArray[np.bool_]) -> Mask:
    """A copy of a mask in which a bit is set at some pixels."""
    other: Mask = widened(mask).copy() if bit >= 32 else mask.copy()
    other[where] |= _value([bit], other.dtype)
    return other


class PlaneNumbers:
    """Mask planes of all bands of a scene under one numbering.

    Parameters
    ----------
    shape : `tuple` [`int`, ...]
        Of the scene: (band, y, x).
    names : `~collections.abc.Mapping` [`str`, `int`], optional
        Bits to begin with, by the planes' names.
    """

    def __init__(self, shape: tuple[int, ...], names: Mapping[str, int] = MASK_PLANES) -> None:
        self.names = dict(names)
        self.mask: Mask = np.zeros(shape, np.int32)

    def put(self, index: int, mask: Mask) -> None:
        """Set the mask (y, x) of a band, of this numbering."""
        if mask.dtype != self.mask.dtype:
            self.mask, mask = widened(self.mask), widened(mask)
        self.mask[index] = mask

    def add(self, index: int, planes: Iterable[tuple[str, npt.NDArray[np.bool_]]], what: str) -> None:
        """Set the mask of a band, of whatever planes.

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
        ValueError
            Raised if there are more planes than bits.
        """
        mask: Mask = np.zeros(self.mask.shape[1:], np.int32)
        for name, where in planes:
            if name not in self.names:
                free = set(range(N_BITS)) - set(self.names.values())
                if not free:
                    raise ValueError(f"{what}: more than {N_BITS} mask planes are in use; no bit for {name}")
                self.names[name] = min(free)
            if where.any():
                mask = set_bit(mask, self.names[name], where)
        self.put(index, mask)
