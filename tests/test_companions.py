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


"""Companions beside real objects: where they go, the noise they bring, and
what is said of those found.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.stats import gaussian_sigma_to_fwhm
from astropy.table import Table, vstack
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import Pipeline
from lsst.pipe.base.testUtils import lintConnections

from conftest import PSF_SIGMAS_PIX, make_scene
from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak, Scene
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.find_missing import FindMissingOptions, find_missing
from lsst.meas.residualdetect.injection.companion_counts import summarise_companions
from lsst.meas.residualdetect.injection.companion_options import CompanionOptions
from lsst.meas.residualdetect.injection.companions import draw_companions
from lsst.meas.residualdetect.injection.light import (
    add_source_noise,
    companion_snr,
    variance_per_flux,
)
from lsst.meas.residualdetect.injection.recovery import (
    InjectedPatch,
    evaluate_companions,
)
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.noise import expected_snr, point_source_flux
from lsst.meas.residualdetect.scene import MASK_PLANES
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene
from lsst.meas.residualdetect.simulation.conditions import draw_conditions
from lsst.meas.residualdetect.tasks import evaluate_injected
from lsst.meas.residualdetect.tasks.evaluate_injected import (
    EvaluateInjectedConfig,
    EvaluateInjectedConnections,
    EvaluateInjectedTask,
    join_bands,
)
from lsst.meas.residualdetect.tasks.inject_companions import (
    InjectCompanionsConfig,
    InjectCompanionsConnections,
)
from lsst.meas.residualdetect.tasks.make_companions import MakeCompanionsConfig, MakeCompanionsConnections
from lsst.meas.residualdetect.truth import EvaluationOptions, PeakClass, TruthClass
from lsst.meas.residualdetect.truth.measures import psf_sigma_pix

BANDS = ("g", "r", "i")
STEP = 30
FLUXES = ((300.0, 500.0, 900.0), (900.0, 700.0, 600.0), (400.0, 900.0, 1200.0))
ORIGIN = (1000, 2000)


def grid(n: int = 5) -> list[tuple[float, float, tuple[float, float, float]]]:
    """Hosts far apart, of three colours."""
    places = [(STEP * (row + 0.5), STEP * (column + 0.5)) for row in range(n) for column in range(n)]
    return [
        (ORIGIN[0] + y, ORIGIN[1] + x, FLUXES[number % len(FLUXES)]) for number, (y, x) in enumerate(places)
    ]


def field(sources, seed: int = 3, n: int = 5) -> Scene:
    return make_scene(
        sources, shape=(STEP * n, STEP * n), origin=ORIGIN, rng=np.random.default_rng(seed), name="field"
    )


def light_of(scene: Scene, companions: Table) -> np.ndarray:
    """Companions as points, without noise: (band, y, x)."""
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]]
    light = np.zeros(scene.images.shape)
    for row in companions:
        r2 = (y + scene.origin[0] - row["y"]) ** 2 + (x + scene.origin[1] - row["x"]) ** 2
        for number, (band, sigma) in enumerate(zip(scene.bands, PSF_SIGMAS_PIX, strict=True)):
            light[number] += row[f"flux_{band}"] * np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2)
    return light


@pytest.fixture(scope="module")
def sky():
    scene = field(grid())
    detections = detect(scene)
    assert len(detections.peaks) == len(grid())
    return scene, detections


def draw(sky, seed: int = 1, **options) -> Table:
    options = CompanionOptions(**{"fraction": 1.0, **options})
    return draw_companions(*sky, options, np.random.default_rng(seed))


def test_companions_lie_where_they_are_said_to(sky):
    scene, detections = sky
    companions = draw(sky, separation_fwhm=(0.6, 1.1))
    assert len(companions) > 15
    distance = np.hypot(companions["y"] - companions["host_y"], companions["x"] - companions["host_x"])
    np.testing.assert_allclose(distance, companions["separation_pix"])
    fwhm = gaussian_sigma_to_fwhm * psf_sigma_pix(scene)
    np.testing.assert_allclose(companions["separation_fwhm"], distance / fwhm)
    assert np.all((companions["separation_fwhm"] >= 0.6) & (companions["separation_fwhm"] <= 1.1))
    parents = {parent.id: parent for parent in detections}
    for row in companions:
        parent = parents[row["host_parent_id"]]
        assert row["host_peak_id"] in [peak.id for peak in parent.peaks]
        assert parent.footprint.contains(row["y"], row["x"])


def test_a_companion_is_nearest_to_its_own_host():
    # Two peaks in one footprint, so near that many places are the other's.
    scene = field([(1060.0, 2060.0, 900.0), (1060.0, 2066.0, 900.0)])
    detections = detect(scene)
    assert [len(parent.peaks) for parent in detections] == [2]
    options = CompanionOptions(fraction=1.0, isolation_fwhm=0.1, n_tries=50)
    peaks = np.array([(peak.y, peak.x) for peak in detections.peaks])
    hosts = []
    for seed in range(20):
        for row in draw_companions(scene, detections, options, np.random.default_rng(seed)):
            nearest = np.hypot(*(peaks - [row["y"], row["x"]]).T).argmin()
            assert detections.peaks[nearest].id == row["host_peak_id"]
            hosts.append(nearest)
    assert set(hosts) == {0, 1}


def test_the_same_seed_gives_the_same_and_another_others(sky):
    one, same, other = draw(sky), draw(sky), draw(sky, seed=2)
    assert all(
        np.array_equal(one[name], same[name], equal_nan=one[name].dtype.kind == "f") for name in one.colnames
    )
    assert not np.array_equal(one["y"], other["y"])


def test_another_origin_moves_companions_by_as_much(sky):
    moved_scene = replace(sky[0], origin=(0, 0))
    here, moved = draw(sky), draw((moved_scene, detect(moved_scene)))
    np.testing.assert_allclose(moved["y"], here["y"] - ORIGIN[0], atol=1e-9)
    np.testing.assert_allclose(moved["x"], here["x"] - ORIGIN[1], atol=1e-9)
    np.testing.assert_array_equal(moved["flux_g"], here["flux_g"])


def test_the_fraction_is_kept(sky):
    counts = [len(draw(sky, seed=seed, fraction=0.2)) for seed in range(40)]
    assert 0.15 < np.mean(counts) / len(sky[1].peaks) < 0.22


def test_brightness_and_colours(sky):
    scene, detections = sky
    companions = draw(sky, delta_mag=(0.5, 1.5))
    hosts = {peak.id: number for number, peak in enumerate(detections.peaks)}
    positions = np.array([(peak.y, peak.x) for peak in detections.peaks])
    flux, _ = point_source_flux(scene.images, scene, *positions.T)
    host_flux = flux[[hosts[peak] for peak in companions["host_peak_id"]], 2]
    np.testing.assert_allclose(companions["delta_mag"], -2.5 * np.log10(companions["flux_i"] / host_flux))
    assert np.all((companions["delta_mag"] >= 0.5) & (companions["delta_mag"] <= 1.5))
    # Colours are those of objects of the field, and of several.
    colours = np.asarray(companions["flux_g"] / companions["flux_i"])
    real = flux[:, 0] / flux[:, 2]
    assert np.abs(colours[:, None] - real).min(axis=1).max() < 1e-6
    assert len(np.unique(colours)) > 5


def test_signal_to_noise_may_be_drawn_instead(sky):
    companions = draw(sky, brightness="snr", snr=(20.0, 40.0), star_fraction=1.0)
    fluxes = np.stack([companions[f"flux_{band}"] for band in BANDS], axis=1)
    snr = expected_snr(fluxes, sky[0], np.asarray(companions["y"]), np.asarray(companions["x"]))
    assert np.all((snr >= 19.99) & (snr <= 40.01))
    np.testing.assert_allclose(snr, companions["expected_snr"], rtol=1e-5)


def test_the_noise_is_that_where_the_host_is(sky):
    scene, detections = sky
    noisy = scene.variance.copy()
    noisy[:, STEP * 3 :] *= 16
    there = draw((replace(scene, variance=noisy), detections), brightness="snr", star_fraction=1.0, seed=5)
    here = draw(sky, brightness="snr", star_fraction=1.0, seed=5)
    host, flux = there["host_y"], (np.asarray(found["flux_g"]) for found in (there, here))
    quiet, loud = host < ORIGIN[0] + STEP * 3, host > ORIGIN[0] + STEP * 3
    assert quiet.any() and loud.any() and np.array_equal(host, here["host_y"])
    ratio = np.divide(*flux)
    np.testing.assert_allclose(ratio[quiet], 1, rtol=1e-3)
    np.testing.assert_allclose(ratio[loud], 4, rtol=1e-3)


def test_faint_companions_are_drawn_anew(sky):
    faint = draw(sky, delta_mag=(0.0, 6.0), n_tries=200)
    assert faint["expected_snr"].min() >= CompanionOptions.min_snr
    assert not len(draw(sky, delta_mag=(20.0, 20.0)))


def test_companions_keep_apart(sky):
    companions = draw(sky, isolation_fwhm=9.0)
    fwhm = gaussian_sigma_to_fwhm * psf_sigma_pix(sky[0])
    y, x = np.asarray(companions["y"]), np.asarray(companions["x"])
    distance = np.hypot(y - y[:, None], x - x[:, None]) + 1e9 * np.eye(len(y))
    assert 1 < len(companions) < len(draw(sky))
    assert distance.min() >= 9.0 * fwhm


def test_sky_objects_get_none(sky):
    scene, detections = sky
    as_sky = Detections(tuple(replace(parent, is_sky=True) for parent in detections))
    companions = draw((scene, as_sky))
    assert len(companions) == 0
    assert companions.colnames == draw(sky).colnames


def test_saturated_hosts_get_none(sky):
    scene, detections = sky
    bad = np.ones(scene.images.shape, bool)
    bad[:, : STEP * 2] = False
    companions = draw((scene.with_bad(bad), detections))
    assert len(companions) > 0
    assert companions["host_y"].max() < ORIGIN[0] + STEP * 2


def test_companions_are_put_where_the_run_looks(sky):
    scene, detections = sky
    mask = scene.mask.copy()
    mask[:, STEP * 2 :] = 1 << MASK_PLANES["CR"]
    masked, rng, options = replace(scene, mask=mask), np.random.default_rng, CompanionOptions(fraction=1.0)
    everywhere = draw_companions(masked, detections, options, rng(1))
    assert everywhere["host_y"].max() > ORIGIN[0] + STEP * 2
    seen = draw_companions(masked, detections, options, rng(1), bad_planes=["CR"])
    assert seen["y"].max() < ORIGIN[0] + STEP * 2


def test_positions_on_the_sky_come_from_the_scene(sky):
    scene, detections = sky
    on_sky = replace(scene, sky_position=lambda y, x: (x / 1000, y / 1000))
    companions = draw((on_sky, detections))
    np.testing.assert_allclose(companions["ra"], companions["x"] / 1000)
    np.testing.assert_allclose(companions["dec"], companions["y"] / 1000)
    assert np.isnan(draw(sky)["ra"]).all()


def test_the_reference_band_must_be_there(sky):
    with pytest.raises(ValueError, match="no reference band 'z' in"):
        draw(sky, reference_band="z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separation_fwhm": (2.0, 1.0)}, "the smaller one first"),
        ({"snr": (0.0, 1.0)}, "positive numbers"),
        ({"fraction": 1.5}, "from 0 to 1"),
        ({"brightness": "flux"}, "'delta_mag' or 'snr'"),
        ({"sersic_indices": (9.0,)}, "from 0.3 to 6.2"),
        ({"min_axis_ratio": 0.0}, "above 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        CompanionOptions(**options)


def test_fluxes_of_lone_points():
    sources = grid()
    scene = make_scene(sources, shape=(150, 150), origin=ORIGIN)
    flux, sigma = point_source_flux(scene.images, scene, *np.array([source[:2] for source in sources]).T)
    np.testing.assert_allclose(flux, [source[2] for source in sources], rtol=0.01)
    # The error of a matched filter in white noise of unit variance.
    np.testing.assert_allclose(sigma[12], 2 * np.sqrt(np.pi) * np.array(PSF_SIGMAS_PIX), rtol=0.01)


def test_the_noise_of_light_is_read_off_the_coadd():
    options = SimulationOptions(bands=("g", "i"), shape=(400, 400), exposure_factor=0.1)
    scene, _ = simulate_scene(options, np.random.default_rng(5))
    conditions = draw_conditions(options, np.random.default_rng(5))
    good = ~scene.bad()
    for number, band in enumerate(conditions):
        slope = variance_per_flux(scene.images[number], scene.variance[number], good[number])
        assert slope == pytest.approx(1 / band.electrons_per_njy, rel=0.1)


def test_a_coadd_that_shows_no_noise_of_light_gets_none():
    image = np.full((20, 20), 100.0, np.float32)
    image[:5] = 0
    assert variance_per_flux(image, np.ones_like(image), np.ones(image.shape, bool)) == 0
    assert variance_per_flux(image, np.ones_like(image), np.zeros(image.shape, bool)) == 0


def test_noise_and_variance_of_light_agree():
    light = np.zeros((200, 200), np.float32)
    light[:100] = 400
    image, variance = light.copy(), np.ones_like(light)
    add_source_noise(image, variance, light, 0.25, np.random.default_rng(1))
    assert np.var(image[:100]) == pytest.approx(100, rel=0.05)
    assert image[:100].mean() == pytest.approx(400, abs=0.3)
    np.testing.assert_allclose(variance[:100], 101)
    assert not image[100:].any()
    assert (variance[100:] == 1).all()


def test_snr_of_points_is_the_matched_filter_s():
    scene = make_scene([], shape=(60, 120), origin=ORIGIN)
    places = Table({"y": [1030.2, 1030.0], "x": [2030.0, 2089.6]})
    for band, flux in zip(BANDS, (300.0, 200.0, 100.0), strict=True):
        places[f"flux_{band}"] = [flux, 2 * flux]
    light = light_of(scene, places)
    positions = np.stack([places["y"], places["x"]], axis=1)
    snr = np.sqrt(
        sum(
            companion_snr(light[number], scene.variance[number], np.ones((60, 120), bool), positions, ORIGIN)
            ** 2
            for number in range(3)
        )
    )
    expected = expected_snr(np.array([[300.0, 200.0, 100.0], [600.0, 400.0, 200.0]]), scene, *positions.T)
    np.testing.assert_allclose(snr, expected, rtol=0.01)


def test_what_is_off_the_image_or_has_no_light_has_no_snr():
    nothing = np.zeros((20, 20), np.float32)
    places = np.array([[10.0, 10.0], [-50.0, 5.0], [5.0, 100.0]])
    light = np.ones_like(nothing)
    good = np.ones(nothing.shape, bool)
    assert not companion_snr(nothing, light, good, places, (0, 0)).any()
    assert companion_snr(light, light, good, places, (0, 0))[0] > 0
    assert not companion_snr(light, light, good, places, (0, 0))[1:].any()


# One host in a footprint, another footprint with two, and empty sky.
HOSTS = [(1030.0, 2030.0), (1090.0, 2030.0), (1090.0, 2042.0)]


def _parents() -> Detections:
    def disc(y: float, x: float, width: int) -> Footprint:
        return Footprint.from_mask(np.ones((25, width), bool), (round(y) - 12, round(x) - 12))

    peaks = [Peak(number, y, x) for number, (y, x) in enumerate(HOSTS, start=1)]
    return Detections(
        (
            Parent(1, disc(*HOSTS[0], 25), (peaks[0],)),
            Parent(2, disc(*HOSTS[1], 37), (peaks[1], peaks[2])),
        )
    )


def _with_new(detections: Detections, places, first: int = 100) -> Detections:
    new = tuple(
        Peak(first + number, y, x, iteration=1, score=0.99 - 0.01 * number)
        for number, (y, x) in enumerate(places)
    )
    parents = list(detections.parents)
    parents[0] = replace(parents[0], peaks=parents[0].peaks + new)
    return Detections(tuple(parents))


def _evaluate(companions, control, after):
    scene = make_scene([(y, x, 1000.0) for y, x in HOSTS], shape=(150, 150), origin=ORIGIN)
    before = _parents()
    table = np.zeros(
        len(companions),
        [("id", "i8"), *((name, "f8") for name in ("y", "x", "snr", "separation_fwhm", "delta_mag"))],
    )
    for row, (y, x, snr) in enumerate(companions):
        table[row] = (row + 11, y, x, snr, 1.0, 1.0)
    patch = InjectedPatch(
        name="made",
        scene=scene,
        before=before,
        control=_with_new(before, control, first=500),
        after=_with_new(before, after),
        model=deblend(scene, before.parents),
        companions=table,
    )
    return evaluate_companions(patch)


COMPANIONS = [(1030.0, 2035.0, 30.0), (1086.0, 2030.0, 30.0), (1130.0, 2100.0, 30.0), (1090.0, 2047.0, 5.0)]


def test_companions_are_classed_by_construction():
    result = _evaluate(COMPANIONS, [], [])
    assert list(result.companions["class"]) == [
        TruthClass.UNRECOGNIZED,
        TruthClass.PARTIALLY_DEBLENDED,
        TruthClass.MISSED,
        TruthClass.FAINT,
    ]
    assert list(result.companions["counted"]) == [True, True, False, False]
    assert not result.companions["recovered"].any()
    # None of them is in the pixels.
    assert not result.companions["recognized"].any()
    assert len(result.peaks) == 0


def test_a_companion_is_never_taken_for_its_host_s_peak():
    # Brighter and within the match radius: matching would hand it the peak.
    result = _evaluate([(1030.0, 2031.5, 1e6)], [], [])
    assert list(result.companions["class"]) == [TruthClass.UNRECOGNIZED]


def test_new_peaks_are_held_against_companions_and_the_control():
    elsewhere, lost = (1120.0, 2020.0), (1020.0, 2130.0)
    right, shred, spurious = (1030.5, 2035.0), (1090.0, 2043.5), (1010.0, 2110.0)
    result = _evaluate(COMPANIONS, [elsewhere, lost], [right, shred, spurious, (1120.4, 2020.2)])
    assert list(result.peaks["class"]) == [
        PeakClass.RIGHT,
        PeakClass.SHRED,
        PeakClass.SPURIOUS,
        PeakClass.UNLABELLED,
    ]
    assert list(result.peaks["companion_id"]) == [11, -1, -1, -1]
    assert list(result.companions["recovered"]) == [True, False, False, False]
    assert result.companions["new_peak_id"][0] == 100
    assert result.companions["new_distance_pix"][0] == pytest.approx(0.5)
    assert result.companions["new_score"][0] == pytest.approx(0.99)
    assert (result.n_control, result.n_lost) == (2, 1)


def test_a_second_peak_on_a_companion_is_a_shred_of_it():
    result = _evaluate(COMPANIONS[:1], [], [(1030.0, 2035.3), (1031.8, 2036.0)])
    assert list(result.peaks["class"]) == [PeakClass.RIGHT, PeakClass.SHRED]
    assert list(result.peaks["companion_id"]) == [11, 11]


def test_a_peak_that_was_there_before_recovers_nothing():
    place = (1030.0, 2035.5)
    result = _evaluate(COMPANIONS, [place], [place])
    assert list(result.peaks["class"]) == [PeakClass.UNLABELLED]
    assert list(result.companions["confused"]) == [True, False, False, False]
    assert list(result.companions["counted"]) == [False, True, False, False]
    assert not result.companions["recovered"].any()


def test_a_peak_on_a_confused_companion_is_neither_right_nor_wrong():
    # The control's peak lies 4 pixels off, and is not found again.
    result = _evaluate(COMPANIONS, [(1034.0, 2035.0)], [(1030.0, 2035.0)])
    assert list(result.peaks["class"]) == [PeakClass.RIGHT_FAINT]
    assert not result.companions["recovered"].any()
    summary = summarise_companions(result.companions, result.peaks)
    assert summary["n_confused"] == 1
    assert summary["n_right"] == summary["n_shreds"] == summary["n_spurious"] == 0


def test_summary_of_several_patches():
    one = _evaluate(COMPANIONS, [], [(1030.5, 2035.0)])
    other = _evaluate(COMPANIONS[1:3], [], [(1086.5, 2030.0), (1010.0, 2110.0)])
    summary = summarise_companions(
        vstack([one.companions, other.companions]), vstack([one.peaks, other.peaks]), EvaluationOptions()
    )
    assert summary["n_companions"] == 6
    assert (summary["n_to_find"], summary["n_recovered"]) == (3, 2)
    assert (summary["n_to_find_unrecognized"], summary["n_recovered_unrecognized"]) == (3, 2)
    assert (summary["n_faint"], summary["n_missed"]) == (1, 2)
    assert (summary["n_right"], summary["n_spurious"]) == (2, 1)
    for name in ("separation_fwhm", "snr", "delta_mag"):
        bins = summary[f"recovery_by_{name}"]
        assert (sum(bins["n"]), sum(bins["n_recovered"])) == (3, 2)
        assert len(bins["n"]) == len(bins["edges"]) + 1


def test_matched_filter_finds_wide_companions_and_not_close_ones(sky):
    """All of it but the injection itself, which is the stack's."""
    scene, before = sky
    detector = load_detector("matched_filter")
    options = FindMissingOptions(score_threshold=7)

    def found_in(pixels: Scene):
        model = deblend(pixels, before.parents)
        return model, find_missing(pixels, before, model, detector, options).detections

    _, control = found_in(scene)
    recovery = []
    for separation in ((0.4, 0.5), (1.3, 1.6)):
        companions = draw(
            sky, separation_fwhm=separation, brightness="snr", snr=(50.0, 60.0), star_fraction=1.0
        )
        assert len(companions) > 10
        light = light_of(scene, companions)
        companions["snr"] = companions["expected_snr"]
        injected = replace(scene, images=scene.images + light)
        model, after = found_in(injected)
        patch = InjectedPatch("field", injected, before, control, after, model, companions.as_array())
        result = evaluate_companions(patch)
        summary = summarise_companions(result.companions, result.peaks)
        assert summary["n_to_find"] + summary["n_confused"] == len(companions)
        recovery.append(summary["n_recovered"] / summary["n_to_find"])
    assert recovery[1] > 0.8
    assert recovery[0] < 0.5 * recovery[1]


