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


"""Parents without a model: singles are modelled, the others left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import BLEND_SOURCES, HIDDEN, PSF_SIGMAS_PIX, make_scene
from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak
from lsst.meas.residualdetect.candidates import Candidate, add_candidates
from lsst.meas.residualdetect.deblend import DeblendOptions, deblend
from lsst.meas.residualdetect.deblend.singles import SKY_OBJECT, model_singles
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.noise import point_source_flux, point_source_sums, significance
from lsst.meas.residualdetect.tasks.residual_detection import (
    NoUsableModelError,
    ResidualDetectionConfig,
    ResidualDetectionTask,
)

OPTIONS = DeblendOptions()
SCENE = make_scene(BLEND_SOURCES, rng=np.random.default_rng(5))
FOUND = detect(SCENE)


def _task(**config):
    options = ResidualDetectionConfig(data_model="array", detector="matched_filter", **config)
    return ResidualDetectionTask(config=options)


def _nothing(scene):
    return deblend(scene, [])


def test_a_single_without_a_model_gets_the_deblender_s_own():
    assert all(len(parent.peaks) == 1 for parent in FOUND)
    whole = deblend(SCENE, FOUND.parents)
    unmodelled = model_singles(SCENE, FOUND, _nothing(SCENE), OPTIONS)
    assert not unmodelled.left_alone
    np.testing.assert_array_equal(unmodelled.singles.image(SCENE), whole.image(SCENE))


def test_only_what_is_missing_is_modelled():
    some = deblend(SCENE, FOUND.parents[:2])
    unmodelled = model_singles(SCENE, FOUND, some, OPTIONS)
    assert [fit.parent_id for fit in unmodelled.singles] == [parent.id for parent in FOUND.parents[2:]]


def test_the_hidden_source_is_found_in_the_residual_of_a_single():
    result = _task().run(SCENE, FOUND, _nothing(SCENE))
    new = [peak for peak in result.detections.peaks if peak.from_residual]
    assert min(np.hypot(peak.y - HIDDEN[0], peak.x - HIDDEN[1]) for peak in new) < 1.5


def test_parents_that_the_deblender_left_out_are_left_alone_and_counted():
    blend = next(parent for parent in FOUND if parent.footprint.contains(*HIDDEN))
    second = replace(blend.peaks[0], id=99, y=blend.peaks[0].y + 3)
    crowd = replace(blend, peaks=(*blend.peaks, second))
    others = [parent for parent in FOUND if parent is not blend]
    catalogue = Detections((crowd, *others))
    task = _task()
    result = task.run(SCENE, catalogue, deblend(SCENE, others))
    assert task.metadata["n_left_alone"] == 1
    assert result.detections.parents[0] is crowd
    # What is hidden from the detector is the residual, which is the source.
    rows = result.candidates
    assert not any(crowd.footprint.contains(row["y"], row["x"]) for row in rows)


def test_a_failed_parent_is_left_alone():
    model = deblend(SCENE, FOUND.parents)
    failed = replace(model, parents=(replace(model.parents[0], sources=(), failure="so"), *model.parents[1:]))
    unmodelled = model_singles(SCENE, FOUND, failed, OPTIONS)
    assert unmodelled.left_alone == {FOUND.parents[0].id: "so"}
    hidden = unmodelled.hidden(FOUND, SCENE, failed.image(SCENE))
    np.testing.assert_array_equal(
        hidden, FOUND.parents[0].footprint.to_mask((slice(0, SCENE.shape[0]), slice(0, SCENE.shape[1])))
    )


def test_sky_objects_are_never_touched_and_never_joined():
    y, x = 40, 40
    spot = Footprint.from_mask(np.ones((9, 9), bool), (y - 4, x - 4))
    sky = Parent(77, spot, (Peak(77, y, x),), is_sky=True)
    catalogue = Detections((*FOUND.parents, sky))
    unmodelled = model_singles(SCENE, catalogue, deblend(SCENE, FOUND.parents), OPTIONS)
    assert unmodelled.left_alone == {77: SKY_OBJECT}
    assert not unmodelled.hidden(catalogue, SCENE, np.zeros_like(SCENE.images)).any()
    on_it = Candidate(y + 2.0, x, 9.0, Footprint.from_mask(np.ones((5, 5), bool), (y, x - 2)))
    beside = Candidate(y + 6.0, x, 9.0, Footprint.from_mask(np.ones((5, 5), bool), (y + 4, x - 2)))
    after = add_candidates(catalogue, [on_it, beside], SCENE, left_alone=unmodelled.left_alone).detections
    assert after.parents[len(FOUND)] is sky
    assert len(after) == len(catalogue) + 1
    labels = after.labels(SCENE.shape, SCENE.origin)
    assert (labels[y - 4 : y + 5, x - 4 : x + 5] == len(FOUND) + 1).all()  # a row of the mask among them
    assert (labels[y + 5 : y + 9, x - 2 : x + 3] == len(after)).all()


def test_a_patch_without_any_model_is_an_error_that_says_why():
    crowd = tuple(
        replace(
            parent,
            peaks=(*parent.peaks, replace(parent.peaks[0], id=parent.id + 100, y=parent.peaks[0].y + 2)),
        )
        for parent in FOUND
    )
    with pytest.raises(
        NoUsableModelError, match=f"none of {len(crowd)} parents has a model; .* 2 peaks"
    ) as info:
        _task().run(SCENE, Detections(crowd), _nothing(SCENE))
    assert info.value.metadata["n_parents"] == len(crowd)


def test_only_sky_objects_is_no_error():
    sky = Detections((Parent(1, FOUND.parents[0].footprint, FOUND.parents[0].peaks, is_sky=True),))
    task = _task()
    result = task.run(SCENE, sky, _nothing(SCENE))
    assert (task.metadata["n_sky"], task.metadata["n_candidates"]) == (1, 0)
    assert result.detections.parents[0] is sky.parents[0]


def test_the_task_s_own_bad_planes_reach_the_detector():
    mask = np.zeros(SCENE.images.shape, np.int32)
    mask[:, 25:36, 29:40] = 1 << SCENE.mask_planes["CR"]
    scene = replace(SCENE, mask=mask)
    y, x = (round(place) for place in HIDDEN)

    def nearest(result):
        return min((np.hypot(r["y"] - y, r["x"] - x) for r in result.candidates), default=np.inf)

    model = deblend(SCENE, FOUND.parents)
    assert nearest(_task().run(scene, FOUND, model)) < 1.5
    assert nearest(_task(bad_mask_planes=["CR"]).run(scene, FOUND, model)) > 3


def test_the_table_s_signal_to_noise_is_the_matched_filter_s():
    rng = np.random.default_rng(3)
    y, x = rng.uniform(0, 59, 30), rng.uniform(0, 63, 30)
    scene = make_scene(BLEND_SOURCES, rng=rng, origin=(100, 200))
    snr = np.divide(*point_source_flux(scene.images, scene, y + 100, x + 200))
    for band in range(3):
        image = significance(*point_source_sums(scene.images[band], scene.weights()[band], scene.psfs[band]))
        expected = image[np.rint(y).astype(int), np.rint(x).astype(int)]
        np.testing.assert_allclose(snr[:, band], expected, rtol=1e-3, atol=2e-3)


@pytest.fixture(scope="module")
def masked_star():
    """A saturated star beside a blend, its core masked: scene and catalogue."""
    made = make_scene([*BLEND_SOURCES, (38.0, 30.0, 20_000.0)], rng=np.random.default_rng(5))
    distance = np.hypot(*(np.indices(made.shape) - np.array([38, 30])[:, None, None]))
    mask = np.where(distance < 3, 1 << made.mask_planes["SAT"], 0).astype(np.int32)
    scene = replace(made, mask=np.broadcast_to(mask, made.images.shape))
    places = [(y, x) for y, x, _ in BLEND_SOURCES] + [(38.0, 30.0)]
    peaks = tuple(Peak(k, y, x) for k, (y, x) in enumerate(places, start=1))
    everywhere = Footprint.from_mask(np.ones(made.shape, bool))
    return scene, Detections((Parent(1, everywhere, peaks),))


@pytest.mark.parametrize("engine", ["factorized", "scarlet_lite"])
def test_one_masked_peak_costs_nobody_else_a_model(masked_star, engine):
    if engine == "scarlet_lite":
        pytest.importorskip("lsst.scarlet.lite")
    scene, catalogue = masked_star
    model = deblend(scene, catalogue.parents, engine=engine)
    (fit,) = model
    assert fit.failure == ""
    assert fit.unmodelled == {5: "peak 5 at (y, x) = (38.0, 30.0) is on a pixel that is bad in all bands"}
    assert {source.peak_id for source in fit.sources} == {1, 2, 3, 4}
    # The star's wings are 300 times the noise where the blend's pixels begin.
    truth = np.array([np.broadcast_to(flux, 3) for _, _, flux in BLEND_SOURCES])
    error = np.array([2 * sigma * np.sqrt(np.pi) for sigma in PSF_SIGMAS_PIX])
    np.testing.assert_allclose(model.peak_fluxes([1, 2, 3, 4]), truth, atol=6 * error.max(), rtol=0.1)
    assert np.isnan(model.peak_fluxes([5])).all()


def test_nothing_is_looked_for_around_a_masked_peak(masked_star):
    scene, catalogue = masked_star
    model = deblend(scene, catalogue.parents)
    unmodelled = model_singles(scene, catalogue, model, OPTIONS)
    assert not unmodelled.left_alone
    assert list(unmodelled.peaks) == [5]
    residual = (scene.images - model.image(scene)) / np.sqrt(scene.variance)
    hidden = unmodelled.hidden(catalogue, scene, model.image(scene))
    assert np.abs(residual)[:, ~hidden].max() < 5.5
    assert hidden.mean() < 0.4
    # Light that is modelled is not taken for the star's.
    assert not any(hidden[round(y), round(x)] for y, x, _ in BLEND_SOURCES)
    task = _task()
    result = task.run(scene, catalogue, model)
    assert task.metadata["n_left_alone"] == 0
    assert task.metadata["n_unmodelled_peaks"] == 1
    assert len(result.detections.peaks) == 5


def test_a_source_is_still_found_beside_a_masked_peak(masked_star):
    scene, catalogue = masked_star
    (parent,) = catalogue
    told = Detections((replace(parent, peaks=(parent.peaks[0], *parent.peaks[2:])),))
    result = _task().run(scene, told, deblend(scene, told.parents))
    (new,) = (peak for peak in result.detections.peaks if peak.from_residual)
    assert np.hypot(new.y - HIDDEN[0], new.x - HIDDEN[1]) < 1.5


def test_peaks_that_another_deblender_gave_no_source_are_unmodelled():
    pair = Parent(1, Footprint.from_mask(np.ones(SCENE.shape, bool)), (Peak(1, 30, 30), Peak(2, 12, 50)))
    whole = deblend(SCENE, [pair])
    (fit,) = whole
    half = replace(whole, parents=(replace(fit, sources=tuple(s for s in fit.sources if s.peak_id == 1)),))
    unmodelled = model_singles(SCENE, Detections((pair,)), half, OPTIONS)
    assert list(unmodelled.peaks) == [2]
    hidden = unmodelled.hidden(Detections((pair,)), SCENE, half.image(SCENE))
    assert hidden[12, 50] and not hidden[30, 30]


def test_single_peak_parents_are_fitted_without_the_task_s_bad_pixels():
    config = ResidualDetectionConfig(data_model="array", bad_mask_planes=["NO_DATA", "BRIGHT_OBJECT"])
    options = config.options()
    assert options.singles.bad_planes == options.bad_planes == ("NO_DATA", "BRIGHT_OBJECT")
