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

"""A large image, looked at in overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..scene import Array

__all__ = ["Network", "Tile", "detect_in_tile", "make_tiles"]

Network = Callable[[Array], tuple[Array, Array, Array]]
"""Finds sources in channels (channel, y, x), float32.

It returns boxes (n, 4), scores (n,) and masks (n, m, m), float32. A box is
x0, y0, x1, y1 in array pixels, of which the i-th covers [i, i + 1), as in
Detectron2; a mask is the probability, over the box, that a pixel belongs to
the source.
"""


@dataclass(frozen=True)
class Tile:
    """A piece of an image.

    Parameters
    ----------
    box : `tuple` [`slice`, `slice`]
        Pixels (y, x) that the network looks at; may reach beyond the image
        at the bottom and on the right.
    core : `tuple` [`slice`, `slice`]
        Pixels whose detections are taken from this tile.
    """

    box: tuple[slice, slice]
    core: tuple[slice, slice]


def _spans(length: int, size: int, margin: int, stride: int) -> list[tuple[slice, slice]]:
    """Boxes and cores along one axis."""
    padded = -(-length // stride) * stride
    overlap = -(-2 * margin // stride) * stride
    n = max(-(-(padded - overlap) // (size - overlap)), 1)
    # So many tiles are needed; they need not be larger than this.
    size = -(-(padded + (n - 1) * overlap) // (n * stride)) * stride
    starts = [min(tile * (size - overlap), padded - size) for tile in range(n)]
    # In the middle of the overlap, which is at least two margins wide.
    seams = [(one + size + other) // 2 for one, other in pairwise(starts)]
    return [
        (slice(start, start + size), slice(first, after))
        for start, (first, after) in zip(starts, pairwise([0, *seams, length]), strict=True)
    ]


def make_tiles(shape: tuple[int, int], tile_size: int, margin: int, stride: int) -> list[Tile]:
    """Cover an image with overlapping tiles.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        Height and width of the image in pixels.
    tile_size : `int`
        Largest side of a tile, a multiple of ``stride``. Tiles are as few as
        it allows, and no larger than so few need be.
    margin : `int`
        Least distance of a core from those edges of its tile that are not
        edges of the image.
    stride : `int`
        Corners and sides of tiles are multiples of this.

    Returns
    -------
    tiles : `list` [`Tile`]
        Row by row. Each pixel is in one core.

    Raises
    ------
    ValueError
        Raised if ``tile_size`` is no multiple of ``stride``, or too small
        for two margins and a stride.
    """
    if tile_size % stride or tile_size < 2 * margin + stride:
        raise ValueError(
            f"tile size is {tile_size}; expected a multiple of {stride}, at least {2 * margin + stride}"
        )
    rows, columns = (_spans(length, tile_size, margin, stride) for length in shape)
    return [
        Tile((row_box, column_box), (row_core, column_core))
        for row_box, row_core in rows
        for column_box, column_core in columns
    ]


def _in_core(boxes: npt.NDArray[np.float64], core: tuple[slice, slice]) -> npt.NDArray[np.bool_]:
    """Whether the centres of boxes lie in a core, whose edges are half-open."""
    inside = np.ones(len(boxes), bool)
    for side, first, last in ((core[0], 1, 3), (core[1], 0, 2)):
        centres = (boxes[:, first] + boxes[:, last]) / 2
        inside &= (side.start <= centres) & (centres < side.stop)
    return inside


def detect_in_tile(
    network: Network, channels: Array, tile: Tile
) -> tuple[npt.NDArray[np.float64], Array, Array]:
    """Find the sources of one tile of an image.

    A source belongs to the tile whose core holds the centre of its box, thus
    to one. A network that sees no farther than the margin finds the same
    whatever the tiles.

    Parameters
    ----------
    network : `Network`
        Finds sources in pixels.
    channels : `numpy.ndarray`, (channel, y, x), float32
        Those of the tile's pixels that lie in the image; beyond its edges
        the network sees zeros.
    tile : `Tile`
        Which one.

    Returns
    -------
    boxes : `numpy.ndarray`, (n, 4), float64
        x0, y0, x1, y1 in pixels of the whole image, of which the i-th covers
        [i, i + 1). Boxes that are empty or not finite are left out.
    scores : `numpy.ndarray`, (n,), float32
        Their scores.
    masks : `numpy.ndarray`, (n, m, m), float32
        Their masks.
    """
    lacking = [
        (0, side.stop - side.start - have) for side, have in zip(tile.box, channels.shape[1:], strict=True)
    ]
    if np.any(lacking):
        channels = np.pad(channels, [(0, 0), *lacking])
    boxes, scores, masks = network(np.ascontiguousarray(channels))
    corner = np.array([tile.box[1].start, tile.box[0].start], np.float64)
    placed = np.asarray(boxes, np.float64) + np.tile(corner, 2)
    usable = (
        np.isfinite(placed).all(axis=1) & np.isfinite(scores) & (placed[:, :2] < placed[:, 2:]).all(axis=1)
    )
    kept = usable & _in_core(placed, tile.core)
    return placed[kept], scores[kept], masks[kept]
