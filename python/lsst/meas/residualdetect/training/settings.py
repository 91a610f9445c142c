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

"""From what a network finds in cases to the settings that it ships with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors.mask_rcnn import DEFAULT_MIN_SCORE
from ..network.calibration import CovariateCalibration
from ..network.sky import SKY_FACTS
from ..truth.metrics import RankingCurve, ranking_curve, ratio, reliability
from .cases import SIMULATED
from .fit_calibration import cross_validated, fit_calibration, population_weights
from .judged import Judged

__all__ = ["Settings", "choose_settings"]

# Of what reaches the floor of the output so much survives the first stage's cut.
_KEPT = 0.995

# A sky may be so much beyond those of the calibration before that is said.
_SLACK = 0.05


@dataclass(frozen=True)
class Settings:
    """How a network is used.

    Parameters
    ----------
    calibration : `CovariateCalibration`
        From scores to probabilities.
    score_threshold : `float`
        Probability from which a candidate becomes a peak.
    min_objectness, min_score : `float`
        What the first stage, and the network as a whole, may leave out.
    calibrated_on : `~collections.abc.Mapping` [`str`, `tuple` [`float`, `float`]]
        Least and greatest of `SKY_FACTS` among the cases, and 5 % beyond.
    results : `dict`
        Cross-validated figures of each population, for people to read.
    """

    calibration: CovariateCalibration
    score_threshold: float
    min_objectness: float
    min_score: float
    calibrated_on: Mapping[str, tuple[float, float]]
    results: dict[str, Any]


def _threshold(curves: Mapping[str, RankingCurve], purity: Mapping[str, float]) -> float:
    """Lowest threshold that gives every population the purity wanted of it."""
    thresholds = {name: curve.at_purity(purity[name])[1] for name, curve in curves.items()}
    for name, threshold in thresholds.items():
        if not np.isfinite(threshold):
            raise ValueError(f"no threshold gives a purity of {purity[name]:g} on {name} cases")
    return max(thresholds.values())


def _figures(
    judged: Judged, name: str, probability: npt.NDArray[np.float64], curve: RankingCurve, threshold: float
) -> dict[str, Any]:
    """Of one population: the ranking, what the threshold gives, and the share
    that is right among candidates of like probability.
    """
    own = judged.population[judged.case] == name
    sure = own & (probability >= threshold)
    mean, n, n_right = reliability(probability[own], judged.found.right[own], 5)
    return {
        "cases": int((judged.population == name).sum()),
        "targets": int(judged.n_targets[judged.population == name].sum()),
        "average_precision": round(curve.average_precision, 3),
        "recovery_at_purity": {
            f"{purity:g}": round(curve.at_purity(purity)[0], 3) for purity in (0.95, 0.9, 0.8)
        },
        "at_threshold": {
            "recovery": round(
                ratio(judged.found.target[sure].sum(), judged.n_targets[judged.population == name].sum()), 3
            ),
            "purity": round(ratio(judged.found.right[sure].sum(), sure.sum()), 3),
        },
        "reliability": [
            [round(float(p), 3), round(k / m, 3), int(m)] for p, m, k in zip(mean, n, n_right, strict=True)
        ],
    }


def _ranges(judged: Judged) -> dict[str, tuple[float, float]]:
    ranges = {}
    for name in SKY_FACTS:
        values = np.array([facts[name] for facts in judged.facts])
        values = values[np.isfinite(values)]
        if len(values):
            low, high = values.min() * (1 - _SLACK), values.max() * (1 + _SLACK)
            ranges[name] = (float(f"{low:.4g}"), float(f"{high:.4g}"))
    return ranges


def choose_settings(judged: Judged, *, simulated_purity: float, real_purity: float) -> Settings:
    """Fit the calibration, and choose the thresholds.

    Populations weigh alike. The threshold is the lowest that, by fits to
    other scenes and blends, gives each population the purity asked for.

    Parameters
    ----------
    judged : `Judged`
        What the network finds.
    simulated_purity, real_purity : `float`
        Purity wanted of simulated skies, and of real ones.

    Returns
    -------
    settings : `Settings`
        What to use.

    Raises
    ------
    ValueError
        Raised if a population never is so pure, or there are too few
        candidates.
    """
    found, population = judged.found, judged.population[judged.case]
    calibration = fit_calibration(found.measured, found.right, population_weights(population))
    probability = cross_validated(
        found.score,
        found.measured,
        found.right,
        population,
        judged.group[judged.case],
        np.random.default_rng(0),  # deals the scenes out; any will do
    )
    names = [name for name in dict.fromkeys(judged.population.tolist()) if (population == name).any()]
    curves = {
        name: ranking_curve(
            probability[population == name],
            found.right[population == name],
            found.target[population == name],
            int(judged.n_targets[judged.population == name].sum()),
        )
        for name in names
    }
    purity = {name: simulated_purity if name in SIMULATED else real_purity for name in names}
    threshold = round(_threshold(curves, purity), 3)
    listed = calibration.probability(found.score, found.measured) >= DEFAULT_MIN_SCORE
    if not listed.any():
        raise ValueError(f"no candidate has a probability of {DEFAULT_MIN_SCORE:g}")
    return Settings(
        calibration,
        threshold,
        round(float(np.quantile(found.objectness[listed], 1 - _KEPT)), 3),
        round(float(np.quantile(found.score[listed], 1 - _KEPT)), 4),
        _ranges(judged),
        {name: _figures(judged, name, probability, curves[name], threshold) for name in names},
    )
