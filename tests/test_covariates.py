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


"""What a detection is measured by, and what that makes of its score."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import logit

from lsst.meas.residualdetect.network.calibration import CovariateCalibration
from lsst.meas.residualdetect.network.covariates import (
    COVARIATES,
    covariates,
    filtered_noise,
    noise_boxes,
)

WHITE = np.ones(6)


def measure(residual, model, known=((50.0, 50.0),), centres=((20.0, 20.0),), score=0.5, noise=WHITE):
    found = covariates(
        residual.astype(np.float32),
        model.astype(np.float32),
        np.array(known, float).reshape(-1, 2),
        np.array(centres, float),
        np.full(len(centres), score),
        noise,
    )
    return {name: found[:, index] for index, name in enumerate(COVARIATES)}


def blob(places, heights, side=64):
    """Sources of the shape that the weight has, with a height in each band."""
    y, x = np.mgrid[:side, :side]
    shape = sum(np.exp(-0.5 * ((y - a) ** 2 + (x - b) ** 2) / 1.6**2) for a, b in places)
    return np.array(heights, float)[:, None, None] * shape + 1e-9


def test_a_sources_own_signal_to_noise_is_measured_band_by_band():
    heights = np.array([0.2, 0.5, 1.0, 3.0, 4.0, 0.0])
    found = measure(blob([(20, 20)], heights), np.zeros((6, 64, 64)))
    per_band = heights * np.sqrt(np.pi) * 1.6  # height times the root of the sum of the squared shape
    assert found["log_snr"][0] == pytest.approx(np.log(np.hypot.reduce(per_band)), abs=0.01)
    # 0.57, 1.4, 2.8, 8.5, 11 and 0: of the third two fifths count.
    assert found["bands"][0] == pytest.approx((2 + (per_band[2] - 2) / 2) / 6, abs=0.001)


def test_correlated_noise_takes_signal_to_noise_away():
    light = blob([(20, 20)], np.full(6, 3.0))
    white, correlated = (measure(light, light, noise=factor * WHITE) for factor in (1, 2))
    assert correlated["log_snr"] == pytest.approx(white["log_snr"] - np.log(2))
    assert (white["log_noise"], correlated["log_noise"]) == (0, pytest.approx(np.log(2)))


def test_noise_is_what_is_left_where_there_is_no_light():
    rng = np.random.default_rng(1)
    white = rng.standard_normal((6, 400, 300)).astype(np.float32)
    smooth = ndimage.gaussian_filter(white, (0, 0.8, 0.8))
    smooth /= smooth.std()
    assert filtered_noise([(white, np.zeros_like(white))]) == pytest.approx(1, abs=0.05)
    # Two Gaussians, one after the other: the variance of the sum over a source's pixels.
    expected = 2 * np.sqrt(np.pi) * 1.6 * np.sqrt((0.8**2) / (1.6**2 + 0.8**2))
    assert filtered_noise([(smooth, np.zeros_like(white))]) == pytest.approx(expected, rel=0.05)
    # Residuals of bright sources are not the sky.
    light = np.zeros_like(white)
    light[:, :200] = 50
    bright = np.where(light > 0, 20 * white, white)
    assert filtered_noise([(bright, light)]) == pytest.approx(1, abs=0.05)


def test_light_distance_and_surroundings():
    rng = np.random.default_rng(2)
    residual = 2 * rng.standard_normal((6, 64, 64))
    model = blob([(23, 24)], np.full(6, 100.0))
    found = measure(residual, model, known=[(23, 24)], centres=[(20, 20), (50, 50)])
    assert found["log_distance"] == pytest.approx(np.log([5, 20]))
    assert found["log_light"][0] > 4 and found["log_light"][1] == pytest.approx(0, abs=0.1)
    assert found["log_chi2"] == pytest.approx(np.log(4), abs=0.2)
    assert measure(residual, model, known=(), score=0.9)["log_distance"] == pytest.approx(np.log(20))
    assert measure(residual, model, score=0.9)["log_odds"] == pytest.approx(logit(0.9))
    assert np.isfinite(measure(residual, model, score=1.0)["log_odds"]).all()


def test_bands_that_are_not_there_do_not_count():
    residual = blob([(20, 20)], np.full(6, 3.0))
    residual[3:] = 0
    found = measure(residual, np.zeros_like(residual))
    assert found["bands"][0] == 1
    nothing = measure(np.zeros_like(residual), np.zeros_like(residual))
    assert all(np.isfinite(values).all() for values in nothing.values())


def test_a_tile_gives_what_the_whole_image_gives():
    rng = np.random.default_rng(3)
    residual, model = rng.standard_normal((2, 6, 200, 200))
    centres = np.array([(80.3, 90.7), (120.0, 110.2)])
    whole = measure(residual, model, known=[(77, 90)], centres=centres)
    cut = (slice(None), slice(60, 150), slice(70, 140))
    tile = measure(residual[cut], model[cut], known=[(17, 20)], centres=centres - (60, 70))
    for name in COVARIATES:
        assert tile[name] == pytest.approx(whole[name], abs=1e-4), name
    # The same, whatever else is measured with it.
    assert measure(residual, model, [(77, 90)], centres[:1])["log_chi2"][0] == whole["log_chi2"][0]


def test_the_noise_of_a_large_scene_is_measured_on_pieces_of_it():
    assert noise_boxes((300, 310)) == [(slice(0, 300), slice(0, 310))]
    boxes = noise_boxes((4000, 4100))
    assert len(boxes) == 16 and boxes[-1] == (slice(3744, 4000), slice(3844, 4100))


def test_probability_is_a_logistic_function_of_what_was_measured():
    weights = [4.0 if name == "bands" else 0.0 for name in COVARIATES]
    made = CovariateCalibration(-2.0, tuple(weights))
    measured = np.zeros((2, len(COVARIATES)))
    measured[1, COVARIATES.index("bands")] = 0.5
    assert made.probability(np.array([0.5, 0.5]), measured) == pytest.approx([1 / (1 + np.e**2), 0.5])
    with pytest.raises(ValueError, match="needs covariates"):
        made.probability(np.array([0.5]))
    with pytest.raises(ValueError, match=r"2 coefficients; expected \d"):
        CovariateCalibration(0.0, (1.0, 2.0))
