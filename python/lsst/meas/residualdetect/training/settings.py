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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors.mask_rcnn import DEFAULT_MIN_SCORE
from ..network.calibration import CovariateCalibration
from ..network.sky import SKY_FACTS
from ..truth.metrics import RankingCurve, ranking_curve, ratio, reliability
from .cases import POPULATIONS, SIMULATED
from .fit_calibration import cross_validated, fit_calibration, population_weights
from .judged import Judged

__all__ = ["Settings", "choose_settings"]

# Of what reaches the floor of the output so much survives the first stage's cut.
_KEPT = 0.995

# A sky may be so much beyond those of the calibration before that is said.
_SLACK = 0.05

# Thresholds for which figures are given, beside the one that is chosen.
_THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)

Floats = npt.NDArray[np.float64]


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


def _curve(judged: Judged, names: Sequence[str], probability: Floats) -> RankingCurve:
    """Ranking of the candidates of some populations, which weigh alike."""
    found, population = judged.found, judged.population[judged.case]
    own = np.isin(population, names)
    weight = population_weights(population[own])
    # Targets weigh as the candidates of their population do.
    per_name = {name: float(weight[population[own] == name][0]) for name in np.unique(population[own])}
    n_targets = sum(judged.n_targets[judged.population == name].sum() * per for name, per in per_name.items())
    return ranking_curve(probability[own], found.right[own], found.target[own], n_targets, weight)


def _figures(judged: Judged, name: str, probability: Floats, threshold: float) -> dict[str, Any]:
    """Of one population: the ranking, what several thresholds give, and the
    share that is right among candidates of like probability.
    """
    own = judged.population[judged.case] == name
    cases = judged.population == name
    n_targets = int(judged.n_targets[cases].sum())
    curve = _curve(judged, [name], probability)
    found = judged.found

    def at(limit: float) -> dict[str, float]:
        sure = own & (probability >= limit)
        return {
            "recovery": round(ratio(found.target[sure].sum(), n_targets), 3),
            "purity": round(ratio(found.right[sure].sum(), sure.sum()), 3),
        }

    mean, n, n_right = reliability(probability[own], found.right[own], 5)
    return {
        "cases": int(cases.sum()),
        "targets": n_targets,
        "average_precision": round(curve.average_precision, 3),
        "recovery_at_purity": {
            f"{purity:g}": round(curve.at_purity(purity)[0], 3) for purity in (0.95, 0.9, 0.8)
        },
        "at_threshold": {f"{limit:g}": at(limit) for limit in sorted({*_THRESHOLDS, threshold})},
        "reliability": [
            [round(float(p), 3), round(float(k / m), 3), int(m)]
            for p, m, k in zip(mean, n, n_right, strict=True)
        ],
    }


def _threshold(judged: Judged, probability: Floats, wanted: Mapping[str, float]) -> float:
    """Lowest threshold that gives simulated and real skies the purity wanted
    of them.
    """
    thresholds = []
    for kind, purity in wanted.items():
        names = [name for name in POPULATIONS if (name in SIMULATED) == (kind == "simulated")]
        if not np.isin(judged.population[judged.case], names).any():
            continue
        threshold = _curve(judged, names, probability).at_purity(purity)[1]
        if not np.isfinite(threshold):
            raise ValueError(
                f"no threshold gives a purity of {purity:g} on {kind} cases;"
                " ask for less, or name a threshold"
            )
        thresholds.append(threshold)
    return round(max(thresholds), 3)


def _ranges(judged: Judged) -> dict[str, tuple[float, float]]:
    ranges = {}
    for name in SKY_FACTS:
        values = np.array([facts[name] for facts in judged.facts])
        values = values[np.isfinite(values)]
        if len(values):
            low, high = values.min() * (1 - _SLACK), values.max() * (1 + _SLACK)
            ranges[name] = (float(f"{low:.4g}"), float(f"{high:.4g}"))
    return ranges


def choose_settings(
    judged: Judged, *, simulated_purity: float, real_purity: float, threshold: float | None = None
) -> Settings:
    """Fit the calibration, and choose the thresholds.

    Populations weigh alike. The threshold is the lowest that, by fits to
    other scenes and blends, gives simulated and real skies the purity asked
    for.

    Parameters
    ----------
    judged : `Judged`
        What the network finds.
    simulated_purity, real_purity : `float`
        Purity wanted of simulated skies, and of real ones.
    threshold : `float`, optional
        Threshold to take whatever its purity.

    Returns
    -------
    settings : `Settings`
        What to use.

    Raises
    ------
    ValueError
        Raised if one of the two never is so pure, or there are too few
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
    if threshold is None:
        threshold = _threshold(judged, probability, {"simulated": simulated_purity, "real": real_purity})
    listed = calibration.probability(found.score, found.measured) >= DEFAULT_MIN_SCORE
    if not listed.any():
        raise ValueError(f"no candidate has a probability of {DEFAULT_MIN_SCORE:g}")
    return Settings(
        calibration,
        threshold,
        round(float(np.quantile(found.objectness[listed], 1 - _KEPT)), 3),
        round(float(np.quantile(found.score[listed], 1 - _KEPT)), 4),
        _ranges(judged),
        {
            name: _figures(judged, name, probability, threshold)
            for name in POPULATIONS
            if (population == name).any()
        },
    )
