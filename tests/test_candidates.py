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

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_scene
from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak
from lsst.meas.residualdetect.candidates import Candidate, Fate, Placement, add_candidates

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


IMAGE = (slice(0, SCENE.shape[0]), slice(0, SCENE.shape[1]))


def _grown(y0, y1, x0, x1):
    """A box and what lies within 2.4 standard deviations of the widest PSF."""
    rows, columns = np.indices(SCENE.shape)
    down = np.maximum(0, np.maximum(y0 - rows, rows - y1 + 1))
    across = np.maximum(0, np.maximum(x0 - columns, columns - x1 + 1))
    return np.hypot(down, across) <= 2.4 * SCENE.psf_sigmas_pix.max()


def test_a_new_peak_comes_after_the_old_ones(catalogue):
    after = add_candidates(catalogue, [_candidate(12, 17)], SCENE).detections
    assert [peak.id for peak in after.parents[0].peaks] == [7, 3, 8]
    new = after.parents[0].peaks[-1]
    assert (new.y, new.x, new.score, new.iteration, new.from_residual) == (12, 17, 9.0, 1, True)
    assert after.parents[1] is catalogue.parents[1]
    assert after.parents[0].footprint == catalogue.parents[0].footprint


def test_new_ids_are_positive_whatever_the_old_ones(catalogue):
    parents = (replace(p, id=-p.id, peaks=tuple(replace(q, id=-q.id) for q in p.peaks)) for p in catalogue)
    added = add_candidates(Detections(tuple(parents)), [_candidate(12, 17), _candidate(40, 45)], SCENE)
    assert all(placement.peak > 0 for placement in added.placements)
    assert added.placements[1].parent > 0


def test_footprints_grow_but_never_overlap(catalogue):
    # At (15, 19) the mask reaches over the free columns 20, 21 into parent 9.
    after = add_candidates(catalogue, [_candidate(15, 19, half=4)], SCENE).detections
    assert after.parents[0].footprint.area == 100 + 9 * 2
    assert after.parents[1] is catalogue.parents[1]
    covered = sum(parent.footprint.to_mask((slice(0, 60), slice(0, 64))).astype(int) for parent in after)
    assert covered.max() == 1


def test_between_parents_it_joins_the_one_it_overlaps_most(catalogue):
    after = add_candidates(catalogue, [_candidate(15, 21, half=2)], SCENE).detections
    assert [len(parent.peaks) for parent in after] == [2, 2]
    assert after.parents[1].footprint.contains(15, 21)


def test_on_empty_sky_it_founds_a_parent(catalogue):
    after = add_candidates(catalogue, [_candidate(45, 50)], SCENE).detections
    assert [parent.id for parent in after] == [4, 9, 9 + 5 * 3 + 1]
    # A second deblend numbers after the first.
    again = add_candidates(catalogue, [_candidate(45, 50)], SCENE, iteration=2).detections
    assert again.parents[-1].id == 9 + 2 * 5 * 3 + 1
    footprint = after.parents[2].footprint
    np.testing.assert_array_equal(footprint.to_mask(IMAGE), _grown(43, 48, 48, 53))
    assert footprint.area > 2 * 25
    assert after.parents[:2] == catalogue.parents


def test_candidates_near_known_peaks_are_dropped(catalogue):
    near, far = _candidate(15, 16), _candidate(15, 18)
    after = add_candidates(catalogue, [near, far], SCENE, min_distance_pix=1.5).detections
    assert [(peak.y, peak.x) for peak in after.parents[0].peaks[2:]] == [(15, 18)]


def test_the_surer_of_two_near_candidates_stays(catalogue):
    after = add_candidates(
        catalogue, [_candidate(45, 50, 5.0), _candidate(45, 51, 8.0)], SCENE, min_distance_pix=1.5
    ).detections
    assert [(peak.x, peak.score) for peak in after.parents[2].peaks] == [(51, 8.0)]


def test_two_candidates_as_far_apart_as_is_asked_both_stay(catalogue):
    found = [_candidate(45, 50, 5.0), _candidate(45, 51.5, 8.0)]
    after = add_candidates(catalogue, found, SCENE, min_distance_pix=1.5).detections
    assert sorted(peak.x for peak in after.parents[2].peaks) == [50, 51.5]


def test_nothing_found_changes_nothing(catalogue):
    after = add_candidates(catalogue, [], SCENE).detections
    assert all(new is old for new, old in zip(after, catalogue, strict=True))


