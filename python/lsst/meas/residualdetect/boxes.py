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

"""Pixels and boxes of an image: which pixel a position lies on, what part of
one box another covers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = [
    "Box",
    "box_at",
    "grown",
    "is_inside",
    "nearest_pixel",
    "overlap",
    "pixels_within",
    "shape_of",
    "strips",
]

Box = tuple[slice, slice]
"""Half-open rows and columns."""

# Rows of a strip.
_STRIP_PIX = 256


def nearest_pixel(positions: npt.ArrayLike, origin: npt.ArrayLike = 0) -> npt.NDArray[np.intp]:
    """The pixel that each position lies on.

    A position half-way between two pixels belongs to the later one, as in
    lsst.geom, so that a pixel holds its half-open square; rounding half to
    even would make it depend on where the patch begins.

    Parameters
    ----------
    positions : array-like, (..., 2)
        Patch coordinates (y, x), pixel centres on integers; or any array of
        one coordinate.
    origin : array-like, (2,), optional
        Patch coordinates (y, x) of the image's first pixel, or that one
        coordinate.

    Returns
    -------
    pixels : `numpy.ndarray`, (..., 2), int
        Array indices (y, x) or the one; outside the image where the position is.

    Raises
    ------
    ValueError
        Raised if a position is not finite.
    """
    positions = np.asarray(positions, np.float64)
    if not np.isfinite(positions).all():
        raise ValueError(f"positions {positions.tolist()} are not all finite")
    pixels: npt.NDArray[np.intp] = np.floor(positions + 0.5).astype(np.intp) - np.asarray(origin, np.intp)
    return pixels


def is_inside(pixels: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether pixels lie in an image.

    Parameters
    ----------
    pixels : `numpy.ndarray`, (..., 2)
        Array indices (y, x).
    shape : `tuple` [`int`, `int`]
        Height and width of the image.

    Returns
    -------
    inside : `numpy.ndarray`, (...), bool
        Whether they lie in it.
    """
    inside: npt.NDArray[np.bool_] = np.all((pixels >= 0) & (pixels < shape), axis=-1)
    return inside


def box_at(corner: Sequence[int], shape: Sequence[int]) -> Box:
    """The box of a first pixel (y, x), and a height and width."""
    return slice(corner[0], corner[0] + shape[0]), slice(corner[1], corner[1] + shape[1])


def grown(box: Box, margin: int) -> Box:
    """A box with a margin on each side."""
    rows, columns = (slice(side.start - margin, side.stop + margin) for side in box)
    return rows, columns


def shape_of(box: Box) -> tuple[int, int]:
    """Height and width of a box."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def overlap(one: Box, other: Box) -> tuple[Box, Box]:
    """The pixels that two boxes share.

    Parameters
    ----------
    one, other : `Box`
        In the same coordinates; they may begin before 0.

    Returns
    -------
    in_one, in_other : `Box`
        The shared pixels, counted from the first pixel of each; empty where
        there are none.
    """
    first = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
    shape = [max(min(a.stop, b.stop) - start, 0) for a, b, start in zip(one, other, first, strict=True)]
    in_one, in_other = (
        box_at([start - side.start for start, side in zip(first, box, strict=True)], shape)
        for box in (one, other)
    )
    return in_one, in_other


def strips(n_rows: int, reach: int) -> Iterator[tuple[slice, slice, slice]]:
    """An image in pieces of some hundred rows, for what would take much memory
    on all of it at once.

    Parameters
    ----------
    n_rows : `int`
        Height of the image.
    reach : `int`
        How many rows away a pixel matters.

    Yields
    ------
    around, inner, rows : `slice`
        Rows of the image that matter for a strip, the strip within these, and
        the strip in the image.
    """
    for top in range(0, n_rows, _STRIP_PIX):
        first, bottom = max(top - reach, 0), min(top + _STRIP_PIX, n_rows)
        around = slice(first, min(bottom + reach, n_rows))
        yield around, slice(top - first, bottom - first), slice(top, bottom)


def pixels_within(mask: npt.NDArray[np.bool_], radius_pix: float) -> npt.NDArray[np.bool_]:
    """All pixels within a distance of a true one."""
    near = np.zeros_like(mask)
    for around, inner, rows in strips(len(mask), math.ceil(radius_pix)):
        if mask[around].any():
            near[rows] = ndimage.distance_transform_edt(~mask[around])[inner] <= radius_pix
    return near
