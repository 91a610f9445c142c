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


"""Scenes with truth: does the image show what the truth table says?"""

import galsim
import numpy as np
import pytest
from scipy.spatial import cKDTree

from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.simulation import (
    SimulationError,
    SimulationOptions,
    simulate_scene,
    simulate_scenes,
)
from lsst.meas.residualdetect.simulation.conditions import draw_conditions, round_psf
from lsst.meas.residualdetect.simulation.rendering import render_sources
from lsst.meas.residualdetect.simulation.simulation_options import ZERO_POINT
from lsst.meas.residualdetect.simulation.sources import Component, Sources, flux_njy

EMPTY = {"density": 0.0, "star_density": 0.0}


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def one_source(disk=0.0, bulge=0.0, point=0.0, radius=0.4, axis_ratio=0.6, angle=0.5):
    """One source with the same flux in all bands in each of its parts."""

    def component(flux):
        return Component(np.full((1, 6), flux), np.array([radius]), np.array([axis_ratio]), np.array([angle]))

    return Sources(
        component(disk), component(bulge), np.full((1, 6), point), np.zeros(1), np.zeros(1, dtype=bool)
    )


@pytest.mark.parametrize("mag", [19.0, 24.0, 27.0])
@pytest.mark.parametrize("part", ["disk", "bulge", "point"])
def test_rendered_flux_and_centroid_are_the_true_ones(rng, part, mag):
    options = SimulationOptions(shape=(601, 601), bands=("u", "r", "y"))
    flux = float(flux_njy(mag))
    position = np.array([[300.3, 298.6]])
    conditions = draw_conditions(options, rng)
    (stamp,) = render_sources(one_source(**{part: flux}), position, conditions, options)
    assert stamp.pixels.sum(axis=(1, 2)) == pytest.approx(flux, rel=0.01)
    core = stamp.pixels.astype(float)
    y, x = np.mgrid[stamp.rows, stamp.columns]
    # A window about the true centre keeps the light folded into the stamp's
    # edges, which has no meaningful moment, from the centroid.
    window = np.exp(-0.5 * ((y - 300.3) ** 2 + (x - 298.6) ** 2) / 4**2)
    light = core * window
    assert (light * y).sum() / light.sum() == pytest.approx(300.3, abs=0.01)
    assert (light * x).sum() / light.sum() == pytest.approx(298.6, abs=0.01)


@pytest.mark.parametrize("mag", [17.0, 20.0, 23.0, 26.0])
@pytest.mark.parametrize("part", ["disk", "bulge", "point"])
def test_stamps_agree_with_galsim_within_a_fraction_of_the_noise(rng, part, mag):
    options = SimulationOptions(shape=(401, 401), bands=("i",), psf_ellipticity=0.05)
    flux = float(flux_njy(mag))
    (band,) = conditions = draw_conditions(options, rng)
    (stamp,) = render_sources(one_source(**{part: flux}), np.array([[200.0, 200.0]]), conditions, options)
    drawn = np.zeros((401, 401))
    drawn[stamp.rows, stamp.columns] = stamp.pixels[0]

    profile = {
        "disk": galsim.Exponential(half_light_radius=0.4),
        "bulge": galsim.DeVaucouleurs(half_light_radius=0.4),
        "point": galsim.DeltaFunction(),
    }[part]
    if part != "point":
        profile = profile.shear(q=0.6, beta=0.5 * galsim.radians)
    exact = galsim.GSParams(folding_threshold=1e-4, maximum_fft_size=8192)
    image = galsim.Convolve(profile * flux, band.psf, gsparams=exact).drawImage(nx=401, ny=401, scale=0.2)
    assert np.abs(drawn - image.array).max() < 0.25 * np.sqrt(band.sky_variance) + 1e-5 * image.array.max()