@pytest.mark.parametrize(("separation", "share"), [((0.4, 0.5), 0), ((2.3, 2.7), 1)])
def test_ordinary_detection_tells_wide_pairs_apart_and_not_close_ones(sky, separation, share):
    scene, before = sky
    companions = draw(sky, separation_fwhm=separation, delta_mag=(0.0, 0.3), star_fraction=1.0)
    assert len(companions) > 10
    injected = replace(scene, images=scene.images + light_of(scene, companions))
    companions["snr"] = companions["expected_snr"]
    model = deblend(scene, before.parents)
    patch = InjectedPatch("field", injected, before, before, before, model, companions.as_array())
    recognized = evaluate_companions(patch).companions["recognized"]
    assert recognized.mean() == pytest.approx(share, abs=0.1)


def test_known_sources_are_as_bright_as_the_run_sees_them(sky, monkeypatch):
    # Masked ones take no peak away from the companions on them.
    scene, before = sky
    mask = scene.mask.copy()
    mask[:] = 1 << MASK_PLANES["CR"]
    places = Table({"id": [1], "y": [before.peaks[12].y], "x": [before.peaks[12].x + 1]})
    for name in ("snr", "separation_fwhm", "delta_mag"):
        places[name] = [50.0]
    patch = InjectedPatch(
        "field",
        replace(scene, mask=mask),
        *(before, before, before),
        deblend(scene, before.parents),
        places.as_array(),
    )
    assert not evaluate_companions(patch).companions["recognized"][0]
    assert evaluate_companions(patch, bad_planes=["CR"]).companions["recognized"][0]
    for load in ("load_images", "load_catalogues", "load_models"):  # which need the stack
        monkeypatch.setattr(evaluate_injected, load, lambda *_: None)
    task = EvaluateInjectedTask(config=EvaluateInjectedConfig(bad_mask_planes=["CR"]))
    assert task.run(patch).companions["recognized"][0]


