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
from lsst.meas.residualdetect.network.features import (
    CANONICAL_BANDS,
    FeatureOptions,
    channels_in_box,
    in_noise_units,
    network_input,
)
from lsst.meas.residualdetect.network.significance import matched_psfs

SOURCES = [(30.0, 30.0, (300.0, 500.0, 900.0)), (40.0, 20.0, (900.0, 100.0, 50.0))]
GRI = [CANONICAL_BANDS.index(band) for band in "gri"]


@pytest.fixture
def scene():
    return make_scene(SOURCES, noise=2.0, rng=np.random.default_rng(7))


@pytest.fixture
def model():
    return make_scene(SOURCES).images


def test_the_residual_of_the_true_model_is_white_noise_of_unit_variance(scene, model):
    residual, expected = in_noise_units(scene, model)
    assert residual[GRI].std() == pytest.approx(1, abs=0.02)
    assert residual[GRI].mean() == pytest.approx(0, abs=0.03)
    np.testing.assert_allclose(expected[GRI], model / 2, rtol=1e-6)


def test_bands_have_their_places_and_missing_ones_are_empty(scene, model):
    residual, expected = in_noise_units(scene, model)
    for array in (residual, expected):
        assert array.shape == (6, *scene.shape) and array.dtype == np.float32
        assert not array[[0, 4, 5]].any()
    for ours, theirs in zip(
        in_noise_units(scene.select_bands(["i", "g", "r"]), model[[2, 0, 1]]),
        (residual, expected),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    alien = replace(scene, bands=("g", "r", "NB387"))
    np.testing.assert_array_equal(in_noise_units(alien, model)[0][:3], residual[:3])
    assert not in_noise_units(alien, model)[0][3].any()


def test_a_scene_without_any_known_band_is_named(scene, model):
    with pytest.raises(ValueError, match="scene 'made' has bands \\['a', 'b', 'c'\\], none of"):
        in_noise_units(replace(scene, bands=("a", "b", "c")), model)


@pytest.mark.parametrize("unit", [1e-12, 3631e9])
def test_the_flux_unit_does_not_matter(scene, model, unit):
    unit = np.float32(unit)
    scaled = replace(scene, images=scene.images * unit, variance=scene.variance * unit**2)
    for ours, theirs in zip(in_noise_units(scaled, model * unit), in_noise_units(scene, model), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_bad_pixels_are_empty(scene, model):
    mask = scene.mask.copy()
    mask[0, 30, 30] = 1 << scene.mask_planes["SAT"]
    mask[1, 30, 30] = 1 << scene.mask_planes["DETECTED"]
    residual, expected = in_noise_units(replace(scene, mask=mask), model)
    assert residual[1, 30, 30] == expected[1, 30, 30] == 0
    assert expected[2, 30, 30] > 0
    assert in_noise_units(replace(scene, mask=mask), model, bad_planes=())[1][1, 30, 30] > 0


def test_the_caller_s_bad_planes_are_those_of_the_scene_it_marks(scene, model):
    mask = scene.mask.copy()
    mask[:, 30, 30] = 1 << scene.mask_planes["CR"]
    mask[:, 20, 20] = 1 << scene.mask_planes["SAT"]
    scene = replace(scene, mask=mask)
    _, shown = in_noise_units(scene.with_bad(scene.bad(["CR"])), np.ones_like(model))
    assert not shown[1:4, 30, 30].any() and (shown[1:4, 20, 20] > 0).all()


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38])
@pytest.mark.parametrize("where", ["image", "model", "both"])
@pytest.mark.filterwarnings("error")
def test_a_wild_pixel_stays_alone_and_finite(scene, model, pixel, where):
    quiet = in_noise_units(scene, model)
    images, wild = scene.images.copy(), model.copy()
    if where != "model":
        images[:, 10, 12] = pixel
    if where != "image":
        wild[:, 10, 12] = pixel
    if where != "image" and not np.isfinite(pixel):
        with pytest.raises(ValueError, match="'made': the model's image is not finite in band 'g'"):
            in_noise_units(scene, wild)
        return
    small = scene.variance.copy()
    small[:, 10, 12] = 1e-20  # the largest float32 overflows over this
    for variance in (scene.variance, small):
        values = in_noise_units(replace(scene, images=images, variance=variance), wild)
        for ours, theirs in zip(values, quiet, strict=True):
            assert np.isfinite(ours).all()
            differs = (ours != theirs).any(axis=0)
            differs[10, 12] = False
            assert not differs.any()
        channels = network_input(*values, np.zeros((0, 2)), FeatureOptions())
        assert np.isfinite(channels.astype(np.float16)).all()


