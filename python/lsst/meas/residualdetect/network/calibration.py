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


"""From a network's scores to probabilities that mean the same on any sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from .covariates import COVARIATES

__all__ = ["Calibration", "CovariateCalibration", "ScoreCalibration"]


class Calibration(Protocol):
    """How scores become probabilities."""

    @property
    def needs_covariates(self) -> bool:
        """Whether it uses more than the score."""

    def probability(
        self, scores: npt.NDArray[np.floating], measured: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Probability that detections with these scores (n,), and these
        `covariates` (n, k) if they are used, are right: (n,).
        """


@dataclass(frozen=True)
class ScoreCalibration:
    """A table of scores alone.

    Parameters
    ----------
    score, probability_at : `tuple` [`float`, ...]
        Scores, and the probability at each that a detection is right;
        linear in between.
    """

    score: tuple[float, ...]
    probability_at: tuple[float, ...]

    @property
    def needs_covariates(self) -> bool:
        """See `Calibration`."""
        return False

    def probability(
        self, scores: npt.NDArray[np.floating], measured: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """See `Calibration`."""
        return np.interp(scores, self.score, self.probability_at)


@dataclass(frozen=True)
class CovariateCalibration:
    """A logistic function of the score and of what any sky has.

    Parameters
    ----------
    intercept : `float`
        Log-odds where all covariates are 0.
    coefficients : `tuple` [`float`, ...]
        Log-odds per unit of each of `COVARIATES`.
    """

    intercept: float
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(COVARIATES):
            raise ValueError(f"{len(self.coefficients)} coefficients; expected {len(COVARIATES)}")

    @property
    def needs_covariates(self) -> bool:
        """See `Calibration`."""
        return True

    def probability(
        self, scores: npt.NDArray[np.floating], measured: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64]:
        """See `Calibration`."""
        if measured is None:
            raise ValueError("this calibration needs covariates")
        return np.asarray(expit(self.intercept + measured @ np.array(self.coefficients)), np.float64)
