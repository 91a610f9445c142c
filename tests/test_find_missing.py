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

"""From a scene, a catalogue and a model to new peaks: the one way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import BLEND_SOURCES, HIDDEN, make_scene
from lsst.meas.residualdetect import Detections, Footprint, Peak, SceneError
from lsst.meas.residualdetect.candidates import Candidate, Fate
from lsst.meas.residualdetect.deblend import DeblendError, deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors.matched_filter import MatchedFilter
from lsst.meas.residualdetect.find_missing import FindMissingOptions, find_missing, sky_catalogue

SCENE = replace(make_scene(BLEND_SOURCES, rng=np.random.default_rng(5)), origin=(100, 200))
FOUND = detect(SCENE)
MODEL = deblend(SCENE, FOUND.parents)
Y, X = HIDDEN[0] + 100, HIDDEN[1] + 200


class Fixed:
    """A detector that always gives the same candidates, and keeps what it
    was shown.
    """

    default_threshold = 0.5

    def __init__(self, *candidates):
        self.candidates = list(candidates)

    def detect(self, scene, model, peaks):
        self.shown = scene, model, peaks
        return self.candidates


def _candidate(y, x, score=0.9, bands="gri", half=2):
    mask = np.ones((2 * half + 1, 2 * half + 1), bool)
    return Candidate(
        y, x, score, Footprint.from_mask(mask, (round(y) - half, round(x) - half)), frozenset(bands)
    )


def _nearest(peaks):
    return min((np.hypot(peak.y - Y, peak.x - X) for peak in peaks if peak.from_residual), default=np.inf)


def test_a_hidden_source_becomes_a_peak_of_its_parent():
    missing = find_missing(SCENE, FOUND, MODEL, MatchedFilter())
    assert _nearest(missing.detections.peaks) < 1.5
    (row,) = [
        (candidate, placement)
        for candidate, placement in zip(missing.candidates, missing.placements, strict=True)
        if np.hypot(candidate.y - Y, candidate.x - X) < 1.5 and placement.peak
    ]
    owner = next(parent for parent in missing.detections if parent.id == row[1].parent)
    assert (owner.peaks[-1].id, owner.peaks[-1].y, owner.peaks[-1].score) == (
        row[1].peak,
        row[0].y,
        row[0].score,
    )
    assert missing.fates[Fate.ADDED] == len(missing.detections.peaks) - len(FOUND.peaks)
    assert missing.fates.total() == len(missing.candidates)
    assert missing.new_peaks == tuple(peak for peak in missing.detections.peaks if peak.from_residual)
    changed = [parent for parent in missing.detections if any(peak.from_residual for peak in parent.peaks)]
    assert missing.n_changed_parents == len(changed) > 0
    assert missing.score_threshold == MatchedFilter().default_threshold
    np.testing.assert_array_equal(missing.residual, SCENE.images - MODEL.image(SCENE))


def test_an_image_of_the_model_does_as_well_as_the_model():
    one = find_missing(SCENE, FOUND, MODEL, MatchedFilter())
    other = find_missing(SCENE, FOUND, MODEL.image(SCENE), MatchedFilter())
    assert one.detections == other.detections
    assert (one.candidates, one.placements) == (other.candidates, other.placements)


def test_singles_without_a_model_are_modelled_first():
    missing = find_missing(SCENE, FOUND, deblend(SCENE, []), MatchedFilter())
    assert missing.n_singles == len(FOUND)
    assert missing.detections == find_missing(SCENE, FOUND, MODEL, MatchedFilter()).detections


def test_bad_planes_hide_pixels_from_detector_and_table():
    mask = np.zeros(SCENE.images.shape, np.int32)
    mask[:, 20:41, 24:45] = 1 << SCENE.mask_planes["CR"]
    scene = replace(SCENE, mask=mask)
    there = Fixed(_candidate(Y, X))
    missing = find_missing(scene, FOUND, MODEL, there)
    assert not there.shown[0].bad().any()
    assert missing.table["snr_g"][0] > 5
    missing = find_missing(scene, FOUND, MODEL, there, FindMissingOptions(bad_planes=("CR",)))
    np.testing.assert_array_equal(there.shown[0].bad(), mask != 0)
    assert missing.table["snr_g"][0] == 0
    missing = find_missing(scene, FOUND, MODEL, MatchedFilter(), FindMissingOptions(bad_planes=("CR",)))
    assert _nearest(missing.detections.peaks) > 3


def test_parents_without_a_model_are_left_alone_and_not_looked_at():
    blend = next(parent for parent in FOUND if parent.footprint.contains(Y, X))
    crowd = replace(blend, peaks=(*blend.peaks, Peak(99, blend.peaks[0].y + 3, blend.peaks[0].x)))
    others = tuple(parent for parent in FOUND if parent is not blend)
    there = Fixed(_candidate(Y, X))
    missing = find_missing(SCENE, Detections((crowd, *others)), deblend(SCENE, others), there)
    assert list(missing.left_alone) == [blend.id] and missing.has_model
    assert missing.placements[0].fate == Fate.LEFT_ALONE
    assert missing.detections.parents[0] is crowd
    hidden = crowd.footprint.to_mask((slice(100, 160), slice(200, 264)))
    np.testing.assert_array_equal(there.shown[0].bad(), np.broadcast_to(hidden, SCENE.images.shape))


def test_where_nothing_has_a_model_nothing_is_looked_for():
    sky = Detections(tuple(replace(parent, is_sky=True) for parent in FOUND))
    for model in (deblend(SCENE, []), np.zeros_like(SCENE.images)):
        missing = find_missing(SCENE, sky, model, Fixed(_candidate(Y, X)))
        assert not missing.candidates and missing.detections is sky
        assert not missing.has_model and missing.n_sources == 0


def test_a_parent_whose_model_is_not_finite_costs_nobody_else():
    wild = replace(MODEL.parents[0].sources[0], spectrum=np.full(3, np.nan, np.float32))
    model = replace(MODEL, parents=(replace(MODEL.parents[0], sources=(wild,)), *MODEL.parents[1:]))
    missing = find_missing(SCENE, FOUND, model, Fixed())
    assert missing.left_alone == {FOUND.parents[0].id: "its model is not finite"}
    assert np.isfinite(missing.model_image).all()


@pytest.mark.parametrize("n_bands", [3, 2, 1])
def test_what_stands_out_in_one_band_is_no_peak_where_there_are_three(n_bands):
    scene = SCENE.select_bands("gri"[:n_bands])
    model = MODEL.select_bands(scene.bands)
    in_none, in_one, in_two = (_candidate(150.0, 240.0 + 8 * n, bands="gr"[:n]) for n in range(3))
    missing = find_missing(scene, FOUND, model, Fixed(in_none, in_one, in_two))
    # Equally sure, and so in the order of their places.
    assert missing.candidates == (in_none, in_one, in_two)
    assert [placement.peak > 0 for placement in missing.placements] == [False, n_bands < 3, True]
    table = missing.table
    assert (table["reason"][table["peak"] == 0] == Fate.TOO_FEW_BANDS).all()
    assert (table["reason"][table["peak"] > 0] == "").all()
    missing = find_missing(scene, FOUND, model, Fixed(in_none), FindMissingOptions(min_bands=0))
    assert missing.placements[0].peak


def test_a_band_without_a_good_pixel_does_not_count():
    mask = np.zeros(SCENE.images.shape, np.int32)
    mask[2] = 1 << SCENE.mask_planes["BAD"]
    missing = find_missing(replace(SCENE, mask=mask), FOUND, MODEL, Fixed(_candidate(150, 240, bands="g")))
    assert missing.placements[0].peak


def test_another_threshold_needs_no_second_look():
    missing = find_missing(SCENE, FOUND, MODEL, MatchedFilter())
    for threshold in (4.5, 8.0):
        options = FindMissingOptions(score_threshold=threshold)
        anew = find_missing(SCENE, FOUND, MODEL, MatchedFilter(), options)
        other = missing.at_threshold(threshold)
        assert (other.detections, other.placements) == (anew.detections, anew.placements)
        assert other.score_threshold == threshold


def test_iterations_count_on_from_what_is_there():
    first = find_missing(SCENE, FOUND, MODEL, Fixed(_candidate(Y, X)))
    image = MODEL.image(SCENE)
    second = find_missing(SCENE, first.detections, image, Fixed(_candidate(150.0, 240.0)))
    assert [peak.iteration for peak in second.detections.peaks if peak.from_residual] == [1, 2]
    assert [peak.iteration for peak in second.new_peaks] == [2]


def test_the_table_has_a_row_for_each_candidate_surest_first():
    scene = replace(SCENE, sky_position=lambda y, x: (10 + x / 1000, y / 1000))
    twins = [
        _candidate(150.0, 240.0, 0.6, half=1),
        _candidate(150.0, 240.0, 0.9),
        _candidate(145.0, 220.0, 0.1),
    ]
    table = find_missing(scene, FOUND, MODEL, Fixed(*twins)).table
    assert table["score"].tolist() == [0.9, 0.6, 0.1]
    assert (table["peak"] > 0).tolist() == (table["parent"] > 0).tolist() == [True, False, False]
    assert table["reason"].tolist() == ["", Fate.NEAR_SURER, Fate.BELOW_THRESHOLD]
    assert table["area"].tolist() == [25, 9, 25]
    assert (table["ra"][0], table["dec"][0]) == pytest.approx((10.24, 0.15))
    without = find_missing(SCENE, FOUND, MODEL, Fixed(*twins)).table
    assert np.isnan(without["ra"]).all()
    assert len(find_missing(SCENE, FOUND, MODEL, Fixed()).table) == 0


def test_a_model_that_does_not_fit_is_refused():
    image = MODEL.image(SCENE)
    with pytest.raises(SceneError, match=r"shape \(3, 59, 64\); expected \(3, 60, 64\)"):
        find_missing(SCENE, FOUND, image[:, 1:], Fixed())
    image[1, 3, 4] = np.inf
    with pytest.raises(SceneError, match=r"not finite in bands \['r'\]"):
        find_missing(SCENE, FOUND, image, Fixed())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bad_planes": "SAT"}, "bad_planes is 'SAT'; expected a tuple"),
        ({"min_bands": -1}, "min_bands is -1"),
        ({"min_distance_pix": -0.5}, "min_distance_pix is -0.5"),
        ({"score_threshold": float("nan")}, "not a number"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FindMissingOptions(**options)
    with pytest.raises(DeblendError, match="unknown deblender 'nose'"):
        FindMissingOptions(singles_engine="nose")


@pytest.mark.parametrize(("left", "said"), [(0.003, True), (0.03, False)])
def test_what_hardly_stands_out_from_a_bright_star_is_doubted(left, said):
    """What is left is a star's own light, not a source."""
    scene = make_scene([(30, 33, 300_000.0)], rng=np.random.default_rng(5))
    found = detect(scene)
    model = (scene.images * (1 - left)).astype(np.float32)
    missing = find_missing(scene, found, model, Fixed(_candidate(33.0, 36.0)))
    assert len(missing.new_peaks) == 1
    assert missing.table["contrast"][0] == pytest.approx(left / (1 - left), rel=1e-3)
    assert missing.doubt.startswith("1 of 1 new peaks have less light than 1%") == said
    assert bool(missing.doubt) == said
    assert not find_missing(scene, found, model, Fixed()).doubt


def test_a_source_whose_centre_lies_beyond_the_edge_is_in_the_catalogue(monkeypatch):
    beyond = np.array([[100.0 + SCENE.shape[0], 200.0 - 1]])
    monkeypatch.setattr(sky_catalogue, "centroids", lambda *_: beyond)
    missing = find_missing(SCENE, FOUND, MODEL, Fixed(_candidate(101.0 + 1, 230.0)))
    sources = sky_catalogue.all_sources(SCENE, missing, MODEL)
    assert sources["flag_edge"][sources["new"]].all() and sources["new"].sum() == 1