def test_position_angle_turns_from_x_towards_y(rng):
    options = SimulationOptions(shape=(101, 101), bands=("i",), psf_ellipticity=0)
    source = one_source(disk=1e4, radius=1.0, axis_ratio=0.3, angle=np.pi / 6)
    (stamp,) = render_sources(source, np.array([[50.0, 50.0]]), draw_conditions(options, rng), options)
    y, x = np.mgrid[stamp.rows, stamp.columns] - 50.0
    light = stamp.pixels[0]
    angle = 0.5 * np.arctan2(2 * (light * x * y).sum(), (light * (x**2 - y**2)).sum())
    assert angle == pytest.approx(np.pi / 6, abs=0.02)


def test_image_scatters_about_the_sources_as_the_variance_says(rng):
    scene, _ = simulate_scene(SimulationOptions(**EMPTY), rng)
    for image, variance in zip(scene.images, scene.variance, strict=True):
        significance = image / np.sqrt(variance)
        assert significance.std() == pytest.approx(1, abs=0.01)
        assert significance.mean() == pytest.approx(0, abs=0.02)
        # Neighbouring pixels are independent.
        assert (significance[:, 1:] * significance[:, :-1]).mean() == pytest.approx(0, abs=0.02)


def test_depth_is_that_of_ten_years(rng):
    scene, _ = simulate_scene(SimulationOptions(**EMPTY, seeing_scatter=0), rng)
    flux_sigma = np.sqrt(np.median(scene.variance, axis=(1, 2)) / (scene.psfs**2).sum(axis=(1, 2)))
    depth = dict(zip(scene.bands, ZERO_POINT - 2.5 * np.log10(5 * flux_sigma), strict=True))
    # LSST Science Requirements Document (LPM-17), table 24.
    for band, required in {"u": 26.1, "g": 27.4, "r": 27.5, "i": 26.8, "z": 26.1, "y": 24.9}.items():
        assert depth[band] == pytest.approx(required, abs=0.45)


def test_noise_falls_with_exposure_time(rng):
    full, _ = simulate_scene(SimulationOptions(**EMPTY, bands=("r",)), rng)
    year, _ = simulate_scene(SimulationOptions(**EMPTY, bands=("r",), exposure_factor=0.1), rng)
    assert np.median(year.variance) == pytest.approx(10 * np.median(full.variance), rel=1e-3)


def test_bright_sources_add_their_own_noise_and_saturate():
    options = SimulationOptions(density=0, star_density=30, bands=("i",), saturation_mag=19)
    scene, truth = simulate_scene(options, np.random.default_rng(5))
    saturated = (scene.mask & (1 << scene.mask_planes["SAT"])) != 0
    assert saturated.any()
    level = scene.images[saturated].max()
    assert level == pytest.approx(float(flux_njy(19)) * scene.psfs.max(), rel=0.02)
    assert scene.images.max() <= level
    inside = (truth["y"] > 0) & (truth["y"] < 299) & (truth["x"] > 0) & (truth["x"] < 299)
    for star in truth[inside & (truth["mag_i"] < 18)]:
        assert saturated[0, round(star["y"]), round(star["x"])]
    assert not saturated[scene.variance < 1.5 * np.median(scene.variance)].any()


def test_truth_is_the_sky_of_the_image():
    options = SimulationOptions(saturation_mag=10)
    scene, truth = simulate_scene(options, np.random.default_rng(8))
    inside = (truth["y"] > 60) & (truth["y"] < 239) & (truth["x"] > 60) & (truth["x"] < 239)
    assert (truth["id"] == np.arange(1, len(truth) + 1)).all()
    for star in truth[inside & (truth["mag_i"] < 21)]:
        y, x = round(star["y"]), round(star["x"])
        index = scene.bands.index("i")
        peak = scene.images[index, y - 1 : y + 2, x - 1 : x + 2].max()
        assert peak > 20 * np.sqrt(scene.variance[index, y, x])
    # Every source is in the table, also those too faint to be seen ...
    assert (truth["snr"] < 1).sum() > 0.1 * len(truth)
    # ... and those outside whose light may spill in.
    outside = (truth["y"] < -0.5) | (truth["y"] > 299.5) | (truth["x"] < -0.5) | (truth["x"] > 299.5)
    assert outside.any()
    assert truth["y"].min() >= -0.5 - 25
    assert (truth["snr"][~outside] > 0).all()