def test_masks_and_centres_beyond_the_edge(catalogue):
    after = add_candidates(catalogue, [_candidate(1, 62), _candidate(70, 10)], SCENE).detections
    assert len(after) == 3
    footprint = after.parents[2].footprint
    np.testing.assert_array_equal(footprint.to_mask(IMAGE), _grown(0, 4, 60, 64))
    assert footprint.area == _grown(0, 4, 60, 64).sum()


def test_the_result_does_not_depend_on_the_order_given(catalogue):
    rng = np.random.default_rng(1)
    found = [_candidate(y, x, score) for y, x, score in rng.uniform((2, 2, 5), (58, 62, 20), (12, 3))]
    one = add_candidates(catalogue, found, SCENE, min_distance_pix=1.5)
    other = add_candidates(catalogue, found[::-1], SCENE, min_distance_pix=1.5)
    assert one.detections == other.detections
    assert one.placements == other.placements[::-1]


def test_iterations_are_counted_from_one(catalogue):
    with pytest.raises(ValueError, match="iteration is 0"):
        add_candidates(catalogue, [], SCENE, iteration=0)


def test_each_candidate_s_fate_is_told(catalogue):
    found = [
        _candidate(70, 10),
        _candidate(15, 25.5),
        _candidate(40, 40, score=1.0),
        _candidate(15, 16),
        _candidate(50, 50, score=8.0),
        _candidate(50, 51, score=7.0),
        _candidate(30, 50),
    ]
    found = [*(replace(c, bands=frozenset("gr")) for c in found[:-1]), found[-1]]
    after = add_candidates(
        catalogue, found, SCENE, min_score=5.0, min_bands=1, min_distance_pix=1.5, left_alone=[9]
    )
    assert [placement.fate for placement in after.placements] == [
        Fate.OUTSIDE,
        Fate.LEFT_ALONE,
        Fate.BELOW_THRESHOLD,
        Fate.NEAR_PEAK,
        Fate.ADDED,
        Fate.NEAR_SURER,
        Fate.TOO_FEW_BANDS,
    ]
    assert after.placements[4] == Placement(Fate.ADDED, peak=8, parent=25)
    assert (after.detections.parents[-1].id, after.detections.parents[-1].peaks[0].id) == (25, 8)


def test_a_surer_candidate_that_becomes_no_peak_hides_none(catalogue):
    # Beside the edge of parent 4, at column 20, which is left alone; and in too few bands.
    for surer, where, options in (
        (_candidate(12, 19, score=20.0), (12, 20), {"left_alone": [4]}),
        (_candidate(45, 50, score=20.0), (45, 51), {"min_bands": 1}),
    ):
        good = replace(_candidate(*where), bands=frozenset("g"))
        after = add_candidates(catalogue, [surer, good], SCENE, min_distance_pix=1.5, **options)
        assert after.placements[0].fate in (Fate.LEFT_ALONE, Fate.TOO_FEW_BANDS)
        assert after.placements[1].fate == Fate.ADDED


def test_two_candidates_at_one_place_are_told_apart(catalogue):
    surer, twin = _candidate(45, 50, 9.0, half=3), _candidate(45, 50, 8.0)
    after = add_candidates(catalogue, [twin, surer], SCENE, min_distance_pix=1.5)
    assert [placement.peak for placement in after.placements] == [0, 8]
    both = add_candidates(catalogue, [twin, surer], SCENE)
    assert [placement.peak for placement in both.placements] == [9, 8]


@st.composite
def catalogues(draw):
    """Parents that do not overlap, some beyond the image's edge."""
    labels = np.zeros((70, 74), int)
    for label in range(1, draw(st.integers(0, 6)) + 1):
        y, x = draw(st.integers(0, 65)), draw(st.integers(0, 69))
        box = labels[y : y + draw(st.integers(1, 20)), x : x + draw(st.integers(1, 20))]
        box[box == 0] = label
    peaks = []
    for label in np.unique(labels[labels > 0]).tolist():
        y, x = np.argwhere(labels == label)[draw(st.integers(0, 10**6)) % (labels == label).sum()].tolist()
        peaks.append(Peak(100 - label, y - 5.0, x - 5.0))
    return Detections.from_labels(labels, peaks, origin=(-5, -5))


