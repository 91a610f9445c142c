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

from conftest import make_scene
from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak
from lsst.meas.residualdetect.candidates import Candidate, add_candidates

SCENE = make_scene([])


def _box(y0, y1, x0, x1):
    mask = np.zeros(SCENE.shape, bool)
    mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return Footprint.from_mask(mask)


@pytest.fixture
def catalogue():
    return Detections(
        (
            Parent(4, _box(10, 20, 10, 20), (Peak(7, 15, 15), Peak(3, 18, 12))),
            Parent(9, _box(10, 20, 22, 30), (Peak(5, 15, 25),)),
        )
    )


def _candidate(y, x, score=9.0, half=2):
    return Candidate(y, x, score, _box(int(y) - half, int(y) + half + 1, int(x) - half, int(x) + half + 1))


def test_a_new_peak_comes_after_the_old_ones(catalogue):
    after = add_candidates(catalogue, [_candidate(12, 17)], SCENE)
    assert [peak.id for peak in after.parents[0].peaks] == [7, 3, 8]
    new = after.parents[0].peaks[-1]
    assert (new.y, new.x, new.score, new.iteration, new.from_residual) == (12, 17, 9.0, 1, True)
    assert after.parents[1] is catalogue.parents[1]
    assert after.parents[0].footprint == catalogue.parents[0].footprint


def test_footprints_grow_but_never_overlap(catalogue):
    # At (15, 19) the mask reaches over the free columns 20, 21 into parent 9.
    after = add_candidates(catalogue, [_candidate(15, 19, half=4)], SCENE)
    assert after.parents[0].footprint.area == 100 + 9 * 2
    assert after.parents[1] is catalogue.parents[1]
    covered = sum(parent.footprint.to_mask((slice(0, 60), slice(0, 64))).astype(int) for parent in after)
    assert covered.max() == 1


def test_between_parents_it_joins_the_one_it_overlaps_most(catalogue):
    after = add_candidates(catalogue, [_candidate(15, 21, half=2)], SCENE)
    assert [len(parent.peaks) for parent in after] == [2, 2]
    assert after.parents[1].footprint.contains(15, 21)


def test_on_empty_sky_it_founds_a_parent(catalogue):
    after = add_candidates(catalogue, [_candidate(45, 50)], SCENE)
    assert [parent.id for parent in after] == [4, 9, 10]
    assert after.parents[2].footprint.area == 25
    assert after.parents[:2] == catalogue.parents


def test_candidates_near_known_peaks_are_dropped(catalogue):
    near, far = _candidate(15, 16), _candidate(15, 18)
    after = add_candidates(catalogue, [near, far], SCENE, min_distance_pix=1.5)
    assert [(peak.y, peak.x) for peak in after.parents[0].peaks[2:]] == [(15, 18)]


def test_the_surer_of_two_near_candidates_stays(catalogue):
    after = add_candidates(
        catalogue, [_candidate(45, 50, 5.0), _candidate(45, 51, 8.0)], SCENE, min_distance_pix=1.5
    )
    assert [(peak.x, peak.score) for peak in after.parents[2].peaks] == [(51, 8.0)]


def test_nothing_found_changes_nothing(catalogue):
    after = add_candidates(catalogue, [], SCENE)
    assert all(new is old for new, old in zip(after, catalogue, strict=True))


def test_masks_and_centres_beyond_the_edge(catalogue):
    after = add_candidates(catalogue, [_candidate(1, 62), _candidate(70, 10)], SCENE)
    assert len(after) == 3
    assert after.parents[2].footprint.area == 4 * 4


def test_the_result_does_not_depend_on_the_order_given(catalogue):
    rng = np.random.default_rng(1)
    found = [_candidate(y, x, score) for y, x, score in rng.uniform((2, 2, 5), (58, 62, 20), (12, 3))]
    one = add_candidates(catalogue, found, SCENE, min_distance_pix=1.5)
    other = add_candidates(catalogue, found[::-1], SCENE, min_distance_pix=1.5)
    assert one == other


def test_iterations_are_counted_from_one(catalogue):
    with pytest.raises(ValueError, match="iteration is 0"):
        add_candidates(catalogue, [], SCENE, iteration=0)
