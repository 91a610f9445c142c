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

from conftest import make_scene
from lsst.meas.residualdetect.detection import DetectionOptions, detect, detections_at
from lsst.meas.residualdetect.detection.local_background import local_background
from lsst.meas.residualdetect.detection.merged_peaks import CullPeaksOptions, cull_peaks
from lsst.meas.residualdetect.detections import Peak
from lsst.meas.residualdetect.detectors.matched_filter import MatchedFilter
from lsst.meas.residualdetect.noise import (
    point_source_flux,
    point_source_sums,
    psf_smoothed,
    significance,
)


def _peaks(detections):
    return sorted((peak.y, peak.x) for peak in detections.peaks)


def test_significance_of_noise_is_standard_normal_and_flux_is_unbiased():
    rng = np.random.default_rng(3)
    scene = make_scene([], shape=(300, 300), noise=2.5, rng=rng)
    signal, norm = point_source_sums(scene.images[0], scene.weights()[0], scene.psfs[0])
    inner = significance(signal, norm)[20:-20, 20:-20]
    assert inner.mean() == pytest.approx(0, abs=0.05)
    assert inner.std() == pytest.approx(1, abs=0.03)
    source = make_scene([(30, 33, 500.0)])
    signal, norm = point_source_sums(source.images[1], source.weights()[1], source.psfs[1])
    assert signal[30, 33] / norm[30, 33] == pytest.approx(500, rel=1e-3)


def test_significance_does_not_depend_on_the_flux_unit():
    scene = make_scene([(30, 33, 50.0)], rng=np.random.default_rng(4))
    for unit in (1e-12, 1e12):
        sums = point_source_sums(
            scene.images[0] * np.float32(unit), scene.weights()[0] / np.float32(unit) ** 2, scene.psfs[0]
        )
        reference = point_source_sums(scene.images[0], scene.weights()[0], scene.psfs[0])
        np.testing.assert_allclose(significance(*sums), significance(*reference), atol=2e-3)


def test_a_source_on_a_bright_core_s_photon_noise_is_seen_with_the_noise_it_has():
    images = make_scene([(30, 33, 4000.0)]).images
    variance = np.ones_like(images)
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    variance[:, np.hypot(y - 30, x - 33) < 12] = 400.0
    scene = replace(make_scene([]), images=images, variance=variance)
    flat = replace(scene, variance=np.full_like(images, 400.0))
    expected = np.divide(*point_source_flux(flat.images, flat, np.array([30.0]), np.array([33.0])))[0]
    assert expected.min() > 20
    seen = np.divide(*point_source_flux(scene.images, scene, np.array([30.0]), np.array([33.0])))[0]
    assert seen == pytest.approx(expected, rel=1e-3)
    for band in range(3):
        sums = point_source_sums(scene.images[band], scene.weights()[band], scene.psfs[band])
        assert significance(*sums)[30, 33] == pytest.approx(expected[band], rel=1e-3)
    found = MatchedFilter().detect(scene, np.zeros_like(images), [])
    assert any((candidate.y, candidate.x) == (30, 33) for candidate in found)


@pytest.mark.parametrize("noise", [1e7, 1e9, 1e20, 1e37])
def test_one_noisy_pixel_blinds_its_surroundings_alone(noise):
    scene = make_scene([(20, 20, 100), (40, 45, 200)], rng=np.random.default_rng(5))
    variance = scene.variance.copy()
    variance[:, 5, 55] = noise
    assert _peaks(detect(replace(scene, variance=variance))) == _peaks(detect(scene)) != []


def test_the_noise_of_a_smoothed_image_is_that_of_its_pixels():
    rng = np.random.default_rng(11)
    scene = make_scene([], shape=(300, 300))
    sigma = np.where(np.arange(300) < 150, 1.0, 1000.0).astype(np.float32) * np.ones((300, 1), np.float32)
    image = (sigma * rng.standard_normal(sigma.shape)).astype(np.float32)
    smooth, noise = psf_smoothed(image, sigma**2, np.ones(sigma.shape, bool), scene.psfs[0])
    snr = smooth / noise
    for half in (snr[:, 20:120], snr[:, 180:280]):
        assert half.std() == pytest.approx(1, abs=0.05)