def test_channels_are_linear_for_faint_pixels_and_logarithmic_for_bright_ones():
    options = FeatureOptions()
    value = np.zeros((6, 1, 4), np.float32)
    value[3, 0] = [0.01, 0.02, 3000, 6000]
    channels = network_input(value, -value, np.zeros((0, 2)), options)
    faint, fainter, bright, brighter = channels[3, 0]
    assert fainter / faint == pytest.approx(2, rel=1e-4)
    assert faint == pytest.approx(options.residual_scale * 0.01 / options.softening, rel=1e-4)
    assert brighter - bright == pytest.approx(options.residual_scale * np.log(2), rel=1e-3)
    np.testing.assert_allclose(channels[6:12] * options.residual_scale, -channels[:6] * options.model_scale)


def test_a_peak_is_a_gaussian_of_unit_height_wherever_it_is():
    empty = np.zeros((6, 40, 50), np.float32)
    options = FeatureOptions(peak_sigma_pix=1.5)

    def image(*peaks):
        return network_input(empty, empty, np.array(peaks, float), options)[12]

    one = image((20.0, 20.0))
    assert one.max() == one[20, 20] == 1
    assert one[20, 21] == pytest.approx(np.exp(-0.5 / 1.5**2))
    np.testing.assert_array_equal(np.roll(one, (5, -3), (0, 1)), image((25.0, 17.0)))
    np.testing.assert_array_equal(image((20.0, 20.0), (22.3, 21.6)), np.maximum(one, image((22.3, 21.6))))
    # A peak beyond the edge reaches in; one far away does not.
    assert image((-1.0, 10.0))[0, 10] == pytest.approx(np.exp(-0.5 / 1.5**2))
    assert not image((-100.0, 10.0), (20.0, 500.0)).any()


def test_the_peak_channel_can_be_left_out():
    options = FeatureOptions(peak_channel=False)
    empty = np.zeros((6, 8, 9), np.float32)
    channels = network_input(empty, empty, np.array([[3.0, 4.0]]), options)
    assert channels.shape == (options.n_channels, 8, 9) == (12, 8, 9)
    assert FeatureOptions().n_channels == 13
    assert not channels.any()


def test_what_no_band_sees_is_shown_as_empty_sky(scene, model):
    mask = scene.mask.copy()
    mask[:, 10:26, 10:26] = 1 << scene.mask_planes["SAT"]
    mask[0, 40:56, 10:26] = 1 << scene.mask_planes["SAT"]
    residual, expected = in_noise_units(replace(scene, mask=mask), model)
    peaks = np.zeros((0, 2))
    shown = network_input(residual, expected, peaks, FeatureOptions(hide_masks=True))
    seen = network_input(residual, expected, peaks, FeatureOptions())
    hidden = np.sinh(shown[GRI, 10:26, 10:26] / 1.5) * 3
    assert hidden.std() == pytest.approx(1, abs=0.1) and abs(hidden.mean()) < 0.1
    assert not seen[:, 10:26, 10:26].any() and not shown[6:, 10:26, 10:26].any()
    seen[GRI, 10:26, 10:26] = shown[GRI, 10:26, 10:26]
    np.testing.assert_array_equal(shown, seen)
    # The caller's own.
    assert not residual[:, 10:26, 10:26].any()
    nothing = np.zeros_like(residual)
    assert not network_input(nothing, nothing, peaks, FeatureOptions(hide_masks=True)).any()


@pytest.mark.parametrize("name", ["softening", "residual_scale", "model_scale", "peak_sigma_pix"])
def test_options_that_make_no_channels_are_refused(name):
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"{name} is .*; it must be positive"):
            FeatureOptions(**{name: value})


@pytest.mark.parametrize("significance", [False, True])
@pytest.mark.parametrize(
    "box", [(slice(0, 40), slice(24, 64)), (slice(16, 48), slice(8, 40)), (slice(40, 96), slice(16, 72))]
)
def test_the_channels_of_a_box_are_those_of_the_whole_cut_out(scene, model, significance, box):
    mask = scene.mask.copy()
    mask[:, 20:50, 30:60] = 1 << scene.mask_planes["SAT"]
    scene = replace(scene, origin=(100, -50), mask=mask)
    peaks = np.array([(130.2, -19.7), (140, -30), (115.4, -41.6), (168, 18)])
    options = FeatureOptions(significance=significance, hide_masks=True)
    everywhere = (slice(0, scene.shape[0]), slice(0, scene.shape[1]))
    whole = channels_in_box(scene, model, peaks, everywhere, options)
    part = channels_in_box(scene, model, peaks, box, options)
    for ours, theirs in zip(part, whole, strict=True):
        np.testing.assert_allclose(ours, theirs[:, *box], atol=1e-5)
    assert len(part[2]) == options.n_channels
    residual, expected = in_noise_units(scene, model)
    np.testing.assert_array_equal(whole[0], residual)
    np.testing.assert_array_equal(whole[1], expected)
    psfs = matched_psfs(scene.psfs, scene.bands, CANONICAL_BANDS)
    np.testing.assert_array_equal(
        whole[2], network_input(residual, expected, peaks - scene.origin, options, psfs)
    )
