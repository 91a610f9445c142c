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

__all__ = ["Network", "Tile", "detect_in_tiles", "make_tiles"]

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
    last = max(padded - size, 0)
    step = (size - 2 * margin) // stride * stride
    starts = [*range(0, last, step), last]
    # In the middle of the overlap, which is at least two margins wide.
    seams = [(one + size + other) // 2 for one, other in pairwise(starts)]
    return [
        (slice(start, min(start + size, padded)), slice(first, after))
        for start, (first, after) in zip(starts, pairwise([0, *seams, length]), strict=True)
    ]


def make_tiles(shape: tuple[int, int], tile_size: int, margin: int, stride: int) -> list[Tile]:
    """Cover an image with overlapping tiles.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        Height and width of the image in pixels.
    tile_size : `int`
        Side of a tile, a multiple of ``stride``; an image smaller than that
        is one tile.
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


def _cut(channels: Array, box: tuple[slice, slice]) -> Array:
    """A tile's pixels; zeros beyond the edges of the image."""
    pixels = channels[:, *box]
    lacking = [(0, side.stop - side.start - have) for side, have in zip(box, pixels.shape[1:], strict=True)]
    return np.ascontiguousarray(np.pad(pixels, [(0, 0), *lacking]))


def _in_core(boxes: npt.NDArray[np.float64], core: tuple[slice, slice]) -> npt.NDArray[np.bool_]:
    """Whether the centres of boxes lie in a core, whose edges are half-open."""
    inside = np.ones(len(boxes), bool)
    for side, first, last in ((core[0], 1, 3), (core[1], 0, 2)):
        centres = (boxes[:, first] + boxes[:, last]) / 2
        inside &= (side.start <= centres) & (centres < side.stop)
    return inside


def detect_in_tiles(
    network: Network, channels: Array, *, tile_size: int, margin: int, stride: int
) -> tuple[npt.NDArray[np.float64], Array, Array]:
    """Find sources in an image of any size.

    A source is taken from the tile whose core holds the centre of its box,
    thus once. A network that sees no farther than ``margin`` finds the same
    whatever the tiles.

    Parameters
    ----------
    network : `Network`
        Finds sources in a tile.
    channels : `numpy.ndarray`, (channel, y, x), float32
        The whole image.
    tile_size, margin, stride : `int`
        See `make_tiles`.

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
    found = []
    for tile in make_tiles((channels.shape[1], channels.shape[2]), tile_size, margin, stride):
        boxes, scores, masks = network(_cut(channels, tile.box))
        corner = np.array([tile.box[1].start, tile.box[0].start], np.float64)
        placed = np.asarray(boxes, np.float64) + np.tile(corner, 2)
        usable = (
            np.isfinite(placed).all(axis=1)
            & np.isfinite(scores)
            & (placed[:, :2] < placed[:, 2:]).all(axis=1)
        )
        kept = usable & _in_core(placed, tile.core)
        found.append((placed[kept], scores[kept], masks[kept]))
    boxes_of_tiles, scores_of_tiles, masks_of_tiles = zip(*found, strict=True)
    return np.concatenate(boxes_of_tiles), np.concatenate(scores_of_tiles), np.concatenate(masks_of_tiles)