def test_snr_is_that_of_the_matched_filter(rng):
    options = SimulationOptions(density=0, star_density=20, shape=(400, 400))
    scene, truth = simulate_scene(options, rng)
    sky = np.median(scene.variance, axis=(1, 2))
    position = np.stack([truth["y"], truth["x"]], axis=1)
    nearest = cKDTree(position).query(position, k=2)[0][:, 1]
    inside = ((position > 30) & (position < 369)).all(axis=1)
    checked = 0
    for star in truth[inside & (nearest > 15) & (truth["mag_i"] > 23.5)]:
        y, x = round(star["y"]), round(star["x"])
        around = scene.variance[:, y - 8 : y + 9, x - 8 : x + 9].max(axis=(1, 2))
        if (around > 1.15 * sky).any():
            continue  # in a neighbour's light
        # Filtering with the PSF gives F^2 sum(psf^2) / variance in each band.
        flux = np.array([star[f"flux_{band}"] for band in scene.bands])
        expected = np.sqrt((flux**2 * (scene.psfs**2).sum(axis=(1, 2)) / sky).sum())
        assert star["snr"] == pytest.approx(expected, rel=0.05)
        checked += 1
    assert checked >= 5


def test_psfs_differ_between_bands_and_scenes():
    options = SimulationOptions(**EMPTY)
    scenes = [simulate_scene(options, np.random.default_rng(k))[0] for k in range(20)]
    areas = np.array([1 / (scene.psfs**2).sum(axis=(1, 2)) for scene in scenes])
    assert (areas.std(axis=0) / areas.mean(axis=0) > 0.05).all()
    # u has the worst seeing, y the best.
    assert areas.mean(axis=0)[0] > areas.mean(axis=0)[5]
    y, x = np.mgrid[-20:21, -20:21]
    for psf in scenes[0].psfs:
        assert psf.argmax() == 20 * 41 + 20
        assert (psf * y).sum() == pytest.approx(0, abs=1e-3)
        assert (psf * x).sum() == pytest.approx(0, abs=1e-3)


def test_moffat_psf(rng):
    options = SimulationOptions(
        **EMPTY, psf_profile="moffat", moffat_beta=2.5, bands=("r",), seeing_scatter=0
    )
    scene, _ = simulate_scene(options, rng)
    sharp = round_psf(options, 0.81, 1e-3)
    assert sharp.xValue(0.405, 0) / sharp.xValue(0, 0) == pytest.approx(0.5, rel=1e-3)
    # The pixel widens it a little.
    row = scene.psfs[0, 20, 20:] / scene.psfs[0, 20, 20]
    fwhm_arcsec = 2 * 0.2 * np.interp(-0.5, -row, np.arange(21))
    assert 0.81 < fwhm_arcsec < 0.81 * 1.08
    scale_arcsec = 0.81 / 2 / np.sqrt(2 ** (1 / 2.5) - 1)
    inner, outer = (1 + (np.array([2.0, 4.0]) / scale_arcsec) ** 2) ** -2.5
    assert row[20] / row[10] == pytest.approx(outer / inner, rel=0.05)


def test_fewer_bands_show_the_same_sky():
    all_bands, truth = simulate_scene(SimulationOptions(), np.random.default_rng(4))
    two, truth_two = simulate_scene(SimulationOptions(bands=("z", "g")), np.random.default_rng(4))
    assert two.bands == ("z", "g")
    assert truth_two.dtype.names.count("flux_u") == 0
    for name in ("y", "x", "flux_z", "flux_g", "mag_i"):
        assert (truth[name] == truth_two[name]).all()
    same = all_bands.select_bands(("z", "g"))
    assert two.psfs == pytest.approx(same.psfs, rel=1e-5)
    # But for how far out sources are drawn, which the deepest band decides.
    difference = (two.images - same.images) / np.sqrt(same.variance)
    assert np.abs(difference).max() < 0.2


def test_other_surveys(rng):
    options = SimulationOptions(survey="HSC", bands=("g", "r", "i", "z", "y"), shape=(120, 100))
    scene, truth = simulate_scene(options, rng, name="hsc")
    assert scene.images.shape == (5, 120, 100)
    assert scene.pixel_scale_arcsec == pytest.approx(0.168)
    assert scene.name == "hsc"
    assert len(truth) > 10


