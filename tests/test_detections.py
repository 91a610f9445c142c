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
from hypothesis.extra.numpy import array_shapes, arrays

from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(masks, st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_mask_to_spans_and_back(mask, origin):
    footprint = Footprint.from_mask(mask, origin)
    box = (
        slice(origin[0], origin[0] + mask.shape[0]),
        slice(origin[1], origin[1] + mask.shape[1]),
    )
    np.testing.assert_array_equal(footprint.to_mask(box), mask)
    assert footprint.area == mask.sum()


@given(masks)
def test_bounding_box_is_tight_and_cuts(mask):
    footprint = Footprint.from_mask(mask)
    rows, columns = footprint.bbox
    np.testing.assert_array_equal(footprint.to_mask(), mask[rows, columns])
    assert footprint.to_mask().sum() == mask.sum()
    if mask.any():
        assert mask[rows.start].any()
        assert mask[:, columns.stop - 1].any()


@given(masks)
def test_contains_agrees_with_the_mask(mask):
    footprint = Footprint.from_mask(mask)
    for y, x in np.ndindex(mask.shape):
        assert footprint.contains(y + 0.3, x - 0.3) == mask[y, x]


def test_spans_of_the_wrong_form_are_refused():
    with pytest.raises(ValueError, match="not rows of"):
        Footprint(np.array([[1, 5, 5]]))


def test_catalogue_to_labels_and_back():
    labels = np.zeros((12, 15), int)
    labels[1:4, 2:6] = 900_000_000  # labels may be any positive integers
    labels[6:9, 8:13] = 7
    labels[10, 0] = 3  # no peak on it
    peaks = [Peak(1, 2, 3), Peak(2, 7, 9), Peak(3, 3, 5), Peak(4, 0, 14)]
    detections = Detections.from_labels(labels, peaks)
    assert [[peak.id for peak in parent.peaks] for parent in detections] == [[2], [1, 3]]
    expected = np.where(labels == 7, 1, 0) + np.where(labels == 900_000_000, 2, 0)
    np.testing.assert_array_equal(detections.labels(labels.shape), expected)


def test_origin_moves_footprints_with_the_image():
    labels = np.zeros((9, 9), int)
    labels[3:6, 4:7] = 1
    moved = Detections.from_labels(labels, [Peak(1, 104, 205)], origin=(100, 200))
    assert moved.parents[0].footprint.bbox == (slice(103, 106), slice(204, 207))
    np.testing.assert_array_equal(moved.labels((9, 9), (100, 200)), labels)


def test_ids_must_be_unique():
    footprint = Footprint.from_mask(np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="peak ids"):
        Detections((Parent(1, footprint, (Peak(1, 0, 0), Peak(1, 1, 1))),))
    with pytest.raises(ValueError, match="parent ids"):
        Detections((Parent(1, footprint, ()), Parent(1, footprint, ())))


def test_the_middle_is_that_of_the_bounding_box():
    assert Footprint.from_mask(np.ones((3, 6), bool), (10, 20)).middle == (11.0, 22.5)


@given(st.lists(st.tuples(masks, st.tuples(st.integers(-5, 5), st.integers(-5, 5))), max_size=4))
def test_the_union_has_the_pixels_of_all(placed):
    footprints = [Footprint.from_mask(mask, origin) for mask, origin in placed]
    whole = (slice(-5, 18), slice(-5, 18))
    union = Footprint(np.zeros((0, 3))).union(*footprints)
    expected = sum((f.to_mask(whole).astype(int) for f in footprints), np.zeros((23, 23), int)) > 0
    np.testing.assert_array_equal(union.to_mask(whole), expected)
    assert union == Footprint.from_mask(expected, (-5, -5))


def test_a_box_cuts_off_the_row_below_it():
    square = Footprint.from_mask(np.ones((4, 4), bool))
    for rows, columns in (
        (slice(0, 3), slice(1, 9)),
        (slice(1, 4), slice(-2, 2)),
        (slice(3, 5), slice(0, 4)),
    ):
        expected = [
            [0 <= y < 4 and 0 <= x < 4 for x in range(columns.start, columns.stop)]
            for y in range(rows.start, rows.stop)
        ]
        np.testing.assert_array_equal(square.to_mask((rows, columns)), expected)
