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


"""The taxonomy and its figures of merit, on scenes small enough to know the
answer by hand.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lsst.meas.residualdetect import (
    Detections,
    Footprint,
    Parent,
    ParentModel,
    Peak,
    Scene,
    SceneModel,
    SourceModel,
)
from lsst.meas.residualdetect.noise import expected_snr
from lsst.meas.residualdetect.psf_images import gaussian_psf
from lsst.meas.residualdetect.scene import MASK_PLANES
from lsst.meas.residualdetect.truth import (
    EvaluationOptions,
    PatchResult,
    evaluate_patch,
    strict_json,
    summarise,
)
from lsst.meas.residualdetect.truth.measures import psf_sigma_pix
from lsst.meas.residualdetect.truth.metrics import are_probabilities, reliability, shares
from lsst.meas.residualdetect.truth.taxonomy import CLASS_DTYPE

SIGMA_MODEL = 0.8
SIGMA_PSF = 1.6
NOISE = 1.0
# Flux in each band over that of the first: every source of a scene has its
# own mix of these two.
COLOURS = np.array([[1.0, 0.6, 0.3, 0.8, 0.5, 0.4], [1.0, 1.8, 2.6, 1.4, 2.0, 2.2]])


def point_source(peak_id: int, y: float, x: float, fluxes: np.ndarray) -> SourceModel:
    corner = round(y) - 5, round(x) - 5
    rows, columns = np.arange(11) + corner[0] - y, np.arange(11) + corner[1] - x
    morphology = np.exp(-0.5 * (rows[:, None] ** 2 + columns**2) / SIGMA_MODEL**2)
    spectrum = np.asarray(fluxes) / morphology.sum()
    return SourceModel(peak_id, spectrum.astype(np.float32), morphology.astype(np.float32), corner)


def make_result(
    true: list[tuple[float, float, float]],
    old: list[list[tuple[float, float, float]]],
    new: list[list[tuple[float, float, float, float]]],
    boxes: list[tuple[int, int, int, int]],
    *,
    bands: str = "gri",
    shape: tuple[int, int] = (64, 64),
    origin: tuple[int, int] = (0, 0),
    seed: int | None = 1,
) -> PatchResult:
    """A patch of point sources.

    ``true`` are (y, x, flux in the first band) of the true sources, numbered
    from 100. Each parent has a box (y_first, y_after, x_first, x_after), old
    peaks (y, x, modelled flux), numbered from 1, and new ones (y, x, modelled
    flux, score), numbered from 50. There is no noise without a seed.
    """
    offset = np.array(origin)

    def colour(number: int) -> np.ndarray:
        return COLOURS[number % 2, : len(bands)]

    truth = np.array(
        [(100 + n, y + offset[0], x + offset[1], *(flux * colour(n))) for n, (y, x, flux) in enumerate(true)],
        dtype=[("id", "i8"), ("y", "f8"), ("x", "f8"), *((f"flux_{band}", "f8") for band in bands)],
    )
    psfs = np.stack([gaussian_psf(SIGMA_PSF, (21, 21))] * len(bands))

    def nearest_colour(y: float, x: float) -> np.ndarray:
        if not true:
            return colour(0)
        return colour(int(np.argmin([np.hypot(y - t[0], x - t[1]) for t in true])))

    parents_before, parents_after, models_before, models_after = [], [], [], []
    old_id, new_id = 1, 50
    for number, (box, old_here, new_here) in enumerate(zip(boxes, old, new, strict=True), start=1):
        mask = np.zeros(shape, bool)
        mask[box[0] : box[1], box[2] : box[3]] = True
        footprint = Footprint.from_mask(mask, origin)
        peaks, sources, extra, extra_sources = [], [], [], []
        for y, x, flux in old_here:
            peaks.append(Peak(old_id, y + offset[0], x + offset[1], frozenset(bands)))
            sources.append(point_source(old_id, y + offset[0], x + offset[1], flux * nearest_colour(y, x)))
            old_id += 1
        for y, x, flux, score in new_here:
            extra.append(Peak(new_id, y + offset[0], x + offset[1], frozenset(bands), 1, score))
            extra_sources.append(
                point_source(new_id, y + offset[0], x + offset[1], flux * nearest_colour(y, x))
            )
            new_id += 1
        parents_before.append(Parent(number, footprint, tuple(peaks)))
        parents_after.append(Parent(number, footprint, (*peaks, *extra)))
        models_before.append(ParentModel(number, tuple(sources), converged=True))
        models_after.append(ParentModel(number, (*sources, *extra_sources), converged=True))

    model = SceneModel(tuple(bands), psfs.astype(np.float32), gaussian_psf(SIGMA_MODEL, (17, 17)), ())
    blank = Scene(np.zeros((len(bands), *shape)), np.ones((len(bands), *shape)), psfs, tuple(bands))
    blank = replace(blank, origin=origin, name="made by hand")
    everything = tuple(
        point_source(n, y + offset[0], x + offset[1], flux * colour(n)) for n, (y, x, flux) in enumerate(true)
    )
    images = replace(model, parents=(ParentModel(0, everything),)).image(blank)
    if seed is not None:
        images = images + np.random.default_rng(seed).normal(0, NOISE, images.shape)
    return PatchResult(
        "patch 1 (made by hand)",
        replace(blank, images=images, variance=np.full(images.shape, NOISE**2, np.float32)),
        Detections(tuple(parents_before)),
        Detections(tuple(parents_after)),
        replace(model, parents=tuple(models_before)),
        replace(model, parents=tuple(models_after)),
        truth,
    )


def every_class(**keywords: object) -> PatchResult:
    """One source, and one new peak, of every class.

    By the ids of the true sources:
    100 matched, 101 unrecognised beside it and recovered;
    102 and 103 matched, 104 partially deblended between them, not recovered;
    105 missed; 106 faint and found; 107 far too faint.
    New peaks: 50 right, 51 a shred of 102, 52 on the faint source, 53 on
    nothing.
    """
    return make_result(
        true=[
            (12.0, 12.0, 900.0),
            (12.0, 17.0, 300.0),
            (12.0, 40.0, 800.0),
            (20.0, 48.0, 700.0),
            (16.0, 44.0, 200.0),
            (50.0, 10.0, 400.0),
            (50.0, 50.0, 32.0),
            (32.0, 32.0, 5.0),
        ],
        old=[
            [(12.2, 12.4, 1200.0)],
            [(12.0, 40.0, 800.0), (20.0, 48.0, 700.0)],
            [(42.0, 42.0, 10.0)],
        ],
        new=[
            [(12.0, 16.5, 300.0, 0.9)],
            [(12.0, 38.0, 20.0, 0.7)],
            [(50.0, 50.0, 30.0, 0.6), (45.0, 57.0, 10.0, 0.8)],
        ],
        boxes=[(4, 21, 4, 26), (4, 29, 30, 58), (38, 60, 38, 60)],
        **keywords,  # type: ignore[arg-type]
    )


def by_id(table: object, column: str) -> dict[int, object]:
    return dict(zip(table["id"].tolist(), table[column].tolist(), strict=True))  # type: ignore[index]


def test_every_class_is_told_apart():
    evaluation = evaluate_patch(every_class())
    assert by_id(evaluation.truth, "class") == {
        100: "matched",
        101: "unrecognized",
        102: "matched",
        103: "matched",
        104: "partially_deblended",
        105: "missed",
        106: "faint",
        107: "faint",
    }
    assert by_id(evaluation.peaks, "class") == {50: "right", 51: "shred", 52: "right_faint", 53: "spurious"}
    assert by_id(evaluation.peaks, "true_id") == {50: 101, 51: 102, 52: 106, 53: -1}
    distances = by_id(evaluation.truth, "distance_pix")
    assert distances[100] == pytest.approx(np.hypot(0.2, 0.4)) and distances[102] == 0
    assert all(np.isnan(distances[number]) for number in (101, 104, 105, 107))
    found = by_id(evaluation.truth, "new_distance_pix")
    assert (found[101], found[106]) == (0.5, 0) and np.isnan(found[100])
    assert by_id(evaluation.peaks, "distance_pix")[51] == 2
    # 101 is 5 pixels from 100, which is brighter in all bands together.
    assert by_id(evaluation.truth, "neighbour_id")[101] == 100
    assert by_id(evaluation.truth, "separation_pix")[101] == 5
    fwhm = 2.35482 * SIGMA_PSF
    assert by_id(evaluation.truth, "separation_fwhm")[101] == pytest.approx(5 / fwhm, rel=1e-3)
    assert by_id(evaluation.truth, "blended") == {n: n in (100, 102, 103) for n in range(100, 108)}
    assert evaluation.truth["class"].dtype == np.dtype(CLASS_DTYPE)


def test_summary_of_every_class():
    summary = summarise([evaluate_patch(every_class())] * 2)
    expected = {
        "n_patches": 2,
        "n_truth": 12,
        "n_faint": 4,
        "n_peaks": 8,
        "n_matched": 6,
        "n_unrecognized": 4,
        "n_unrecognized_single_peak": 2,
        "n_partially_deblended": 2,
        "n_missed": 2,
        "n_new_peaks": 8,
        "n_right": 2,
        "n_recovered": 2,
        "n_right_faint": 2,
        "n_shreds": 2,
        "n_spurious": 2,
        "recovery": 0.5,
        "purity": pytest.approx(1 / 3),
        "shreds_per_matched_source": pytest.approx(1 / 3),
        "centroid_error_pix": pytest.approx(0.5),
    }
    assert {key: summary[key] for key in expected} == expected
    json.loads(strict_json(summary))


def test_origin_of_the_patch_does_not_matter():
    here, there = (evaluate_patch(every_class(origin=origin)) for origin in ((0, 0), (4000, 12000)))
    assert by_id(here.truth, "class") == by_id(there.truth, "class")
    assert by_id(here.peaks, "class") == by_id(there.peaks, "class")
    np.testing.assert_allclose(here.parents["chi2_before"], there.parents["chi2_before"], rtol=1e-4)
    np.testing.assert_array_equal(here.parents["n_true"], there.parents["n_true"])


def test_shred_beats_a_companion_that_is_farther():
    # Both true sources are within the match radius of the new peak.
    def new_peak_at(x: float) -> str:
        result = make_result(
            true=[(20.0, 20.0, 900.0), (20.0, 23.0, 200.0)],
            old=[[(20.0, 20.0, 900.0)]],
            new=[[(20.0, x, 50.0, 0.5)]],
            boxes=[(10, 30, 10, 34)],
        )
        return str(evaluate_patch(result).peaks["class"][0])

    assert new_peak_at(21.2) == "shred"
    assert new_peak_at(21.8) == "right"


@pytest.mark.parametrize(("second_score", "right"), [(0.85, 50), (0.95, 51)])
def test_second_new_peak_on_a_recovered_source_is_a_shred(second_score, right):
    result = make_result(
        true=[(20.0, 20.0, 900.0), (20.0, 26.0, 200.0)],
        old=[[(20.0, 20.0, 900.0)]],
        new=[[(20.0, 26.3, 200.0, 0.9), (20.0, 27.5, 20.0, second_score)]],
        boxes=[(10, 30, 10, 34)],
    )
    evaluation = evaluate_patch(result)
    # The surer is right, though the other may be nearer.
    assert by_id(evaluation.peaks, "class") == {50: "shred", 51: "shred", right: "right"}
    assert by_id(evaluation.peaks, "true_id") == {50: 101, 51: 101}


def test_peak_in_the_core_of_an_extended_source_is_a_shred():
    result = make_result(
        true=[(32.0, 32.0, 3000.0)],
        old=[[(32.0, 32.0, 3000.0)]],
        new=[[(32.0, 37.0, 20.0, 0.9), (32.0, 46.0, 20.0, 0.9)]],
        boxes=[(8, 56, 8, 56)],
    )
    assert list(evaluate_patch(result).peaks["class"]) == ["spurious", "spurious"]
    wide = gaussian_psf(4.0, (41, 41)).astype(np.float32)
    source = SourceModel(1, np.full(3, 3000.0, np.float32), wide, (12, 12))
    model = replace(result.model_before, parents=(ParentModel(1, (source,)),))
    assert list(evaluate_patch(replace(result, model_before=model)).peaks["class"]) == ["shred", "spurious"]


def test_footprint_without_an_own_peak_near_leaves_both_unrecognised():
    result = make_result(
        true=[(20.0, 16.0, 500.0), (20.0, 24.0, 500.0)],
        old=[[(20.0, 20.0, 1000.0)]],
        new=[[(20.0, 16.0, 500.0, 0.9), (20.0, 24.0, 500.0, 0.8)]],
        boxes=[(10, 30, 8, 32)],
    )
    evaluation = evaluate_patch(result)
    assert set(evaluation.truth["class"]) == {"unrecognized"}
    assert summarise([evaluation])["recovery"] == 1


def test_what_the_patch_did_not_observe_is_not_counted():
    result = make_result(
        true=[(20.0, 20.0, 900.0), (-3.0, 20.0, 900.0), (50.0, 50.0, 900.0)],
        old=[[(20.0, 20.0, 900.0)]],
        new=[[]],
        boxes=[(10, 30, 10, 34)],
    )
    variance = result.scene.variance.copy()
    variance[:, 45:55, 45:55] = np.inf
    evaluation = evaluate_patch(replace(result, scene=replace(result.scene, variance=variance)))
    assert list(evaluation.truth["id"]) == [100]


def test_model_equal_to_the_truth_has_no_flux_error_and_white_residuals():
    true = [(20.0, 20.0, 900.0), (20.0, 25.0, 400.0)]
    result = make_result(
        true=true, old=[[(20.0, 20.0, 1200.0)]], new=[[(20.0, 25.0, 400.0, 0.9)]], boxes=[(10, 32, 10, 36)]
    )
    exact = replace(
        result.model_after,
        parents=(
            ParentModel(
                1,
                (
                    point_source(1, 20, 20, 900 * COLOURS[0, :3]),
                    point_source(50, 20, 25, 400 * COLOURS[1, :3]),
                ),
            ),
        ),
    )
    summary = summarise([evaluate_patch(replace(result, model_after=exact))])
    errors = summary["flux_error"]
    assert errors["blended_before"] == pytest.approx(dict.fromkeys(["all", "g", "r", "i"], 1 / 3), rel=1e-5)
    for key in ("blended_after", "recovered_after"):
        assert errors[key] == pytest.approx(dict.fromkeys(["all", "g", "r", "i"], 0.0), abs=1e-6)
    # 1716 pixels of unit chi-square: 5 standard deviations are 0.17.
    assert summary["chi2_after"] == pytest.approx(1.0, abs=0.17)
    assert summary["chi2_before"] > 2


@pytest.mark.parametrize(
    ("factors", "error"),
    [((1.0, 1.0, 1.0), 0.0), ((1.1, 5.0, 1.0), 2.5 * np.log10(1.1)), ((0.0, 1.0, 1.0), np.inf)],
)
def test_colour_error_is_that_of_g_minus_i(factors, error):
    result = every_class()
    spectrum = 900 * COLOURS[0, :3] * factors
    tinted = replace(result.model_before.parents[0], sources=(point_source(1, 12, 12, spectrum),))
    model = replace(result.model_before, parents=(tinted, *result.model_before.parents[1:]))
    evaluation = evaluate_patch(replace(result, model_before=model))
    # The other blended sources have the right colours.
    evaluation.truth["blended"] &= evaluation.truth["id"] == 100
    assert summarise([evaluation])["colour_error_mag"]["blended_before"] == pytest.approx(error, abs=1e-6)


def test_a_source_without_a_model_has_no_colour():
    result = every_class()
    failed = replace(result.model_before.parents[0], sources=(), failure="as a test")
    model = replace(result.model_before, parents=(failed, *result.model_before.parents[1:]))
    evaluation = evaluate_patch(replace(result, model_before=model))
    evaluation.truth["blended"] &= evaluation.truth["id"] == 100
    assert np.isnan(summarise([evaluation])["colour_error_mag"]["blended_before"])


def test_both_chi2_are_over_the_new_footprint():
    result = every_class(seed=None)
    grown = Footprint.from_mask(np.ones((64, 64), bool))
    after = Detections((replace(result.after.parents[0], footprint=grown),))
    model = replace(result.model_after, parents=result.model_after.parents[:1])
    parents = evaluate_patch(replace(result, after=after, model_after=model)).parents
    assert list(parents["n_pixels"]) == [3 * 64 * 64]
    missing = result.scene.images - result.model_before.image(result.scene)
    assert parents["chi2_before"][0] == pytest.approx(np.square(missing).sum(), rel=1e-4)


def test_failed_parents_are_left_out_of_chi2():
    result = every_class()
    failed = replace(result.model_after.parents[0], sources=(), failure="singular")
    model = replace(result.model_after, parents=(failed, *result.model_after.parents[1:]))
    evaluation = evaluate_patch(replace(result, model_after=model))
    assert list(evaluation.parents["failed"]) == [True, False, False]
    summary = summarise([evaluation])
    rows = evaluation.parents[1:]
    assert summary["chi2_after"] == pytest.approx(rows["chi2_after"].sum() / rows["n_pixels"].sum())


def test_expected_snr_is_that_of_the_least_squares_flux():
    # Fit the amplitude of the PSF to many noise fields: the flux over its
    # scatter is the signal-to-noise ratio.
    result = make_result([(32.0, 32.0, 100.0)], [], [], [], bands="g")
    rng = np.random.default_rng(3)
    psf = result.scene.psfs[0]
    noise = rng.normal(0, NOISE, (4000, *psf.shape))
    scatter = np.std((noise * psf).sum(axis=(1, 2)) / np.square(psf).sum())
    place = np.array([32.0])
    snr = expected_snr(np.array([[100.0]]), result.scene, place, place)[0]
    assert snr == pytest.approx(100.0 / scatter, rel=0.05)
    assert psf_sigma_pix(result.scene) == pytest.approx(SIGMA_PSF, rel=1e-3)


def test_sources_are_counted_by_the_noise_of_the_pixels_they_lie_on():
    result = every_class()
    noisy = result.scene.variance.copy()
    noisy[:, 38:, :22] *= 1e4  # around the missed source
    loud = evaluate_patch(replace(result, scene=replace(result.scene, variance=noisy)))
    quiet = by_id(evaluate_patch(result).truth, "class")
    assert by_id(loud.truth, "class") == {**quiet, 105: "faint"}


def test_pixels_are_left_out_that_the_run_leaves_out():
    result = every_class()
    mask = result.scene.mask.copy()
    mask[:, 11:14, 16:19] = 1 << MASK_PLANES["CR"]  # on the unrecognised source
    mask[:, 49:52, 9:12] = 1 << MASK_PLANES["SAT"]  # on the missed one
    masked = replace(result, scene=replace(result.scene, mask=mask))
    n_pixels = {}
    for planes, unseen in (((), set()), (("CR",), {101}), (("SAT",), {105}), (("CR", "SAT"), {101, 105})):
        evaluation = evaluate_patch(masked, bad_planes=planes)
        assert set(range(100, 108)) - set(evaluation.truth["id"].tolist()) == unseen
        n_pixels[planes] = evaluation.parents["n_pixels"][0]
    assert n_pixels[()] - n_pixels["CR",] == 9 * len(result.scene.bands)
    by_default = evaluate_patch(masked)
    np.testing.assert_array_equal(
        by_default.truth["id"], evaluate_patch(masked, bad_planes=["SAT"]).truth["id"]
    )


def test_snr_column_of_the_truth_is_preferred():
    result = every_class()
    assert result.truth is not None
    dtype = [*result.truth.dtype.descr, ("snr", "f8")]
    truth = np.zeros(len(result.truth), dtype=dtype)
    for name in result.truth.dtype.names or ():
        truth[name] = result.truth[name]
    truth["snr"] = 7.0
    assert set(evaluate_patch(replace(result, truth=truth)).truth["class"]) == {"faint"}


def test_without_truth_there_are_counts_and_chi2_only():
    result = replace(every_class(), truth=None)
    evaluation = evaluate_patch(result)
    assert evaluation.truth is None
    assert set(evaluation.peaks["class"]) == {"unlabelled"}
    assert set(evaluation.parents["n_true"]) == {-1}
    summary = json.loads(strict_json(summarise([evaluation])))
    assert summary["n_new_peaks"] == 4
    assert summary["chi2_after"] < summary["chi2_before"]
    for key in ("n_truth", "n_unrecognized", "n_recovered", "n_spurious", "n_shreds", "recovery", "purity"):
        assert summary[key] is None


def test_truth_of_some_patches_only():
    known = evaluate_patch(every_class())
    both = summarise([known, evaluate_patch(replace(every_class(), truth=None))])
    alone = summarise([known])
    assert both["n_new_peaks"] == 2 * alone["n_new_peaks"]
    for key in ("n_truth", "recovery", "purity", "average_precision", "flux_error"):
        assert both[key] == alone[key]


@pytest.mark.parametrize("with_truth", [True, False])
def test_empty_catalogues(with_truth: bool):
    result = make_result([], [], [], [])
    evaluation = evaluate_patch(result if with_truth else replace(result, truth=None))
    assert len(evaluation.peaks) == len(evaluation.parents) == 0
    summary = json.loads(strict_json(summarise([evaluation])))
    assert summary["n_peaks"] == 0
    assert summary["n_truth"] == (0 if with_truth else None)
    for key in ("recovery", "purity", "chi2_before", "chi2_after"):
        assert summary[key] is None


def test_no_new_peaks():
    result = every_class()
    evaluation = evaluate_patch(replace(result, after=result.before, model_after=result.model_before))
    summary = summarise([evaluation])
    assert (summary["recovery"], summary["average_precision"]) == (0.0, 0.0)
    assert np.isnan(summary["purity"])
    assert np.isnan(summary["chi2_before"])
    assert summary["chi2_all_before"] == summary["chi2_all_after"]
    assert summary["flux_error"]["blended_before"] == summary["flux_error"]["blended_after"]


def test_no_patches():
    summary = json.loads(strict_json(summarise([])))
    assert summary["n_patches"] == summary["n_peaks"] == 0


def test_summary_is_strict_json():
    def refuse(constant: str) -> float:
        raise ValueError(constant)

    text = strict_json({**summarise([evaluate_patch(every_class())]), "seconds": {"a": float("nan")}})
    summary = json.loads(text, parse_constant=refuse)
    assert summary["seconds"] == {"a": None}
    assert summary["recovery_by"]["snr"][0]["low"] is None
    for key in (
        "n_truth", "n_peaks", "n_unrecognized", "n_new_peaks", "n_recovered", "n_spurious", "n_shreds",
        "recovery", "purity", "chi2_before", "chi2_after", "seconds",
    ):  # fmt: skip
        assert key in summary


def test_pooling_patches_of_different_bands():
    summary = summarise([evaluate_patch(every_class(bands=bands)) for bands in ("gri", "iz")])
    assert set(summary["flux_error"]["blended_before"]) == {"all", "g", "r", "i", "z"}
    assert np.isfinite(list(summary["flux_error"]["recovered_after"].values())).all()


def test_patches_evaluated_differently_are_not_pooled():
    result = every_class()
    evaluations = [evaluate_patch(result), evaluate_patch(result, EvaluationOptions(min_snr=10))]
    with pytest.raises(ValueError, match="other options"):
        summarise(evaluations)


def test_patch_result_refuses_what_does_not_belong_together():
    result = every_class()
    with pytest.raises(ValueError, match="model after has bands"):
        replace(result, model_after=replace(result.model_after, bands=("g", "r", "z")))
    assert result.truth is not None
    with pytest.raises(ValueError, match=r"\['flux_i'\] are missing"):
        replace(result, truth=result.truth[["id", "y", "x", "flux_g", "flux_r"]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"match_radius_pix": 0.0},
        {"faint_snr": 9.0},
        {"target_purity": 1.5},
        {"core_fraction": 0.0},
        {"snr_edges": (3.0, 2.0)},
        {"separation_edges_fwhm": (1.0, 1.0)},
    ],
)
def test_options_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EvaluationOptions(**wrong)  # type: ignore[arg-type]


def test_scores_that_are_probabilities_lie_on_the_diagonal():
    rng = np.random.default_rng(4)
    scores = rng.uniform(0, 1, 20000)
    mean, n, right = reliability(scores, rng.uniform(0, 1, 20000) < scores)
    assert n.sum() == 20000 and len(n) == 10
    np.testing.assert_allclose(right / n, mean, atol=0.04)
    mean, n, right = reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert mean.tolist() == [0, 1] and n.tolist() == [1, 1] and right.tolist() == [0, 1]


def test_only_numbers_from_0_to_1_can_be_probabilities():
    assert are_probabilities(np.array([0.0, 0.3, 1.0]))
    assert not any(are_probabilities(np.array(scores)) for scores in ([], [0.5, 1.1], [-0.1], [np.nan]))


def test_shares_stay_within_their_errors():
    share, error = shares(np.array([0, 5, 10]), np.array([10, 10, 10]))
    assert share.tolist() == [0, 0.5, 1]
    assert error[0, 0] == 0 and error[1, 2] == 0
    assert error[0, 1] == pytest.approx(error[1, 1]) == pytest.approx(0.15, abs=0.02)
    assert (share - error[0] >= 0).all() and (share + error[1] <= 1).all()
