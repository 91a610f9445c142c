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

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import convolve

from conftest import make_scene
from lsst.meas.residualdetect.deblend.batch import Batch
from lsst.meas.residualdetect.deblend.chi_square import ChiSquare
from lsst.meas.residualdetect.deblend.convolve import BandConvolver
from lsst.meas.residualdetect.deblend.cutouts import noise_units
from lsst.meas.residualdetect.deblend.monotonic import half_turn, make_monotonic, ring_offsets
from lsst.meas.residualdetect.deblend.spectra import solve_spectra
from lsst.meas.residualdetect.deblend.stamps import from_rows, make_stamps, to_rows
from lsst.meas.residualdetect.psf_images import gaussian_psf


@pytest.fixture
def kernels():
    """Two sets of three bands."""
    return np.random.default_rng(1).normal(size=(2, 3, 11, 9)).astype(np.float32)


def test_ring_order_visits_every_pixel_once_from_the_inside_out():
    offsets = ring_offsets(4)
    assert len({tuple(offset) for offset in offsets.tolist()}) == 81
    radius = offsets.abs().amax(1)
    assert (radius.diff() >= 0).all()
    # Around each ring, consecutive pixels touch.
    assert ((offsets[1:] - offsets[:-1]).abs().sum(1)[radius.diff() == 0] == 1).all()


def test_half_turn_is_point_reflection():
    offsets = ring_offsets(5)
    assert torch.equal(offsets[half_turn(5)], -offsets)


def _make_monotonic(stamps):
    """Stamps (pixel, n) of the same size."""
    radius = (round(len(stamps) ** 0.5) - 1) // 2
    return make_monotonic(stamps.flatten(), [stamps.shape[1]] * (radius + 1)).reshape(stamps.shape)


def test_profiles_that_fall_outwards_are_left_alone():
    y, x = ring_offsets(9).float().unbind(1)
    profiles = [torch.exp(-(y**2 + x**2) / 8), torch.exp(-((y**2 + 0.4 * x * y + 0.6 * x**2) ** 0.5))]
    stamps = torch.stack(profiles, dim=1)
    torch.testing.assert_close(_make_monotonic(stamps), stamps)


def test_monotonic_images_are_monotonic_and_stay_so():
    offsets = ring_offsets(8)
    noise = torch.rand(len(offsets), 20, generator=torch.Generator().manual_seed(2))
    result = _make_monotonic(noise)
    assert (result <= noise).all()
    torch.testing.assert_close(_make_monotonic(result), result)
    for direction in ([0, 1], [1, 0], [-1, 1], [-1, -1]):
        ray = [
            int((offsets == torch.tensor(direction) * r).all(1).nonzero()) for r in range(9)
        ]  # exact pixels, so no interpolation
        assert (result[ray].diff(dim=0) <= 0).all()


def test_unknown_pixels_take_the_value_of_their_bound():
    stamps = torch.full((49, 1), torch.inf)
    stamps[0] = 2.0
    assert (_make_monotonic(stamps) == 2.0).all()


PEAKS = torch.tensor([[0, 0], [6, 9], [3, 4], [2, 2]])
PARENTS = torch.tensor([0, 0, 1, 1])
RADIUS = torch.tensor([2, 9, 0, 4])


@pytest.fixture
def stamps():
    """Stamps of several sizes that hang over the edges of two boxes."""
    support = torch.rand(2, 7, 10, generator=torch.Generator().manual_seed(6)) < 0.8
    support[PARENTS, PEAKS[:, 0], PEAKS[:, 1]] = True
    return make_stamps(PEAKS, PARENTS, support, RADIUS)


def test_stamps_of_different_sizes_are_monotonic_like_each_alone(stamps):
    values = torch.rand(len(stamps.stamp), generator=torch.Generator().manual_seed(7))
    result = make_monotonic(values, stamps.counts)
    for k in range(len(stamps)):
        mine = (stamps.stamp == k).nonzero()[:, 0]
        mine = mine[stamps.place[mine].argsort()]
        assert len(mine) == (2 * RADIUS[k] + 1) ** 2
        assert torch.equal(result[mine], _make_monotonic(values[mine][:, None])[:, 0])


def test_every_value_lies_where_its_stamp_says(stamps):
    peaks, offsets = PEAKS[stamps.stamp], ring_offsets(9)[stamps.place]
    position = peaks + offsets
    inside = ((position >= 0) & (position < torch.tensor([7, 10]))).all(1)
    assert torch.equal(stamps.inside, inside)
    assert (stamps.free <= inside).all()
    expected = PARENTS[stamps.stamp] * 70 + position[:, 0] * 10 + position[:, 1]
    assert torch.equal(stamps.pixel[inside], expected[inside])
    assert torch.equal(stamps.place[stamps.rank], torch.zeros(4, dtype=torch.int64))
    assert torch.equal(stamps.stamp[stamps.rank], torch.arange(4))