def test_bands_are_joined_by_the_companions_ids():
    drawn = Table({"id": [1, 2, 3], "y": [1.0, 2.0, 3.0]})
    g = Table({"id": [3, 1, 2], "mag_g": [23.0, 21.0, 22.0], "snr_g": [30.0, 10.0, 20.0]})
    r = Table({"id": [2, 3, 1], "mag_r": [22.5, 23.5, 21.5], "snr_r": [0.0, 40.0, 0.0]})
    joined = join_bands(drawn, {"g": g, "r": r})
    assert list(joined["id"]) == [1, 2, 3] and list(joined["y"]) == [1, 2, 3]
    assert list(joined["mag_g"]) == [21, 22, 23] and list(joined["mag_r"]) == [21.5, 22.5, 23.5]
    assert list(joined["snr"]) == [10, 20, 50]
    with pytest.raises(ValueError, match="in band 'g' are not those that were drawn"):
        join_bands(drawn, {"g": g[:2]})


CONNECTIONS = [MakeCompanionsConnections, InjectCompanionsConnections, EvaluateInjectedConnections]


@pytest.mark.parametrize("connections", CONNECTIONS)
def test_lint(connections):
    lintConnections(connections)


@pytest.mark.parametrize("cells", [False, True])
def test_coadds_whole_or_in_cells(cells):
    make = MakeCompanionsConnections(config=MakeCompanionsConfig(use_cell_coadds=cells))
    inject = InjectCompanionsConnections(config=InjectCompanionsConfig(use_cell_coadds=cells))
    assert set(make.inputs) == {"detections"} | ({"coadds_cell", "backgrounds"} if cells else {"coadds"})
    assert set(inject.inputs) == {"companions"} | ({"coadd_cell", "background"} if cells else {"coadd"})


