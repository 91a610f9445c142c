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

from lsst.meas.residualdetect.deblend.batch import Batch
from lsst.meas.residualdetect.deblend.convolve import BandConvolver
from lsst.meas.residualdetect.deblend.descent import Iterate
from lsst.meas.residualdetect.deblend.monotonic import half_turn, make_monotonic, ring_offsets
from lsst.meas.residualdetect.deblend.spectra import fit_spectra
from lsst.meas.residualdetect.deblend.stamps import from_rows, make_stamps, to_rows

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
    images = torch.from_numpy(30 * rng.normal(size=(2, 3, 12, 12)).astype(np.float32))
    weights = torch.from_numpy(rng.random((2, 3, 12, 12), np.float32))
    weights[1, 2] = 0
    support = torch.ones(2, 12, 12, dtype=torch.bool)
    owner = torch.arange(2).repeat_interleave(3)
    pixels = torch.from_numpy(rng.integers(2, 10, (6, 2)))
    depth = weights.flatten(2).median(2).values
    batch = Batch(images, weights, support, depth, owner, pixels.float(), pixels, torch.zeros(6))
    stamps = make_stamps(pixels, owner, support, torch.full((6,), 11))
    morphologies = torch.from_numpy(rng.random(len(stamps.stamp), np.float32) ** 8) * stamps.free
    spectra = Iterate(torch.zeros(6, 3), torch.zeros(6, 3), torch.ones(2))
    for _ in range(10):
        spectra = fit_spectra(batch, stamps, morphologies, spectra, convolver, convolver, 40)
    templates = torch.stack(
        [
            convolver.forward(from_rows(stamps.render(morphologies, alone[:, None].expand(6, 3)), images))
            for alone in torch.eye(6)
        ]
    )
    for band in range(3):
        for parent in range(2):
            root = weights[parent, band].flatten().sqrt().double()
            mine = owner == parent
            matrix = (templates[mine, parent, band].flatten(1).double() * root).T
            expected, _ = nnls(matrix.numpy(), (images[parent, band].flatten() * root).numpy())
            np.testing.assert_allclose(spectra.now[mine, band], expected, atol=1e-3)
    assert (spectra.now[owner == 1, 2] == 0).all()
