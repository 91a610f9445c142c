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

"""From a network's scores to probabilities: the fit of a `CovariateCalibration`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from ..network.calibration import CovariateCalibration
from ..network.covariates import COVARIATES, MAX_LOG_ODDS

__all__ = [
    "cross_validated",
    "fit_calibration",
    "population_weights",
]

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

_LEAST_CASES = 30

# Log-odds of the probability rise by at least this much with those of the score.
_LEAST_SLOPE = 0.02

# As much as so many detections say about a coefficient, its prior says that it
# is 0, with a standard deviation of 1, for a covariate of standard deviation 1.
_PRIOR = 1.0

_N_FOLDS = 10


def population_weights(population: Names) -> Floats:
    """Weights (n,) of mean 1 that give each population the same total."""
    _, index, counts = np.unique(population, return_inverse=True, return_counts=True)
    return len(population) / (len(counts) * counts[index])


def fit_calibration(measured: Floats, right: Booleans, weight: Floats) -> CovariateCalibration:
    """Fit the probability that a detection is right.

    A logistic regression with a prior on the coefficients, under the
    condition that the probability rises with the score: of two detections
    with like covariates the one of higher score stays the surer.

    Parameters
    ----------
    measured : `numpy.ndarray`, (n, k)
        See `covariates`.
    right : `numpy.ndarray`, (n,), bool
        Which detections are right.
    weight : `numpy.ndarray`, (n,)
        How much each counts.

    Returns
    -------
    calibration : `CovariateCalibration`
        The fit.

    Raises
    ------
    ValueError
        Raised if there are fewer than 30 right or 30 wrong detections.
    """
    n_right = int(right.sum())
    if min(n_right, len(right) - n_right) < _LEAST_CASES:
        raise ValueError(
            f"{n_right} right and {len(right) - n_right} wrong detections are too few to calibrate with;"
            f" expected {_LEAST_CASES} of each"
        )
    score, square = (COVARIATES.index(name) for name in ("log_odds", "log_odds_squared"))
    others = [index for index in range(len(COVARIATES)) if index not in (score, square)]
    mean = np.average(measured, axis=0, weights=weight)
    scale = np.sqrt(np.average((measured - mean) ** 2, axis=0, weights=weight))
    scale[scale == 0] = 1
    mean[[score, square]], scale[[score, square]] = 0, 1

    # The slope in the log-odds of the score is linear in these, so that it is
    # positive everywhere if it is at both ends: those are the parameters.
    steepness = 2 * MAX_LOG_ODDS / 10
    units = (measured - mean) / scale
    columns = np.column_stack(
        [
            np.ones(len(units)),
            (units[:, score] - units[:, square] / steepness) / 2,
            (units[:, score] + units[:, square] / steepness) / 2,
            units[:, others],
        ]
    )
    sign = np.where(right, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        margin = sign * (columns @ parameters)
        slope = -weight * sign * expit(-margin)
        gradient = slope @ columns
        gradient[3:] += _PRIOR * parameters[3:]
        value = (weight * np.logaddexp(0, -margin)).sum() + 0.5 * _PRIOR * np.square(parameters[3:]).sum()
        return float(value), gradient

    start = np.concatenate([[0.0, 1.0, 1.0], np.zeros(len(others))])
    bounds = [(None, None), (_LEAST_SLOPE, None), (_LEAST_SLOPE, None), *[(None, None)] * len(others)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}).x
    low, high = found[1:3]
    coefficients = np.zeros(len(COVARIATES))
    coefficients[score], coefficients[square] = (low + high) / 2, (high - low) / (2 * steepness)
    coefficients[others] = found[3:] / scale[others]
    intercept = found[0] - coefficients[others] @ mean[others]
    return CovariateCalibration(float(intercept), tuple(coefficients.tolist()))


def cross_validated(
    scores: Floats,
    measured: Floats,
    right: Booleans,
    population: Names,
    group: Names,
    rng: np.random.Generator,
) -> Floats:
    """Probability of each detection by a fit to other scenes and blends.

    Parameters
    ----------
    scores : `numpy.ndarray`, (n,)
        Scores of the detections.
    measured, right
        As for `fit_calibration`.
    population, group : `numpy.ndarray`, (n,), str
        To which population each belongs, and of which scene or blend it is;
        what is of one group is never on both sides.
    rng : `numpy.random.Generator`
        Deals the groups out to ten folds.

    Returns
    -------
    probability : `numpy.ndarray`, (n,), float64
        The probabilities.
    """
    names, index = np.unique(group, return_inverse=True)
    fold = (rng.permutation(len(names)) % _N_FOLDS)[index]
    probability = np.zeros(len(scores))
    for number in np.unique(fold):
        own = fold == number
        fitted = fit_calibration(measured[~own], right[~own], population_weights(population[~own]))
        probability[own] = fitted.probability(scores[own], measured[own])
    return probability