def test_the_flux_of_a_place_is_as_sure_as_its_own_noise():
    variance = np.ones((3, 60, 64), np.float32)
    variance[:, :, 32:] = 100.0
    scene = replace(make_scene([]), variance=variance)
    flux, sigma = point_source_flux(
        scene.images, scene, np.array([30.0, 30.0, 30.0]), np.array([11.0, 52.0, 90.0])
    )
    quiet, loud, off = sigma**-2
    np.testing.assert_allclose(quiet, np.square(scene.psfs).sum(axis=(1, 2)), rtol=1e-3)
    np.testing.assert_allclose(loud, quiet / 100, rtol=1e-3)
    assert not off.any() and not flux.any()


def test_isolated_sources_are_found_in_all_bands():
    scene = make_scene([(20, 20, 100), (40, 45, 200)], rng=np.random.default_rng(5))
    detections = detect(scene)
    assert _peaks(detections) == [(20, 20), (40, 45)]
    assert len(detections) == 2
    assert all(peak.bands == {"g", "r", "i"} for peak in detections.peaks)
    for parent in detections:
        assert parent.footprint.contains(parent.peaks[0].y, parent.peaks[0].x)


def test_a_blend_nearer_than_the_psf_is_one_peak():
    scene = make_scene([(30, 30, 1000), (30, 32.5, 400)])
    assert len(detect(scene).peaks) == 1


def test_translation_moves_every_peak_and_footprint():
    at_home = make_scene([(20, 20, 100), (24, 29, 200)])
    away = make_scene([(1020, 520, 100), (1024, 529, 200)], origin=(1000, 500))
    assert _peaks(detect(away)) == [(y + 1000, x + 500) for y, x in _peaks(detect(at_home))]
    assert detect(away).parents[0].footprint.area == detect(at_home).parents[0].footprint.area


def test_band_order_does_not_matter():
    scene = make_scene([(20, 20, 100), (24, 29, 200), (45, 50, 60)], rng=np.random.default_rng(6))
    assert detect(scene.select_bands(["i", "g", "r"])) == detect(scene)


def test_peaks_of_different_bands_merge_by_distance():
    scene = make_scene([])
    # In g alone a source beside the one that r and i see.
    for distance, expected in ((1, 1), (3, 1), (7, 2)):
        images = make_scene([(30, 30, 200)]).images.copy()
        images[0] = make_scene([(30, 30 + distance, 200)]).images[0]
        peaks = detect(replace(scene, images=images)).peaks
        assert len(peaks) == expected, distance
        assert ("g" in peaks[0].bands) == (distance == 1)


def test_nothing_there_is_an_empty_catalogue():
    assert len(detect(make_scene([], rng=np.random.default_rng(7)))) == 0


def test_masked_pixels_detect_nothing():
    images = np.zeros((3, 60, 64), np.float32)
    images[:, 20, 20] = 1e4
    scene = replace(make_scene([(40, 40, 100)]), images=images + make_scene([(40, 40, 100)]).images)
    assert (20, 20) in _peaks(detect(scene))
    mask = np.zeros(images.shape, np.int32)
    mask[:, 20, 20] = 1
    assert _peaks(detect(replace(scene, mask=mask))) == [(40, 40)]


def test_given_peaks_keep_order_and_get_footprints():
    scene = make_scene([(20, 20, 100), (40, 45, 200)])
    given = np.array([[40.2, 45.1], [20, 20], [5, 60]])
    detections = detections_at(scene, given)
    peaks = sorted(detections.peaks, key=lambda peak: peak.id)
    assert [peak.id for peak in peaks] == [1, 2, 3]
    assert [(peak.y, peak.x) for peak in peaks] == [tuple(p) for p in given.tolist()]
    assert len(detections) == 3  # the third is on no source and gets a footprint of its own


def test_given_footprints_are_used():
    scene = make_scene([(20, 20, 100)])
    labels = np.zeros(scene.shape, int)
    labels[10:30, 10:30] = 4
    parent = detections_at(scene, np.array([[20, 20]]), labels).parents[0]
    assert parent.footprint.area == 400


@pytest.mark.parametrize("peak", [(-1, 5), (5, 64), (np.nan, 5), (np.inf, 5)])
def test_peaks_outside_are_refused(peak):
    with pytest.raises(ValueError, match="1 of 2 peaks lie outside the image of 60 x 64 pixels"):
        detections_at(make_scene([]), np.array([(5, 5), peak]))


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="must lie between"):
        DetectionOptions(min_new_peak_arcsec=0.2, max_same_peak_arcsec=0.3)
    with pytest.raises(ValueError, match="must be positive"):
        DetectionOptions(threshold=0)
    with pytest.raises(ValueError, match="bin_size is 0"):
        DetectionOptions(temp_local_background_bin_size=0)
    with pytest.raises(ValueError, match="rank_sufficient is 0"):
        CullPeaksOptions(rank_sufficient=0)
    with pytest.raises(ValueError, match="rank_normalized_considered is -1"):
        CullPeaksOptions(rank_normalized_considered=-1)


