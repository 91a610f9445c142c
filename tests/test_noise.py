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

"""Significance of point sources, on PSFs that look the same from no two sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import convolve

from conftest import make_scene
from lsst.meas.residualdetect.noise import (
    correlate,
    expected_snr,
    n_bands_seen,
    point_source_flux,
    point_source_sums,
    psf_smoothed,
    significance,
    snr_over_bands,
)

Y, X = np.mgrid[-7:8, -7:8]
# A core with a tail to the upper right.
LOPSIDED = np.exp(-0.5 * (Y**2 + X**2) / 2) + 0.3 * np.exp(-0.5 * ((Y - 3) ** 2 + (X - 4) ** 2) / 3)
LOPSIDED /= LOPSIDED.sum()
AT = (30, 20)


@pytest.fixture
def scene():
    """A source of flux 1000, without noise, on pixels of uneven variance."""
    empty = make_scene([])
    images = np.zeros_like(empty.images)
    images[:, AT[0] - 7 : AT[0] + 8, AT[1] - 7 : AT[1] + 8] = 1000 * LOPSIDED
    variance = np.random.default_rng(1).uniform(0.5, 3, images.shape)
    return replace(empty, images=images, variance=variance, psfs=np.stack([LOPSIDED] * 3))


def places(*pixels):
    return np.array([p[0] for p in pixels], float), np.array([p[1] for p in pixels], float)


def test_a_pixel_weighs_as_the_kernel_does_where_it_lies():
    image = np.zeros((40, 40))
    image[20, 20] = 2
    sums = correlate(image, LOPSIDED)
    # Seen from three rows below, four columns to the left it lies in the tail.
    for dy, dx in ((0, 0), (3, 4), (-3, -4), (7, -7)):
        assert sums[20 - dy, 20 - dx] == pytest.approx(2 * LOPSIDED[7 + dy, 7 + dx], abs=1e-12)


@pytest.mark.parametrize("height", [3, 15, 255, 256, 257, 530])
def test_rows_are_filtered_as_if_all_at_once(height):
    rng = np.random.default_rng(height)
    image, variance = rng.normal(0, 1, (height, 40)), rng.uniform(1, 2, (height, 40))
    good = rng.random((height, 40)) < 0.9
    seen, light, noise = (
        convolve(np.where(good, plane, 0.0), kernel[::-1, ::-1], mode="constant")
        for plane, kernel in ((1.0, LOPSIDED), (image, LOPSIDED), (variance, LOPSIDED**2))
    )
    np.testing.assert_allclose(correlate(np.where(good, image, 0.0), LOPSIDED), light, atol=1e-13)
    smooth, sigma = psf_smoothed(image, variance, good, LOPSIDED)
    np.testing.assert_allclose(smooth, np.where(good, light / seen, 0), atol=1e-12)
    np.testing.assert_allclose(sigma, np.where(good, np.sqrt(noise) / seen, np.inf), atol=1e-12)


def test_flux_and_error_are_those_of_a_least_squares_fit(scene):
    flux, sigma = point_source_flux(scene.images, scene, *places(AT))
    np.testing.assert_allclose(flux, 1000, rtol=1e-5)
    box = (slice(AT[0] - 7, AT[0] + 8), slice(AT[1] - 7, AT[1] + 8))
    expected = (LOPSIDED**2 / scene.variance[:, *box]).sum(axis=(1, 2)) ** -0.5
    np.testing.assert_allclose(sigma[0], expected, rtol=1e-5)
    np.testing.assert_allclose(expected_snr(flux, scene, *places(AT)), np.hypot.reduce(1000 / expected))
    for band in range(3):
        sums = point_source_sums(scene.images[band], 1 / scene.variance[band], scene.psfs[band])
        assert significance(*sums)[AT] == pytest.approx(1000 / expected[band], rel=1e-5)


def test_the_source_stands_out_most_where_it_lies(scene):
    for band in range(3):
        snr = significance(*point_source_sums(scene.images[band], 1 / scene.variance[band], scene.psfs[band]))
        smooth, sigma = psf_smoothed(
            scene.images[band], scene.variance[band], np.ones(scene.shape, bool), scene.psfs[band]
        )
        assert np.hypot(*(np.unravel_index(snr.argmax(), snr.shape) - np.array(AT))) <= 1
        assert np.unravel_index(smooth.argmax(), smooth.shape) == AT
        box = (slice(AT[0] - 7, AT[0] + 8), slice(AT[1] - 7, AT[1] + 8))
        assert smooth[AT] == pytest.approx(1000 * (LOPSIDED**2).sum(), rel=1e-5)
        assert sigma[AT] == pytest.approx(np.sqrt((LOPSIDED**2 * scene.variance[band][box]).sum()), rel=1e-5)


def test_a_place_is_known_as_long_as_good_pixels_see_a_tenth_of_the_psf(scene):
    share = LOPSIDED**2 / (LOPSIDED**2).sum()
    brightest = np.argsort(-share.ravel())
    for n_left, is_known in (
        (np.searchsorted(np.cumsum(share.ravel()[brightest]), 0.11) + 1, True),
        (1, False),
    ):
        bad = np.ones(scene.images.shape, bool)
        y, x = np.unravel_index(brightest[:n_left] if is_known else brightest[40:], share.shape)
        bad[:, AT[0] - 7 + y, AT[1] - 7 + x] = False
        seen = scene.with_bad(bad)
        flux, sigma = point_source_flux(seen.images, seen, *places(AT))
        snr = np.divide(*point_source_flux(seen.images, seen, *places(AT)))
        sums = point_source_sums(seen.images[0], seen.weights()[0], seen.psfs[0])
        if is_known:
            np.testing.assert_allclose(flux, 1000, rtol=1e-4)
            assert significance(*sums)[AT] == pytest.approx(snr[0, 0], rel=1e-3)
        else:
            assert not flux.any() and np.isinf(sigma).all() and not snr.any()
            assert sums[0][AT] == sums[1][AT] == 0
            assert expected_snr(np.full((1, 3), 1e9), seen, *places(AT)) == 0


def test_beyond_the_image_nothing_is_known(scene):
    flux, sigma = point_source_flux(scene.images, scene, *places((-40, 10), (10, 200)))
    assert not flux.any() and np.isinf(sigma).all()


def test_a_negative_flux_adds_nothing():
    sigma = np.ones((2, 2))
    assert snr_over_bands(np.array([[3.0, 4.0], [-3.0, 4.0]]), sigma).tolist() == [5, 4]


def test_one_pixel_of_enormous_variance_does_not_blind_those_around(scene):
    variance, good = scene.variance[0].copy(), np.ones(scene.shape, bool)
    variance[AT[0] + 5, AT[1]] = 1e20
    good[0, 0] = False
    smooth, sigma = psf_smoothed(scene.images[0], variance, good, scene.psfs[0])
    assert np.isinf(sigma[AT[0] + 5, AT[1]]) and not smooth[AT[0] + 5, AT[1]]
    whole, quiet = psf_smoothed(scene.images[0], scene.variance[0], good, scene.psfs[0])
    assert sigma[AT] == pytest.approx(quiet[AT], rel=0.05)
    assert smooth[AT] == pytest.approx(whole[AT], rel=0.05)


def test_filtered_pixels_are_means_of_the_good_ones():
    ones, good = np.ones((40, 40)), np.ones((40, 40), bool)
    good[:, :18] = False
    smooth, sigma = psf_smoothed(ones, ones, good, LOPSIDED)
    assert not smooth[:, :18].any() and np.isinf(sigma[:, :18]).all()
    np.testing.assert_allclose(smooth[:, 18:], 1)
    # Two columns to the right of the edge.
    seen = LOPSIDED[:, 5:]
    assert sigma[20, 20] == pytest.approx(np.sqrt((seen**2).sum()) / seen.sum())
    nothing, noise = psf_smoothed(ones, ones, np.zeros((40, 40), bool), LOPSIDED)
    assert not nothing.any() and np.isinf(noise).all()


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_does_not_matter(unit, scene):
    image, variance = scene.images[0].astype(float), scene.variance[0].astype(float)
    good = np.ones(scene.shape, bool)
    one = psf_smoothed(image, variance, good, scene.psfs[0])
    other = psf_smoothed(unit * image, unit**2 * variance, good, scene.psfs[0])
    for here, there in zip(one, other, strict=True):
        np.testing.assert_allclose(there, unit * here, rtol=1e-6, atol=1e-9 * unit)
    here = significance(*point_source_sums(image, 1 / variance, scene.psfs[0]))
    there = significance(*point_source_sums(unit * image, 1 / (unit**2 * variance), scene.psfs[0]))
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("snr", "n_bands"),
    [
        ([9.0, 0.5, 0.5, 0.5], 1),  # a trail
        ([9.0, 2.5, 1.0, 0.5], 2),  # a source of one colour, and a little in another band
        ([9.0, -2.5, 0.0, 0.5], 2),  # its light was given to a neighbour there
        ([9.0, 8.0, 0.5, 0.0], 2),
        ([9.0, 8.0, 7.0, 2.0], 4),
        ([2.0, 1.0, 0.0, -1.0], 4),  # nothing stands out: it is not for the bands to say
        ([9.0], 1),
    ],
)
def test_bands_that_have_seen_something(snr, n_bands):
    squares = np.square(snr)
    assert n_bands_seen(squares) == n_bands_seen(squares[::-1]) == n_bands
    # As much more in many pixels, which scatter more.
    n_values = np.full(len(snr), 16)
    assert n_bands_seen(16 + 4 * (squares - 1), n_values) == n_bands
