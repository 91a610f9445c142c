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

"""What noise realizations say of a coadd's noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.io.noise_realizations import noise_of_realizations
from lsst.meas.residualdetect.io.remarks import Remarks

SHAPE = (300, 320)


def test_white_noise_of_the_right_variance():
    rng = np.random.default_rng(1)
    variance = rng.uniform(1, 9, SHAPE)
    realizations = [np.sqrt(variance) * rng.standard_normal(SHAPE) for _ in range(3)]
    realizations[0][:40] = np.nan
    noise = noise_of_realizations(realizations, variance)
    assert noise.n_realizations == 3 and noise.ratio == pytest.approx(1, abs=0.01)
    assert abs(noise.correlation) < 0.01 and noise.summed == pytest.approx(1, abs=0.02)
    remarks = Remarks()
    noise.remark(remarks, "r")
    assert len(remarks.notes) == 1 and not remarks.doubts


def test_correlated_noise_makes_sums_noisier():
    """Of noise under a Gaussian all is known."""
    width = 0.8
    white = np.random.default_rng(2).standard_normal(SHAPE)
    smooth = ndimage.gaussian_filter(white, width, mode="wrap")
    noise = noise_of_realizations([smooth / smooth.std()], np.ones(SHAPE))
    assert noise.ratio == pytest.approx(1, abs=0.01)
    assert noise.correlation == pytest.approx(np.exp(-1 / (4 * width**2)), abs=0.02)
    expected = np.sqrt(width**2 / (width**2 + 1.6**2) * 4 * np.pi * 1.6**2)
    assert noise.summed == pytest.approx(expected, rel=0.04)


def test_a_variance_that_is_off_is_doubted():
    realization = np.random.default_rng(3).standard_normal(SHAPE)
    noise = noise_of_realizations([realization], np.full(SHAPE, 0.25))
    remarks = Remarks()
    noise.remark(remarks, "r.fits")
    assert "r.fits: noise realizations scatter by 2 times" in remarks.doubts[0]
    with pytest.raises(SceneError, match="scatter by 2 times"):
        noise.remark(Remarks(strict=True), "r.fits")


@pytest.mark.parametrize(("noise_of_image", "factor"), [(2.0, 16), (0.5, 1)])
def test_a_variance_is_scaled_only_if_the_pixels_agree(noise_of_image, factor):
    rng = np.random.default_rng(4)
    realization, image = rng.normal(0, 2, SHAPE), rng.normal(0, noise_of_image, SHAPE)
    noise = noise_of_realizations([realization], np.full(SHAPE, 0.25), image)
    assert noise.variance_factor == pytest.approx(factor, rel=0.02)
    assert noise_of_realizations([realization], np.full(SHAPE, 4.0), image).variance_factor == 1


def test_nothing_is_said_without_pixels():
    noise = noise_of_realizations([np.full(SHAPE, np.nan)], np.ones(SHAPE))
    remarks = Remarks()
    noise.remark(remarks, "r")
    assert np.isnan(noise.ratio) and not remarks.notes and not remarks.doubts
