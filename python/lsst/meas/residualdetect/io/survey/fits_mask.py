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


"""Mask planes of any survey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fits_common import FitsError
from ..remarks import Remarks

__all__ = ["mask_planes_of", "planes_of_pixels"]

# maskbits of the Legacy Surveys' bricks, DR9 and DR10. What is not named here
# says where a pixel lies (a bright star's surroundings, a neighbouring
# brick), not that it is bad.
_MASKBITS = {
    "g": {"SAT": 2, "BAD": 5},
    "r": {"SAT": 3, "BAD": 6},
    "z": {"SAT": 4, "BAD": 7},
    "i": {"SAT": 14, "BAD": 15},
}
_MASKBITS_MEANINGLESS = (0, 1, 8, 9, 10, 11, 12, 13, 16)

_MAX_BAD_FRACTION = 0.5


def mask_planes_of(
    header: Mapping[str, Any], band: str, given: Mapping[str, int] | None = None
) -> tuple[dict[str, int], tuple[int, ...]] | None:
    """Bits of a mask's planes.

    Parameters
    ----------
    header : `~collections.abc.Mapping`
        Its cards.
    band : `str`
        Canonical band, as the Legacy Surveys have one mask for all.
    given : `~collections.abc.Mapping` [`str`, `int`], optional
        What the user says; goes before what the cards say.

    Returns
    -------
    planes, others : `dict` [`str`, `int`], `tuple` [`int`, ...]
        Bit of each plane by its name, from the user, the cards ``MP_NAME``
        (the stack) or the Legacy Surveys' table; and bits that are known to
        mean nothing. `None` if nobody says what the bits are.
    """
    if given:
        return dict(given), ()
    cards = {
        str(key)[3:].upper(): int(value)
        for key, value in header.items()
        if str(key).startswith("MP_") and isinstance(value, int)
    }
    if cards:
        return cards, ()
    if str(header.get("EXTNAME", "")).strip().upper() == "MASKBITS":
        return dict(_MASKBITS.get(band, {})), _MASKBITS_MEANINGLESS + tuple(
            bit for other, planes in _MASKBITS.items() if other != band for bit in planes.values()
        )
    return None


def planes_of_pixels(
    pixels: npt.NDArray[Any],
    known: tuple[dict[str, int], tuple[int, ...]] | None,
    remarks: Remarks,
    what: str,
) -> dict[str, npt.NDArray[np.bool_]]:
    """The planes of a mask that are set anywhere.

    Parameters
    ----------
    pixels : `numpy.ndarray`, (y, x)
        As in the file.
    known : `tuple` or `None`
        What `mask_planes_of` says.
    remarks : `Remarks`
        Is told of bits without a name, and of masks that look inverted.
    what : `str`
        The file, for messages.

    Returns
    -------
    planes : `dict` [`str`, `numpy.ndarray`]
        True where the plane is set, by name. A mask whose bits nobody names
        is ``BAD`` wherever it is not zero.

    Raises
    ------
    FitsError
        Raised if the pixels are no integers.
    """
    if pixels.dtype.kind == "f":
        if not (np.isfinite(pixels).all() and (pixels == np.rint(pixels)).all()):
            raise FitsError(f"{what}: a mask has pixels that are no integers")
        pixels = pixels.astype(np.int64)
    # Bit 63 of unsigned pixels is a bit like another.
    bits = np.ascontiguousarray(pixels).astype(np.uint64, copy=False, casting="unsafe")
    present = np.bitwise_or.reduce(bits, axis=None)
    if known is None:
        bad = bits != 0
        values = np.unique(bits)
        if values.size > 2:
            remarks.doubt(
                f"{what}: nothing says what the bits of this mask mean; every pixel that is not zero is left "
                "out (name the planes, or write MP_ cards)"
            )
        if bad.mean() > _MAX_BAD_FRACTION:
            remarks.doubt(
                f"{what}: the mask leaves out {bad.mean():.0%} of the pixels; it may be inverted "
                "(a pixel that is not zero is bad)"
            )
        return {"BAD": bad} if bad.any() else {}
    named, meaningless = known
    for name, bit in named.items():
        if not 0 <= bit < 64:
            raise FitsError(f"{what}: mask plane {name} is bit {bit}; expected 0 to 63")
    planes = {
        name: (bits >> np.uint64(bit)) & np.uint64(1) != 0
        for name, bit in named.items()
        if int(present) >> bit & 1
    }
    unnamed = [
        bit
        for bit in range(64)
        if int(present) >> bit & 1 and bit not in named.values() and bit not in meaningless
    ]
    if unnamed:
        remarks.doubt(f"{what}: bits {', '.join(map(str, unnamed))} of the mask have no name and are ignored")
    return planes