places = st.floats(-10, 75, allow_nan=False, width=32)
found_anywhere = st.lists(
    st.builds(
        lambda y, x, score, half, bands: replace(_candidate(y, x, score, half), bands=bands),
        places,
        places,
        st.sampled_from([1.0, 2.0, 2.0, 3.0]),
        st.integers(0, 12),
        st.frozensets(st.sampled_from("gri")),
    ),
    max_size=12,
)


@given(catalogues(), found_anywhere, st.randoms(use_true_random=False), st.sampled_from([0.0, 1.5, 6.0]))
def test_what_holds_for_any_candidates(before, found, random, distance):
    closed = {parent.id for parent in before if random.random() < 0.3}
    options = {"min_score": 1.5, "min_bands": 1, "min_distance_pix": distance, "left_alone": closed}
    after = add_candidates(before, found, SCENE, **options)

    # Old parents keep their order, ids and peaks, and lose no pixel; new ones follow.
    whole = (slice(-10, 100), slice(-10, 100))
    for old, new in zip(before, after.detections.parents[: len(before)], strict=True):
        assert new.id == old.id and new.peaks[: len(old.peaks)] == old.peaks
        assert not (old.footprint.to_mask(whole) & ~new.footprint.to_mask(whole)).any()
        if old.id in closed or len(new.peaks) == len(old.peaks):
            assert new is old
    covered = sum(
        (p.footprint.to_mask(whole).astype(int) for p in after.detections), np.zeros((110, 110), int)
    )
    assert covered.max() <= 1

    # Each peak is the candidate that it is said to be, and stands in its parent.
    added = {p.peak: (c, p.parent) for c, p in zip(found, after.placements, strict=True) if p.peak}
    news = {
        peak.id: (peak, parent) for parent in after.detections for peak in parent.peaks if peak.from_residual
    }
    assert news.keys() == added.keys()
    # All its pixels on the image are somebody's.
    height, width = SCENE.shape
    for candidate, _ in added.values():
        own = candidate.footprint.to_mask((slice(0, height), slice(0, width)))
        assert covered[10 : 10 + height, 10 : 10 + width][own].all()
    assert min(news, default=1000) > max((peak.id for peak in before.peaks), default=0)
    for number, (peak, parent) in news.items():
        candidate, parent_id = added[number]
        assert (peak.y, peak.x, peak.score, peak.bands) == (
            candidate.y,
            candidate.x,
            candidate.score,
            candidate.bands,
        )
        assert parent.id == parent_id and parent.footprint.contains(peak.y, peak.x)
        assert candidate.score >= 1.5 and candidate.bands
    every = after.detections.peaks
    for peak, _ in news.values():
        apart = [np.hypot(peak.y - other.y, peak.x - other.x) for other in every if other.id != peak.id]
        assert min(apart, default=np.inf) >= distance

    # And the order in which candidates come does not matter.
    order = list(range(len(found)))
    random.shuffle(order)
    again = add_candidates(before, [found[index] for index in order], SCENE, **options)
    assert again.detections == after.detections
    # Of candidates that are the same in all, which is which is chance.
    fates = sorted((repr(found[i]), p.fate) for i, p in zip(order, again.placements, strict=True))
    assert fates == sorted((repr(c), p.fate) for c, p in zip(found, after.placements, strict=True))


def _moved(item, y, x):
    """A candidate, peak, footprint or catalogue somewhere else."""
    if isinstance(item, Footprint):
        return Footprint(item.spans + np.array([y, x, x]))
    if isinstance(item, Detections):
        return Detections(
            tuple(
                replace(
                    parent,
                    footprint=_moved(parent.footprint, y, x),
                    peaks=tuple(_moved(peak, y, x) for peak in parent.peaks),
                )
                for parent in item
            )
        )
    moved = replace(item, y=item.y + y, x=item.x + x)
    return moved if isinstance(item, Peak) else replace(moved, footprint=_moved(item.footprint, y, x))


@given(catalogues(), found_anywhere)
def test_another_origin_moves_everything_by_as_much(before, found):
    # Halves, which no addition rounds.
    found = [replace(c, y=np.rint(2 * c.y) / 2, x=np.rint(2 * c.x) / 2) for c in found]
    there = replace(SCENE, origin=(300, -200))
    here = add_candidates(before, found, SCENE)
    moved = add_candidates(_moved(before, 300, -200), [_moved(c, 300, -200) for c in found], there)
    assert moved.placements == here.placements
    assert moved.detections == _moved(here.detections, 300, -200)
