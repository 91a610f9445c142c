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


"""Matching, ranking and binning, against answers found by hand or by brute
force.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_scene
from lsst.meas.residualdetect import Detections, Peak
from lsst.meas.residualdetect.truth import EvaluationOptions
from lsst.meas.residualdetect.truth.matching import match_in_turn, match_peaks
from lsst.meas.residualdetect.truth.measures import brighter_neighbours, parent_chi2
from lsst.meas.residualdetect.truth.metrics import bin_label, binned_recovery, median, ranking_curve, ratio

SIGMA = 1.5
RADIUS = 2.5


def match(
    sources: list[tuple[float, float]],
    brightness: list[float],
    peaks: list[tuple[float, float]],
    how=match_peaks,
    **options,
):
    return how(
        np.array(sources, float).reshape(-1, 2),
        np.array(brightness, float),
        np.array(peaks, float).reshape(-1, 2),
        radius_pix=RADIUS,
        sigma_pix=SIGMA,
        **options,
    ).tolist()


def test_one_peak_of_two_sources_goes_to_the_one_that_makes_it() -> None:
    # Nearer to the faint source, but the bright one outshines it there.
    assert match([(0, 0), (0, 2)], [100, 10], [(0, 1.2)]) == [0, -1]
    # On the faint source, and the bright one is fainter there.
    assert match([(0, 0), (0, 2.4)], [20, 10], [(0, 2.4)]) == [-1, 0]


@pytest.mark.parametrize("how", [match_peaks, match_in_turn])
def test_by_the_rule_of_the_nearest_brightness_does_not_matter(how) -> None:
    assert match([(0, 0), (0, 2)], [100, 10], [(0, 1.2)], how, rule="nearest") == [-1, 0]


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="match_rule is 'fate'; expected one of light, nearest"):
        EvaluationOptions(match_rule="fate")


def test_sources_of_like_brightness_get_the_nearest() -> None:
    assert match([(0, 0), (0, 3)], [10, 10], [(0, 1.4)]) == [0, -1]
    assert match([(0, 0), (0, 3)], [10, 10], [(0, 1.6)]) == [-1, 0]


def test_two_peaks_on_one_source_leave_the_farther_free() -> None:
    assert match([(0, 0)], [10], [(0, 1), (0, 0.5)]) == [1]


def test_two_sources_with_two_peaks_each_get_one() -> None:
    assert match([(0, 0), (0, 2)], [100, 20], [(0, 2.1), (0, 0.3)]) == [1, 0]


def test_a_source_out_of_reach_gets_no_peak_that_is_left() -> None:
    assert match([(0, 0), (0, 2)], [100, 5], [(0, 0), (0, -2)]) == [0, -1]


def test_nothing_beyond_the_radius() -> None:
    assert match([(0, 0)], [1000], [(0, RADIUS + 0.01)]) == [-1]
    assert match([(0, 0)], [1000], [(0, RADIUS - 0.01)]) == [0]


def test_nothing_to_match() -> None:
    assert match([], [], [(0, 0)]) == []
    assert match([(0, 0)], [1], []) == [-1]


places = st.tuples(st.floats(0, 6), st.floats(0, 6))


@settings(deadline=None, max_examples=60)
@given(
    sources=st.lists(st.tuples(places, st.floats(1, 100)), min_size=1, max_size=4),
    peaks=st.lists(places, min_size=1, max_size=4),
)
def test_total_light_is_the_largest_there_is(sources, peaks) -> None:
    positions, brightness = np.array([s[0] for s in sources]), np.array([s[1] for s in sources])
    distance = np.hypot(*(positions[:, None] - np.array(peaks)[None]).transpose(2, 0, 1))
    worth = np.where(distance <= RADIUS, brightness[:, None] * np.exp(-0.5 * (distance / SIGMA) ** 2), 0)
    found = match([s[0] for s in sources], brightness.tolist(), peaks)
    assert len({peak for peak in found if peak >= 0}) == sum(peak >= 0 for peak in found)
    total = sum(worth[source, peak] for source, peak in enumerate(found) if peak >= 0)
    square = np.zeros((max(worth.shape),) * 2)
    square[: worth.shape[0], : worth.shape[1]] = worth
    best = max(
        square[np.arange(len(square)), list(order)].sum() for order in permutations(range(len(square)))
    )
    assert total == pytest.approx(best, rel=1e-9)


def test_a_sure_peak_keeps_its_source_though_a_less_sure_one_is_nearer() -> None:
    assert match([(0, 0)], [10], [(0, 1), (0, 0.5)], match_in_turn) == [0]
    # The second takes what is left within its reach.
    assert match([(0, 0), (0, 2)], [100, 10], [(0, 1), (0, 0.5)], match_in_turn) == [0, 1]
    assert match([(0, 0), (0, 4)], [100, 10], [(0, 1), (0, 0.5)], match_in_turn) == [0, -1]


def test_nothing_to_match_in_turn() -> None:
    assert match([], [], [(0, 0)], match_in_turn) == []
    assert match([(0, 0)], [1], [], match_in_turn) == [-1]
    assert match([(0, 0)], [1000], [(0, RADIUS + 0.01)], match_in_turn) == [-1]


@settings(deadline=None, max_examples=60)
@given(
    sources=st.lists(st.tuples(places, st.floats(1, 100)), min_size=1, max_size=5),
    peaks=st.lists(places, min_size=1, max_size=5),
)
def test_less_sure_peaks_change_nothing_for_surer_ones(sources, peaks) -> None:
    positions, brightness = [s[0] for s in sources], [s[1] for s in sources]
    all_found = match(positions, brightness, peaks, match_in_turn)
    for n in range(len(peaks)):
        found = match(positions, brightness, peaks[:n], match_in_turn)
        assert found == [peak if peak < n else -1 for peak in all_found]


def test_average_precision_by_hand() -> None:
    # Ranked: right, wrong, right, right off target, wrong; of four targets.
    score = np.array([0.5, 0.9, 0.7, 0.8, 0.6])
    right = np.array([False, True, True, False, True])
    target = np.array([False, True, True, False, False])
    curve = ranking_curve(score, right, target, 4)
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(curve.purity, [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recovery, [0.25, 0.25, 0.5, 0.5, 0.5])
    assert curve.average_precision == pytest.approx((1 + 2 / 3) / 4)
    assert curve.at_purity(0.9) == (0.25, 0.9)
    # Purity may rise again further down the ranking.
    assert curve.at_purity(0.7) == (0.5, 0.6)
    assert curve.at_purity(1.0) == (0.25, 0.9)


def test_peaks_of_equal_score_enter_together() -> None:
    curve = ranking_curve(np.full(4, 0.5), np.arange(4) < 2, np.arange(4) < 2, 2)
    np.testing.assert_allclose(curve.purity, [0.5])
    assert curve.average_precision == pytest.approx(0.5)
    assert curve.at_purity(0.9)[0] == 0


def test_peaks_without_a_score_rank_last() -> None:
    curve = ranking_curve(np.array([np.nan, 0.1]), np.array([False, True]), np.array([False, True]), 1)
    assert curve.average_precision == 1
    assert len(curve.threshold) == 2


def test_ranking_of_nothing() -> None:
    empty = np.empty(0)
    curve = ranking_curve(empty, empty.astype(bool), empty.astype(bool), 3)
    assert curve.average_precision == 0
    assert curve.at_purity(0.9)[0] == 0


def test_bins_hold_every_finite_value_once() -> None:
    values = np.array([1.0, 2.0, 2.0, 5.0, 100.0, np.nan])
    recovered = np.array([True, False, True, True, False, True])
    bins = binned_recovery(values, recovered, (2.0, 10.0))
    assert [(item.n, item.n_recovered) for item in bins] == [(1, 1), (3, 2), (1, 0)]
    assert (bins[0].low, bins[-1].high) == (-np.inf, np.inf)


def test_nearest_brighter_source() -> None:
    positions = np.array([(0, 0), (0, 3), (0, 4), (10, 0)], float)
    neighbour, separation = brighter_neighbours(positions, np.array([100.0, 10.0, 50.0, 5.0]))
    assert neighbour.tolist() == [-1, 2, 0, 0]
    np.testing.assert_allclose(separation, [np.nan, 1, 4, 10])


def test_nearest_brighter_source_of_a_crowd() -> None:
    rng = np.random.default_rng(8)
    positions, flux = rng.uniform(0, 100, (300, 2)), rng.pareto(1.0, 300)
    neighbour, separation = brighter_neighbours(positions, flux)
    for source in range(300):
        distance = np.hypot(*(positions - positions[source]).T)
        distance[flux <= flux[source]] = np.inf
        if neighbour[source] < 0:
            assert flux[source] == flux.max()
        else:
            assert neighbour[source] == distance.argmin()
            assert separation[source] == pytest.approx(distance.min())


def test_quotients_and_medians_of_nothing_are_nan() -> None:
    assert np.isnan(ratio(1, 0))
    assert np.isnan(median(np.array([np.nan])))
    assert median(np.array([np.nan, 1.0, 3.0])) == 2


def test_bins_are_told_by_their_edges():
    labels = [bin_label(*edges) for edges in ((-np.inf, 2.0), (2.0, 10.5), (10.5, np.inf))]
    assert labels == ["< 2", "2-10.5", "≥ 10.5"]


def test_chi_square_is_in_units_of_the_noise() -> None:
    scene = make_scene([(20, 20, 50.0)], noise=4.0, rng=np.random.default_rng(1))
    labels = np.zeros(scene.shape, int)
    labels[10:30, 10:30] = 1
    catalogue = Detections.from_labels(labels, [Peak(1, 20.0, 20.0)])
    chi2, n_pixels = parent_chi2(scene, catalogue, np.zeros_like(scene.images))
    assert n_pixels.tolist() == [3 * 400]
    np.testing.assert_allclose(chi2, [(scene.images[:, 10:30, 10:30] ** 2).sum() / 16], rtol=1e-5)
