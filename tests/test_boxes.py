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
from hypothesis import given
from hypothesis import strategies as st

from lsst.meas.residualdetect.boxes import box_at, grown, is_inside, nearest_pixel, overlap, shape_of, strips
from lsst.meas.residualdetect.detections import Detections, Footprint, Peak


@given(st.integers(-1000, 1000), st.integers(-4, 4))
def test_rounding_does_not_depend_on_where_the_patch_begins(origin, half_pixels):
    at = half_pixels / 2
    assert nearest_pixel(at + origin, origin) == nearest_pixel(at)


def test_a_position_between_two_pixels_belongs_to_the_later():
    places = np.array([[0.5, 1.5], [-0.5, -1.5], [2.4, 2.6]])
    assert nearest_pixel(places).tolist() == [[1, 2], [0, -1], [2, 3]]
    assert nearest_pixel(places, (10, -10)).tolist() == [[-9, 12], [-10, 9], [-8, 13]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_nowhere_are_refused(bad):
    with pytest.raises(ValueError, match="not all finite"):
        nearest_pixel((1.0, bad))


def test_a_pixel_is_inside_up_to_the_last_of_each_axis():
    pixels = np.array([[0, 0], [2, 4], [3, 0], [0, 5], [-1, 0]])
    assert is_inside(pixels, (3, 5)).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("first", [0, 1])
def test_a_peak_between_two_pixels_is_in_the_footprint_that_it_was_given(first):
    # The parent's label and the footprint's answer must come from one pixel.
    labels = np.zeros((4, 6), int)
    labels[:, 3 + first :] = 1
    peak = Peak(1, 1.0, 2.5 + first)
    (parent,) = Detections.from_labels(labels, [peak]).parents
    assert parent.footprint.contains(peak.y, peak.x)
    assert not Footprint.from_mask(labels == 0).contains(peak.y, peak.x)


CORNERS = st.tuples(st.integers(-9, 9), st.integers(-9, 9))
SHAPES = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(CORNERS, SHAPES, CORNERS, SHAPES)
def test_two_boxes_share_the_pixels_that_are_in_both(corner, shape, other_corner, other_shape):
    one, other = box_at(corner, shape), box_at(other_corner, other_shape)
    canvas = np.arange(40 * 40).reshape(40, 40)
    cut, other_cut = (canvas[tuple(slice(s.start + 20, s.stop + 20) for s in box)] for box in (one, other))
    in_one, in_other = overlap(one, other)
    shared = sorted(set(cut.ravel().tolist()) & set(other_cut.ravel().tolist()))
    assert cut[in_one].ravel().tolist() == other_cut[in_other].ravel().tolist() == shared
    assert 0 in shape_of(in_one) or shape_of(in_one) == cut[in_one].shape


def test_a_margin_is_added_on_each_side():
    assert shape_of(grown(box_at((3, -2), (4, 5)), 2)) == (8, 9)
    assert grown(box_at((3, -2), (4, 5)), 2) == box_at((1, -4), (8, 9))


@given(st.integers(0, 700), st.integers(0, 40))
def test_strips_are_an_image_with_what_matters_around_them(n_rows, reach):
    image = np.arange(n_rows)
    pieces = list(strips(n_rows, reach))
    assert [row for _, _, rows in pieces for row in image[rows]] == image.tolist()
    for around, inner, rows in pieces:
        assert image[around][inner].tolist() == image[rows].tolist()
        assert image[around].tolist() == image[max(rows.start - reach, 0) : rows.stop + reach].tolist()