def test_rendering_adds_each_value_at_its_pixel_and_its_transposes_agree(stamps):
    generator = torch.Generator().manual_seed(8)
    values = torch.rand(len(stamps.stamp), generator=generator) * stamps.free
    spectra = torch.rand(4, 3, generator=generator)
    rows = torch.rand(140, 3, generator=generator)
    expected = torch.zeros(140, 3)
    for value, pixel, stamp in zip(values, stamps.pixel, stamps.stamp, strict=True):
        expected[pixel] += value * spectra[stamp]
    rendered = stamps.render(values, spectra)
    torch.testing.assert_close(rendered, expected)
    product = (rendered * rows).sum()
    torch.testing.assert_close((stamps.project(values, rows) * spectra).sum(), product)
    torch.testing.assert_close((stamps.weigh(rows, spectra) * values).sum(), product)
    assert torch.equal(to_rows(from_rows(rows, torch.zeros(2, 3, 7, 10))), rows)


def test_opposite_values_are_point_reflections(stamps):
    values = torch.arange(len(stamps.stamp))
    turned = stamps.opposite(values)
    offsets = ring_offsets(9)
    assert torch.equal(stamps.stamp[turned], stamps.stamp)
    assert torch.equal(offsets[stamps.place[turned]], -offsets[stamps.place])


def test_light_survives_the_way_to_larger_stamps_and_back(stamps):
    values = torch.rand(len(stamps.stamp), generator=torch.Generator().manual_seed(9))
    assert torch.equal(stamps.extent(values), RADIUS)
    support = torch.ones(2, 7, 10, dtype=torch.bool)
    members = torch.tensor([3, 0])
    larger = make_stamps(PEAKS[members], PARENTS[members], support, RADIUS[members] + 3)
    moved = larger.move(values, stamps, members)
    assert torch.equal(larger.extent(moved), RADIUS[members])
    assert moved.sum() == pytest.approx(float(values[torch.isin(stamps.stamp, members)].sum()), rel=1e-5)
    some = make_stamps(PEAKS[members], PARENTS[members], support, RADIUS[members])
    back, expected = some.move(moved, larger, torch.arange(2)), some.move(values, stamps, members)
    assert torch.equal(back, expected)


def test_convolution_agrees_with_scipy(kernels):
    cube = np.random.default_rng(3).normal(size=(4, 3, 20, 7)).astype(np.float32)
    which = torch.tensor([1, 0, 1, 1])
    convolver = BandConvolver(kernels, which, (20, 7))
    result = convolver.forward(torch.from_numpy(cube))
    for parent in range(4):
        for band in range(3):
            full = convolve(cube[parent, band], kernels[which[parent], band], mode="full")
            np.testing.assert_allclose(result[parent, band], full[5:25, 4:11], atol=2e-5)
    keep = torch.tensor([True, True, False, True])
    some = convolver.select(keep).forward(torch.from_numpy(cube)[keep])
    torch.testing.assert_close(some, result[keep])


def test_adjoint_is_the_transpose(kernels):
    convolver = BandConvolver(kernels, torch.tensor([0, 1]), (13, 16))
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.randn(2, 3, 13, 16, generator=generator) for _ in range(2))
    forward, adjoint = (convolver.forward(a) * b).double(), (a * convolver.adjoint(b)).double()
    assert abs(forward.sum() - adjoint.sum()) < 1e-6 * forward.abs().sum()


def test_little_light_comes_back_in_at_the_opposite_edge():
    # A Moffat profile with beta = 2.5, whose wings are as wide as any PSF's.
    y, x = np.indices((61, 61)) - 30
    kernel = ((1 + (y**2 + x**2) / 2.5**2) ** -2.5).astype(np.float32)
    kernel /= kernel.sum()
    points = np.zeros((1, 1, 50, 50), np.float32)
    points[0, 0, 25, 25], points[0, 0, 4, 30] = 100, 1
    result = BandConvolver(kernel[None, None], torch.tensor([0]), (50, 50)).forward(torch.from_numpy(points))
    exact = convolve(points[0, 0], kernel, mode="same")
    assert np.abs(result[0, 0].numpy() - exact).max() < 1e-3 * exact.max()


@pytest.fixture
def chi_square(kernels):
    """Two parents of three components, one without weight in the last band."""
    rng = np.random.default_rng(5)
    images = torch.from_numpy(30 * rng.normal(size=(2, 3, 12, 12)).astype(np.float32))
    weights = torch.from_numpy(rng.random((2, 3, 12, 12), np.float32))
    weights[1, 2] = 0
    support = torch.ones(2, 12, 12, dtype=torch.bool)
    support[0, :, :2] = False
    owner = torch.arange(2).repeat_interleave(3)
    pixels = torch.from_numpy(rng.integers(2, 10, (6, 2)))
    depth = weights.flatten(2).median(2).values
    positive, which = np.abs(kernels), torch.tensor([0, 1])
    convolver = BandConvolver(positive, which, (12, 12))
    batch = Batch(
        images, weights, support, depth, owner, pixels.float(), pixels, torch.zeros(6), convolver, convolver
    )
    return ChiSquare(batch, make_stamps(pixels, owner, support, torch.full((6,), 11)))