def test_scene_depends_on_seed_and_number_only():
    options = SimulationOptions(shape=(64, 64), bands=("r", "i"))
    done = []
    alone = list(simulate_scenes(3, options, 7, jobs=1, progress=done.append))
    together = list(simulate_scenes(4, options, 7, jobs=2, progress=done.append))
    assert done == [1] * 7
    for (scene, truth), (other, other_truth) in zip(alone, together, strict=False):
        assert scene.name == other.name
        assert (scene.images == other.images).all()
        assert (scene.psfs == other.psfs).all()
        assert (truth == other_truth).all()
    other_seed, _ = next(iter(simulate_scenes(1, options, 8, jobs=1)))
    assert (other_seed.images != alone[0][0].images).any()
    assert (alone[0][0].images != alone[1][0].images).any()


@pytest.mark.parametrize(("n", "jobs"), [(-1, 1), (2, 0)])
def test_bad_numbers_are_refused(n, jobs):
    with pytest.raises(SimulationError, match=f"n is {n} and jobs is {jobs}"):
        next(simulate_scenes(n, SimulationOptions(), 1, jobs=jobs))


def unrecognised_fraction(scenes, mag_detected=25.0, mag_further=27.0, radius_arcsec=1.0):
    """Share of the detected objects with i < 25 within 1 arcsec of whose peak
    lies a further true source with i < 27 that has no peak of its own.

    True sources claim peaks in order of signal to noise, each the nearest
    free one within 0.6 arcsec.
    """
    detected = blended = 0
    for scene, truth in scenes:
        scale = scene.pixel_scale_arcsec
        position = np.stack([truth["y"], truth["x"]], axis=1)
        peaks = np.array([(peak.y, peak.x) for peak in detect(scene).peaks])
        tree = cKDTree(peaks)
        owner = np.full(len(peaks), -1)
        for source in np.argsort(-truth["snr"]):
            distances, near = tree.query(position[source], k=4, distance_upper_bound=0.6 / scale)
            free = [peak for peak in near[np.isfinite(distances)] if owner[peak] < 0]
            if free:
                owner[free[0]] = source
        without_peak = np.ones(len(truth), dtype=bool)
        without_peak[owner[owner >= 0]] = False
        further = cKDTree(position[without_peak & (truth["mag_i"] < mag_further)])
        bright = (owner >= 0) & (truth["mag_i"][owner] < mag_detected)
        detected += bright.sum()
        blended += sum(map(bool, further.query_ball_point(peaks[bright], radius_arcsec / scale)))
    return blended / detected, detected


def test_default_population_has_the_published_share_of_unrecognised_blends():
    options = SimulationOptions(shape=(600, 600))
    fraction, n = unrecognised_fraction(simulate_scenes(3, options, 1, jobs=1))
    assert n > 400
    assert 0.15 < fraction < 0.30
    options = SimulationOptions(shape=(400, 400), density=2.5)
    dense, _ = unrecognised_fraction(simulate_scenes(1, options, 1, jobs=1))
    assert dense > 1.3 * fraction


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": ("g", "k")}, "bands are"),
        ({"bands": ("g", "g")}, "bands are"),
        ({"bands": ()}, "bands are"),
        ({"survey": "HSC"}, "bands are"),
        ({"survey": "LSSTT"}, "survey is 'LSSTT'"),
        ({"density": -1.0}, "density is -1.0"),
        ({"mag_limit": float("nan")}, "mag_limit is nan"),
        ({"shape": (0, 10)}, "shape is"),
        ({"psf_size": 40}, "psf_size is 40"),
        ({"psf_profile": "airy"}, "psf_profile is 'airy'"),
        ({"clustering": 5.0}, "companions"),
    ],
)
def test_bad_options_are_refused_in_one_line(change, message):
    with pytest.raises(SimulationError, match=message) as error:
        SimulationOptions(**change)
    assert "\n" not in str(error.value)
