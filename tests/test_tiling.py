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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.residualdetect.network.tiling import detect_in_tile, make_tiles
from tiny_network import REACH_PIX, find_maxima

lengths = st.integers(1, 90)
tilings = st.builds(
    lambda stride, margin, more: {
        "tile_size": (-(-2 * margin // stride) + more) * stride,
        "margin": margin,
        "stride": stride,
    },
    stride=st.sampled_from([1, 2, 8]),
    margin=st.integers(REACH_PIX, 12),
    more=st.integers(1, 4),
)


def sky(height, width, seed=0, n_sources=30):
    """Channels with point sources in the first of them."""
    rng = np.random.default_rng(seed)
    channels = np.zeros((13, height, width), np.float32)
    y, x = rng.integers(0, [[height], [width]], (2, n_sources))
    channels[0, y, x] = rng.uniform(20, 80, n_sources)
    return channels


def detect_in_tiles(network, channels, **tiling):
    found = [
        detect_in_tile(network, channels[:, *tile.box], tile)
        for tile in make_tiles(channels.shape[1:], **tiling)
    ]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def in_order(found):
    boxes, scores, masks = found
    order = np.lexsort(boxes.T)
    return boxes[order], scores[order], masks[order]


@settings(deadline=None)
@given(lengths, lengths, tilings)
def test_cores_part_the_image_and_keep_their_distance_from_inner_edges(height, width, tiling):
    seen = np.zeros((height, width), int)
    for tile in make_tiles((height, width), **tiling):
        seen[tile.core] += 1
        for box, core, length in zip(tile.box, tile.core, (height, width), strict=True):
            assert box.start % tiling["stride"] == box.stop % tiling["stride"] == 0
            assert box.stop - box.start <= tiling["tile_size"]
            assert core.start - box.start >= tiling["margin"] or core.start == box.start == 0
            assert box.stop - core.stop >= tiling["margin"] or core.stop == length <= box.stop
    assert (seen == 1).all()


@settings(deadline=None)
@given(lengths, tilings)
def test_tiles_are_as_few_as_can_be_and_no_larger_than_that_needs(length, tiling):
    def most_covered(n, size):
        return size + (n - 1) * (size - -(-2 * tiling["margin"] // stride) * stride)

    stride = tiling["stride"]
    tiles = make_tiles((length, 1), **tiling)
    (size,) = {tile.box[0].stop - tile.box[0].start for tile in tiles}
    assert most_covered(len(tiles), size) >= length
    assert len(tiles) == 1 or most_covered(len(tiles) - 1, tiling["tile_size"]) < length
    assert size == stride or most_covered(len(tiles), size - stride) < length


@settings(deadline=None, max_examples=60)
@given(lengths, lengths, tilings, st.integers(0, 1000))
def test_a_local_network_finds_the_same_whatever_the_tiles(height, width, tiling, seed):
    channels = sky(height, width, seed)
    whole = in_order(detect_in_tiles(find_maxima, channels, tile_size=1000, margin=0, stride=8))
    tiles = in_order(detect_in_tiles(find_maxima, channels, **tiling))
    assert len(whole[0]) > 0
    for one, other in zip(whole, tiles, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_source_on_a_seam_is_found_once():
    def corners(channels):
        # Centres of boxes on the corners of pixels, where the seams are.
        y, x = np.nonzero(channels[0])
        boxes = np.stack([x - 1, y - 1, x + 1, y + 1], axis=1).astype(np.float32)
        return boxes, np.ones(len(boxes), np.float32), np.ones((len(boxes), 2, 2), np.float32)

    channels = np.ones((1, 70, 50), np.float32)
    boxes, _, _ = detect_in_tiles(corners, channels, tile_size=24, margin=4, stride=8)
    expected = [[x - 1, y - 1, x + 1, y + 1] for y in range(70) for x in range(50)]
    assert sorted(boxes.tolist()) == sorted(expected)


def test_an_image_smaller_than_a_tile_is_padded_to_the_stride_alone():
    shapes = []

    def network(channels):
        shapes.append(channels.shape)
        assert channels.flags["C_CONTIGUOUS"] and channels.dtype == np.float32
        assert (channels[:, :13, :20] == 1).all() and channels.sum() == 3 * 13 * 20
        return find_maxima(np.zeros((13, 8, 8), np.float32))

    channels = np.ones((3, 13, 20), np.float32)
    boxes, scores, masks = detect_in_tiles(network, channels, tile_size=64, margin=8, stride=8)
    assert shapes == [(3, 16, 24)]
    assert (boxes.shape, scores.shape, masks.shape) == ((0, 4), (0,), (0, 7, 7))


def test_boxes_without_a_place_in_the_image_are_left_out():
    boxes = np.array(
        [
            [2, 2, 6, 6],
            [np.nan, 2, 6, 6],
            [2, 2, np.inf, 6],
            [4, 4, 4, 8],
            [6, 6, 2, 2],
            [8, 8, 15, 15],  # its centre is in the padding
            [2, 2, 6, 6.5],  # a score that is none
        ],
        np.float32,
    )
    scores = np.array([0.5] * 6 + [np.nan], np.float32)
    found = detect_in_tiles(
        lambda _: (boxes, scores, np.ones((7, 4, 4), np.float32)),
        np.zeros((1, 10, 10), np.float32),
        tile_size=16,
        margin=0,
        stride=8,
    )
    assert found[0].tolist() == [[2, 2, 6, 6]]
    assert len(found[1]) == len(found[2]) == 1


@pytest.mark.parametrize("tile_size", [36, 24])
def test_tiles_that_cannot_cover_an_image_are_refused(tile_size):
    with pytest.raises(ValueError, match=f"tile size is {tile_size}; expected a multiple of 8, at least 32"):
        make_tiles((100, 100), tile_size=tile_size, margin=12, stride=8)