@pytest.fixture
def morphologies(chi_square):
    rng = np.random.default_rng(6)
    values = torch.from_numpy(rng.random(len(chi_square.stamps.stamp), np.float32) ** 8)
    return values * chi_square.stamps.free


def _lone_model(chi_square, morphologies, component):
    """Model of unit flux per peak of one component: (parent, band, y, x)."""
    spectra = torch.zeros(6, 3)
    spectra[component] = 1
    return chi_square.residual(spectra, morphologies) + chi_square.batch.images


def test_spectra_agree_with_least_squares_and_vanish_without_weight(chi_square, morphologies):
    batch = chi_square.batch
    spectra = solve_spectra(chi_square, morphologies, 6)
    for band in range(3):
        for parent in range(2):
            root = batch.fit_weights[parent, band].flatten().sqrt().double()
            mine = (batch.owner == parent).nonzero()[:, 0].tolist()
            templates = [_lone_model(chi_square, morphologies, k)[parent, band] for k in mine]
            matrix = torch.stack([template.flatten().double() * root for template in templates], dim=1)
            expected = np.linalg.lstsq(matrix.numpy(), (batch.images[parent, band].flatten() * root).numpy())[
                0
            ]
            np.testing.assert_allclose(spectra[mine, band], expected.clip(min=0), atol=2e-3)
    assert (spectra[batch.owner == 1, 2] == 0).all()
    assert (spectra > 0).any()


@pytest.mark.parametrize("noise", [0, 1])
def test_spectra_stay_where_they_are_when_only_rounding_is_left(noise):
    # One source in each parent: the first step is exact, all others are too many.
    n, side, rng = 300, 13, np.random.default_rng(3)
    kernels = np.stack([gaussian_psf(sigma, (11, 11)) for sigma in (1.2, 1.5, 1.9)])[None]
    convolver = BandConvolver(kernels.astype(np.float32), torch.zeros(n, dtype=torch.int64), (side, side))
    owner, pixels = torch.arange(n), torch.full((n, 2), side // 2)
    support = torch.ones(n, side, side, dtype=torch.bool)
    weights = torch.from_numpy(rng.uniform(0.5, 1, (n, 3, side, side)).astype(np.float32))
    dark, depth, kinds = torch.zeros_like(weights), torch.ones(n, 3), torch.zeros(n)
    batch = Batch(dark, weights, support, depth, owner, pixels.float(), pixels, kinds, convolver, convolver)
    stamps = make_stamps(pixels, owner, support, torch.full((n,), side // 2))
    y, x = stamps.pixel // side % side - side // 2, stamps.pixel % side - side // 2
    morphologies = torch.exp(-(y**2 + x**2) / 1.3)
    light = torch.from_numpy(rng.uniform(5, 50, (n, 3)).astype(np.float32))
    images = ChiSquare(batch, stamps).residual(light, morphologies)
    images = images + torch.from_numpy(rng.normal(0, noise, images.shape).astype(np.float32))
    chi_square = ChiSquare(replace(batch, images=images), stamps)
    exact = solve_spectra(chi_square, morphologies, 1)
    torch.testing.assert_close(solve_spectra(chi_square, morphologies, 30), exact)


def test_gradient_agrees_with_automatic_differentiation(chi_square, morphologies):
    spectra = torch.rand(6, 3, generator=torch.Generator().manual_seed(10), requires_grad=True)
    values = morphologies.clone().requires_grad_()
    half = chi_square.value(spectra, values).sum() / 2
    expected = torch.autograd.grad(half, (spectra, values))
    free = chi_square.stamps.free
    with torch.no_grad():
        of_spectra, of_values = chi_square.gradient(spectra, values)
    torch.testing.assert_close(of_spectra, expected[0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(of_values[free], expected[1][free], rtol=1e-4, atol=1e-2)


def test_curvature_bounds_the_second_derivative_of_each_unknown(chi_square, morphologies):
    # With positive kernels the bound holds without the factors.
    spectra = 1 + torch.rand(6, 3, generator=torch.Generator().manual_seed(11))
    of_spectra, of_values = chi_square.curvature(spectra, morphologies)
    for component in range(6):
        model = _lone_model(chi_square, morphologies, component)
        second = (chi_square.batch.fit_weights * model**2).sum((0, 2, 3))
        assert (of_spectra[component] >= second).all()
    assert (of_values[~chi_square.stamps.free] == 0).all()
    assert (of_values[chi_square.stamps.free] > 0).all()


def test_a_band_without_data_has_the_unit_of_the_loudest_other():
    scene = make_scene([], noise=2.0**-30)
    bad = scene.variance.copy()
    bad[1] = np.nan
    np.testing.assert_array_equal(noise_units(replace(scene, variance=bad)), np.full(3, 2.0**-30))
    np.testing.assert_array_equal(noise_units(replace(scene, variance=np.full_like(bad, np.nan))), np.ones(3))