def test_what_is_written_begins_with_injected():
    written = {
        getattr(connections, name).name
        for connections in (
            MakeCompanionsConnections(config=MakeCompanionsConfig()),
            InjectCompanionsConnections(config=InjectCompanionsConfig()),
            EvaluateInjectedConnections(config=EvaluateInjectedConfig()),
        )
        for name in connections.outputs
    }
    assert len(written) == 5
    assert all(name.startswith("injected_") for name in written)


def test_configs_refuse_what_the_options_refuse():
    config = MakeCompanionsConfig()
    config.companions.separation_fwhm = [2.0, 1.0]
    with pytest.raises(ValueError, match="the smaller one first"):
        config.validate()
    with pytest.raises(FieldValidationError):
        config.companions.separation_fwhm = [1.0, 2.0, 3.0]
        config.validate()
    assert MakeCompanionsConfig().companions.options() == CompanionOptions()
    with pytest.raises(ValueError, match="faint_snr <= min_snr"):
        EvaluateInjectedConfig(faint_snr=9.0, min_snr=8.0).validate()


def test_the_pipeline_can_be_read_without_the_stack():
    pipeline = Pipeline.fromFile(str(find_file("pipelines", "injected_companions.yaml")))
    assert set(pipeline.subsets) == {"control", "injection"}
    assert pipeline.subsets["control"] | pipeline.subsets["injection"] == set(pipeline.task_labels)