def _star(halo_sigma=80, n=240, companions=((60, 70), (170, 150), (120, 180))):
    """A bright star with a halo, and faint sources on it; photon noise."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:n, :n]
    sky = np.zeros((n, n))
    for flux, sigma, (py, px) in [
        (1e6, 1.7, (n // 2, n // 2)),
        (1e5, halo_sigma, (n // 2, n // 2)),
        *((1500.0, 1.7, place) for place in companions),
    ]:
        sky += flux * np.exp(-((y - py) ** 2 + (x - px) ** 2) / 2 / sigma**2) / (2 * np.pi * sigma**2)
    variance = np.broadcast_to(1 + sky / 5, (3, n, n)).astype(np.float32)
    images = sky + np.sqrt(variance) * rng.standard_normal(variance.shape)
    blank = make_scene([], shape=(n, n))
    return replace(blank, images=images, variance=variance), [(n // 2, n // 2), *companions]


KEEP_ALL = CullPeaksOptions(n_bands_sufficient=1)


def test_noise_on_a_halo_makes_no_ring_of_peaks():
    scene, sources = _star()
    ring = detect(scene, DetectionOptions(do_temp_local_background=False, cull_peaks=KEEP_ALL))
    looked = detect(scene, DetectionOptions(cull_peaks=KEEP_ALL))
    default = detect(scene)
    assert len(ring.peaks) > 200
    assert len(looked.peaks) < len(ring.peaks) / 4
    assert len(default.peaks) <= 40
    for found in (looked, default):
        for y, x in sources:
            assert min(np.hypot(peak.y - y, peak.x - x) for peak in found.peaks) < 2
    # Footprints are those of the image with its halo.
    assert [parent.footprint.area for parent in default] == [parent.footprint.area for parent in ring]


def test_peaks_are_culled_by_rank_unless_several_bands_saw_them():
    peaks = [Peak(k + 1, 5.0, float(k), frozenset("gr" if k % 10 == 9 else "g")) for k in range(50)]
    heights = [100.0 - k for k in range(50)]
    labels = np.ones((10, 60), int)
    kept = cull_peaks(peaks, heights, labels, CullPeaksOptions())
    assert [peak.x for peak in kept] == [*range(30), 39, 49]
    assert [peak.id for peak in kept] == list(range(1, 33))
    kept = cull_peaks(peaks[:30], heights[:30], labels, CullPeaksOptions())
    assert [peak.x for peak in kept] == [*range(21), 29], "0.7 of 30 peaks"
    labels[:, 25:] = 2
    assert len(cull_peaks(peaks, heights, labels, CullPeaksOptions())) == 41, "25 and 25 peaks, 20 kept each"
    assert len(cull_peaks(peaks, heights, labels, KEEP_ALL)) == 50


def test_the_local_background_follows_what_is_wider_than_its_bins():
    y, x = np.mgrid[:400, :380]
    wide = 50 + 0.1 * y + 30 * np.sin(x / 120)
    rng = np.random.default_rng(9)
    image = wide + rng.standard_normal(wide.shape)
    image[100:106, 200:206] += 1e4  # clipped away
    good = np.ones(image.shape, bool)
    good[:80, :80] = False
    assert (local_background(image, good, 64) - wide)[good].std() < 0.5
    for shape in ((20, 30), (100, 30), (200, 150)):
        part = tuple(slice(side) for side in shape)
        flat = local_background(np.full(shape, 7.0), np.ones(shape, bool), 64)
        np.testing.assert_allclose(flat, 7, rtol=1e-9)
        assert not local_background(image[part], np.zeros(shape, bool), 64).any()


def test_the_local_background_goes_on_beyond_the_centres_of_its_bins():
    good = np.ones((90, 90), bool)
    y, x = np.mgrid[:90.0, :90.0]
    # Six bins of 15 pixels: a parabola, higher by the mean of its curvature over a bin.
    background = local_background(0.01 * y**2, good, 16)
    np.testing.assert_allclose(background, 0.01 * (y**2 + (15**2 - 1) / 12), atol=1e-9)
    # Two bins, and one.
    slope = 3 * y - 2 * x + 5
    np.testing.assert_allclose(local_background(slope, good, 64), slope, atol=1e-9)
    np.testing.assert_allclose(local_background(slope, good, 100), np.full(good.shape, slope.mean()))
    assert not local_background(slope, ~good, 16).any()
