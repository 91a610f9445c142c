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

"""The fit of a calibration, and the settings that a network ships with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from lsst.meas.residualdetect.network.covariates import COVARIATES, MAX_LOG_ODDS
from lsst.meas.residualdetect.network.sky import SKY_FACTS
from lsst.meas.residualdetect.training.fit_calibration import (
    cross_validated,
    fit_calibration,
    population_weights,
)
from lsst.meas.residualdetect.training.judged import Found, Judged
from lsst.meas.residualdetect.training.settings import choose_settings

ODDS, DISTANCE = COVARIATES.index("log_odds"), COVARIATES.index("log_distance")


def draw(n, rng, slope=0.8, by_distance=1.5, shift=-1.0):
    """Detections whose log-odds are linear in those of the score and in the distance."""
    measured = rng.normal(0, 1, (n, len(COVARIATES)))
    odds = rng.normal(0, 3, n)
    measured[:, ODDS], measured[:, COVARIATES.index("log_odds_squared")] = odds, odds**2 / 10
    truth = expit(shift + slope * odds + by_distance * measured[:, DISTANCE])
    return measured, rng.uniform(0, 1, n) < truth, truth


def judged(n_cases=40, per_case=200, seed=3):
    rng = np.random.default_rng(seed)
    kinds = np.array(["smooth", "structured", "lessons", "degraded"])
    measured, right, _ = draw(n_cases * per_case, rng, shift=0.0)
    case = np.repeat(np.arange(n_cases), per_case)
    score = expit(measured[:, ODDS])
    found = Found(score, np.sqrt(score), measured, right, right, ~right)
    return Judged(
        found,
        case,
        kinds[np.arange(n_cases) % 4],
        np.arange(n_cases).astype(str),
        np.bincount(case, weights=right).astype(int),
        tuple(dict.fromkeys(SKY_FACTS, 1.0 + number) for number in range(n_cases)),
    )


def test_the_fit_finds_the_probability_behind_score_and_covariates():
    measured, right, truth = draw(40000, np.random.default_rng(1))
    fitted = fit_calibration(measured, right, np.ones(len(right)))
    assert np.abs(fitted.probability(truth, measured) - truth).mean() < 0.01
    assert fitted.coefficients[ODDS] == pytest.approx(0.8, abs=0.05)
    assert fitted.coefficients[DISTANCE] == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize("slope", [-1.0, 0.0])
def test_a_probability_rises_with_the_score_whatever_the_data(slope):
    measured, right, _ = draw(3000, np.random.default_rng(2), slope=slope)
    fitted = fit_calibration(measured, right, np.ones(len(right)))
    rows = np.zeros((200, len(COVARIATES)))
    rows[:, ODDS] = np.linspace(-MAX_LOG_ODDS, MAX_LOG_ODDS, 200)
    rows[:, COVARIATES.index("log_odds_squared")] = rows[:, ODDS] ** 2 / 10
    assert (np.diff(fitted.probability(expit(rows[:, ODDS]), rows)) > 0).all()


def test_a_covariate_that_never_changes_costs_nothing():
    measured, right, truth = draw(20000, np.random.default_rng(1))
    measured[:, COVARIATES.index("log_noise")] = 0
    fitted = fit_calibration(measured, right, np.ones(len(right)))
    assert np.abs(fitted.probability(truth, measured) - truth).mean() < 0.015


def test_populations_weigh_alike():
    weight = population_weights(np.array(["a"] * 30 + ["b"] * 10))
    assert weight[:30].sum() == pytest.approx(20) and weight[30:].sum() == pytest.approx(20)


def test_no_scene_helps_to_judge_itself():
    # The label is that of the scene, which a covariate gives away: only a fit to the
    # scene itself could know it.
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(40), 50)
    measured = rng.normal(0, 1, (2000, len(COVARIATES)))
    own = rng.uniform(0, 1, 40) < 0.5
    right = own[group]
    everyone = np.full(2000, "smooth")
    measured[:, DISTANCE] = rng.permutation(40)[group]
    probability = cross_validated(np.zeros(2000), measured, right, everyone, group.astype(str), rng)
    assert abs(np.corrcoef(probability, right)[0, 1]) < 0.5


def test_few_detections_are_refused():
    measured, right, _ = draw(40, np.random.default_rng(1))
    with pytest.raises(ValueError, match="too few to calibrate with"):
        fit_calibration(measured, right, np.ones(40))


def test_the_threshold_gives_every_population_the_purity_wanted():
    cases = judged()
    settings = choose_settings(cases, simulated_purity=0.95, real_purity=0.9)
    assert settings.results.keys() == {"smooth", "structured", "lessons", "degraded"}
    for name, figures in settings.results.items():
        recovery, purity = figures["at_threshold"][f"{settings.score_threshold:g}"].values()
        wanted = 0.95 if name in ("smooth", "structured") else 0.9
        assert purity >= wanted - 0.02 and 0.3 < recovery < 1
        for mean, share, n in figures["reliability"]:
            assert share == pytest.approx(mean, abs=0.03 + 1.5 / np.sqrt(n))
    assert settings.calibrated_on["host_snr"] == pytest.approx((0.95, 42.0))
    lower = choose_settings(cases, simulated_purity=0.8, real_purity=0.8)
    assert lower.score_threshold < settings.score_threshold
    given = choose_settings(cases, simulated_purity=0.95, real_purity=0.9, threshold=0.42)
    assert given.score_threshold == 0.42


def test_the_cuts_keep_what_reaches_the_floor():
    cases = judged()
    settings = choose_settings(cases, simulated_purity=0.9, real_purity=0.9)
    found = cases.found
    listed = settings.calibration.probability(found.score, found.measured) >= 0.02
    for values, cut in ((found.objectness, settings.min_objectness), (found.score, settings.min_score)):
        assert (values[listed] >= cut).mean() == pytest.approx(0.995, abs=0.002)


def test_a_purity_that_is_never_reached_is_said_with_the_population():
    cases = judged()
    # The most certain of the simulated ones are wrong.
    sure = (cases.found.score > 0.9) & np.isin(cases.population[cases.case], ["smooth", "structured"])
    cases.found.right[sure] = False
    with pytest.raises(ValueError, match="purity of 0.99 on simulated cases"):
        choose_settings(cases, simulated_purity=0.99, real_purity=0.5)
