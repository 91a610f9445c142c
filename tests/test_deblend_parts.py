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

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from scipy.signal import convolve

from lsst.meas.residualdetect.deblend.convolve import BandConvolver
from lsst.meas.residualdetect.deblend.monotonic import half_turn, make_monotonic, ring_offsets
from lsst.meas.residualdetect.deblend.spectra import fit_spectra
from lsst.meas.residualdetect.deblend.stamps import PeakStamps

CPU = torch.device("cpu")


@pytest.fixture
def kernels():
    return np.random.default_rng(1).normal(size=(3, 11, 9)).astype(np.float32)


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


def test_profiles_that_fall_outwards_are_left_alone():
    y, x = ring_offsets(9).float().unbind(1)
    profiles = [torch.exp(-(y**2 + x**2) / 8), torch.exp(-((y**2 + 0.4 * x * y + 0.6 * x**2) ** 0.5))]
    stamps = torch.stack(profiles, dim=1)
    torch.testing.assert_close(make_monotonic(stamps), stamps)


def test_monotonic_images_are_monotonic_and_stay_so():
    offsets = ring_offsets(8)
    noise = torch.rand(len(offsets), 20, generator=torch.Generator().manual_seed(2))
    result = make_monotonic(noise)
    assert (result <= noise).all()
    torch.testing.assert_close(make_monotonic(result), result)
    for direction in ([0, 1], [1, 0], [-1, 1], [-1, -1]):
        ray = [
            int((offsets == torch.tensor(direction) * r).all(1).nonzero()) for r in range(9)
        ]  # exact pixels, so no interpolation
        assert (result[ray].diff(dim=0) <= 0).all()


def test_unknown_pixels_take_the_value_of_their_bound():
    stamps = torch.full((49, 1), torch.inf)
    stamps[0] = 2.0
    assert (make_monotonic(stamps) == 2.0).all()


def test_boxes_survive_the_way_to_stamps_and_back():
    boxes = torch.rand(3, 7 * 10)
    stamps = PeakStamps(torch.tensor([[0, 0], [6, 9], [3, 4]]), (7, 10), max_radius=50)
    assert torch.equal(stamps.to_boxes(stamps.to_stamps(boxes, 0.0)), boxes)
    some = stamps.select(torch.tensor([2]))
    assert torch.equal(some.to_boxes(some.to_stamps(boxes[2:], 0.0)), boxes[2:])


def test_stamps_end_at_the_greatest_radius():
    stamps = PeakStamps(torch.tensor([[3, 4]]), (9, 9), max_radius=2)
    box = stamps.to_boxes(stamps.to_stamps(torch.ones(1, 81), 0.0)).reshape(9, 9)
    expected = torch.zeros(9, 9)
    expected[1:6, 2:7] = 1
    assert torch.equal(box, expected)


def test_light_may_go_on_beyond_a_gap_of_the_support():
    stamps = PeakStamps(torch.tensor([[0, 0]]), (1, 6), max_radius=50)
    support = torch.tensor([[True, True, False, False, True, True]])
    box = stamps.project(torch.tensor([[5.0, 3.0, 9.0, 0.0, 4.0, -1.0]]), support)
    assert box.tolist() == [[5, 3, 0, 0, 3, 0]]


def test_convolution_agrees_with_scipy(kernels):
    cube = np.random.default_rng(3).normal(size=(2, 3, 20, 7)).astype(np.float32)
    result = BandConvolver(kernels, (20, 7), CPU).forward(torch.from_numpy(cube))
    for parent in range(2):
        for band in range(3):
            full = convolve(cube[parent, band], kernels[band], mode="full")
            np.testing.assert_allclose(result[parent, band], full[5:25, 4:11], atol=2e-5)


def test_adjoint_is_the_transpose(kernels):
    convolver = BandConvolver(kernels, (13, 16), CPU)
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.randn(3, 13, 16, generator=generator) for _ in range(2))
    torch.testing.assert_close((convolver.forward(a) * b).sum(), (a * convolver.adjoint(b)).sum())


def test_spectra_agree_with_scipy_and_vanish_without_weight(kernels):
    rng = np.random.default_rng(5)
    convolver = BandConvolver(np.abs(kernels), (12, 12), CPU)
    morphologies = torch.from_numpy(rng.random((2, 3, 12, 12), np.float32) ** 8)
    images = torch.from_numpy(30 * rng.normal(size=(2, 3, 12, 12)).astype(np.float32))
    weights = torch.from_numpy(rng.random((2, 3, 12, 12), np.float32))
    weights[1, 2] = 0
    spectra = torch.zeros(2, 3, 3)
    for _ in range(20):
        spectra = fit_spectra(convolver, morphologies, images, weights, spectra)
    for band, templates in enumerate(convolver.each_band(morphologies)):
        for parent in range(2):
            root = weights[parent, band].flatten().sqrt().double()
            matrix = (templates[parent].flatten(1).double() * root).T
            expected, _ = nnls(matrix.numpy(), (images[parent, band].flatten() * root).numpy())
            np.testing.assert_allclose(spectra[parent, :, band], expected, atol=1e-3)
    assert (spectra[1, :, 2] == 0).all()
