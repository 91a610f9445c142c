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

"""The residual's significance for point sources, as the network sees it."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.residualdetect.network.features import CANONICAL_BANDS, FeatureOptions, network_input
from lsst.meas.residualdetect.network.significance import PSF_SIDE, matched_psfs, psf_significance
from lsst.meas.residualdetect.psf_images import gaussian_psf


def psf(sigma: float = 1.6, side: int = 41) -> np.ndarray:
    return gaussian_psf(sigma, (side, side))[None].astype(np.float32)


def test_noise_has_unit_variance_also_beside_bad_pixels():
    residual = np.random.default_rng(1).standard_normal((1, 200, 200)).astype(np.float32)
    residual[:, :, 90:110:2] = 0
    found = psf_significance(residual, matched_psfs(psf(), "i", "i"))
    assert found.std() == pytest.approx(1, abs=0.03)
    assert found[:, :, 90:110].std() == pytest.approx(1, abs=0.1)


def test_a_point_source_has_its_signal_to_noise_ratio():
    residual = np.full((1, 61, 61), 1e-12, np.float32)
    flux = 30.0
    residual[:, 10:51, 10:51] += flux * psf()
    found = psf_significance(residual, matched_psfs(psf(), "i", "i"))
    assert np.unravel_index(found[0].argmax(), found[0].shape) == (30, 30)
    assert found.max() == pytest.approx(flux * np.sqrt(np.square(psf()).sum()), rel=0.01)


def test_nothing_comes_of_bad_pixels_and_bands_that_are_not_there():
    residual = np.zeros((2, 40, 40), np.float32)
    residual[0, :20] = 1
    found = psf_significance(residual, np.concatenate([psf(), 0 * psf()]))
    assert found[0, :20].min() > 0 and not found[0, 30:].any() and not found[1].any()


@pytest.mark.parametrize("side", [15, 25, 41])
def test_psfs_of_any_size_keep_their_centre(side):
    cut = matched_psfs(psf(1.5, side), ("r",), CANONICAL_BANDS)
    assert cut.shape == (6, PSF_SIDE, PSF_SIDE)
    assert np.unravel_index(cut[2].argmax(), cut[2].shape) == (PSF_SIDE // 2,) * 2
    assert not cut[[0, 1, 3, 4, 5]].any()


def test_channels_come_last_and_need_the_psfs():
    rng = np.random.default_rng(2)
    residual = rng.standard_normal((6, 32, 32)).astype(np.float32)
    wanted = FeatureOptions(significance=True)
    psfs = np.repeat(psf(), 6, axis=0)
    channels = network_input(residual, residual, np.zeros((0, 2)), wanted, psfs)
    assert len(channels) == wanted.n_channels == 19
    plain = network_input(residual, residual, np.zeros((0, 2)), FeatureOptions())
    np.testing.assert_array_equal(channels[:13], plain)
    np.testing.assert_allclose(
        channels[13:], 1.5 * np.arcsinh(psf_significance(residual, psfs) / 3), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="PSFs"):
        network_input(residual, residual, np.zeros((0, 2)), wanted)
