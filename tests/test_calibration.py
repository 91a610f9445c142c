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

"""From scores to probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.residualdetect.training.fit_calibration import fit_calibration


def test_calibration_finds_the_probability_behind_the_score():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, 40000)
    score, probability = fit_calibration(scores, rng.uniform(0, 1, 40000) < scores**2)
    at = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.interp(at, score, probability), at**2, atol=0.05)


def test_calibration_rises_from_nothing_and_is_never_certain():
    rng = np.random.default_rng(2)
    scores = rng.beta(2, 5, 500).astype(np.float32)
    score, probability = fit_calibration(scores, rng.uniform(0, 1, 500) < 0.5)
    assert score[0] == 0 and score[-1] == 1 and (np.diff(score) > 0).all()
    assert (np.diff(probability) >= 0).all() and probability[0] == 0 and probability[-1] < 1


def test_few_detections_are_refused():
    with pytest.raises(ValueError, match="12 detections are too few"):
        fit_calibration(np.linspace(0, 1, 12), np.ones(12, bool))
