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


"""Figures of merit from classified sources and peaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from astropy.stats import binom_conf_interval

__all__ = [
    "Bin",
    "RankingCurve",
    "are_probabilities",
    "bin_label",
    "binned_recovery",
    "median",
    "ranking_curve",
    "ratio",
    "reliability",
    "scene_interval",
    "shares",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

# Of a bootstrap.
_N_SAMPLES = 400


def ratio(numerator: float, denominator: float) -> float:
    """Quotient, NaN where there is nothing to divide by."""
    return float(numerator / denominator) if denominator else float("nan")


def median(values: Floats) -> float:
    """Median of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


@dataclass(frozen=True, eq=False)
class RankingCurve:
    """Purity and recovery as the score threshold is lowered.

    Parameters
    ----------
    threshold : `numpy.ndarray`, (n,), float64
        Different scores, highest first.
    purity : `numpy.ndarray`, (n,), float64
        Of the peaks with at least that score.
    recovery : `numpy.ndarray`, (n,), float64
        Targets found by them, over all targets; NaN without targets.
    """

    threshold: Floats
    purity: Floats
    recovery: Floats

    @property
    def average_precision(self) -> float:
        """Mean purity at each recovered target, over all targets: the area
        under the curve, not interpolated. NaN without targets.
        """
        if not len(self.recovery):
            return 0.0
        return float((np.diff(self.recovery, prepend=0.0) * self.purity).sum())

    def at_purity(self, purity: float) -> tuple[float, float]:
        """Highest recovery at no less than a purity, and the threshold that
        gives it; 0 and NaN if no threshold does.
        """
        allowed = np.flatnonzero(self.purity >= purity)
        if not len(allowed):
            return 0.0, float("nan")
        return float(self.recovery[allowed[-1]]), float(self.threshold[allowed[-1]])


def ranking_curve(
    score: Floats, right: Booleans, target: Booleans, n_targets: float, weight: Floats | None = None
) -> RankingCurve:
    """Rank peaks by their score.

    Parameters
    ----------
    score : `numpy.ndarray`, (n,)
        Scores of the peaks that count; NaN ranks last. Peaks of equal score
        enter together.
    right : `numpy.ndarray`, (n,), bool
        Peaks on a true source.
    target : `numpy.ndarray`, (n,), bool
        Those of them whose source is one that was to be recovered.
    n_targets : `float`
        Number of sources that were to be recovered.
    weight : `numpy.ndarray`, (n,), optional
        How often each peak counts, together with its source; once if absent.

    Returns
    -------
    curve : `RankingCurve`
        One point for each different score.
    """
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    times = np.ones(len(order)) if weight is None else weight[order]
    counted = np.cumsum(times)[last]
    last, counted = last[counted > 0], counted[counted > 0]
    purity = np.cumsum(right[order] * times)[last] / counted
    found = np.cumsum(target[order] * times)[last]
    recovery = found / n_targets if n_targets else np.full(len(last), np.nan)
    return RankingCurve(ranked[last], purity, recovery)


@dataclass(frozen=True)
class Bin:
    """Targets and recovered ones with ``low <= value < high``."""

    low: float
    high: float
    n: int
    n_recovered: int


def binned_recovery(values: Floats, recovered: Booleans, edges: Sequence[float]) -> list[Bin]:
    """Count targets and recovered ones in bins of a property.

    Parameters
    ----------
    values : `numpy.ndarray`, (n,)
        Property of each target; NaN falls in no bin.
    recovered : `numpy.ndarray`, (n,), bool
        Whether it was recovered.
    edges : `~collections.abc.Sequence` [`float`]
        Inner bin edges; the first and last bin are open.

    Returns
    -------
    bins : `list` [`Bin`]
        One more than there are edges.
    """
    bounds = [-np.inf, *edges, np.inf]
    bins = []
    for low, high in pairwise(bounds):
        inside = (values >= low) & (values < high)
        bins.append(Bin(low, high, int(inside.sum()), int((inside & recovered).sum())))
    return bins


def bin_label(low: float, high: float) -> str:
    """A bin's range in words for an axis; an infinite end is open."""
    if not np.isfinite(low):
        return f"< {high:g}"
    if not np.isfinite(high):
        return f"≥ {low:g}"
    return f"{low:g}-{high:g}"


def shares(k: Integers, n: Integers) -> tuple[Floats, Floats]:
    """Shares of counts, and how sure they are.

    Parameters
    ----------
    k, n : `numpy.ndarray`, (m,)
        Successes and tries; of the latter at least one each.

    Returns
    -------
    share : `numpy.ndarray`, (m,), float64
        k / n.
    error : `numpy.ndarray`, (2, m), float64
        How far Wilson's 68 % interval reaches below and above.
    """
    share = k / n
    low, high = binom_conf_interval(k, n, interval="wilson")
    # The interval need not hold the share at 0 and 1 to the last digit.
    return share, np.clip([share - low, high - share], 0, None)


def scene_interval(
    statistic: Callable[[Floats], float], n_scenes: int, rng: np.random.Generator
) -> tuple[float, float]:
    """How far a figure might be off, had other scenes of the kind been drawn.

    A bootstrap (Efron 1979, Ann. Statist. 7, 1): scenes are drawn anew from
    those there are, with repetition. Sources of one scene share its seeing,
    depth and galaxies, so scenes and not sources are drawn.

    Parameters
    ----------
    statistic : `~collections.abc.Callable`
        Told how often each scene is drawn, (n_scenes,), gives the figure.
    n_scenes : `int`
        Number of scenes.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    low, high : `float`
        The middle 68 % of the figures; NaN of fewer than two scenes.
    """
    if n_scenes < 2:
        return float("nan"), float("nan")
    counts = rng.multinomial(n_scenes, np.full(n_scenes, 1 / n_scenes), size=_N_SAMPLES)
    drawn = np.array([statistic(row.astype(np.float64)) for row in counts])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [0.16, 0.84])
    return float(low), float(high)


def are_probabilities(scores: Floats) -> bool:
    """Whether there are scores and all are from 0 to 1."""
    return bool(len(scores)) and bool(((scores >= 0) & (scores <= 1)).all())


def reliability(scores: Floats, right: Booleans, n_bins: int = 10) -> tuple[Floats, Integers, Integers]:
    """Hold scores that are meant to be probabilities against the outcome.

    Parameters
    ----------
    scores : `numpy.ndarray`, (n,)
        From 0 to 1.
    right : `numpy.ndarray`, (n,), bool
        The outcome.
    n_bins : `int`, optional
        Number of bins of equal width.

    Returns
    -------
    mean : `numpy.ndarray`, (m,), float64
        Mean score in each bin that is not empty.
    n, n_right : `numpy.ndarray`, (m,), int64
        How many there are, and how many of them are right.
    """
    place = np.clip((np.asarray(scores) * n_bins).astype(np.int64), 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    total = np.bincount(place, weights=scores, minlength=n_bins)
    n_right = np.bincount(place[np.asarray(right)], minlength=n_bins)
    full = n > 0
    return total[full] / n[full], n[full], n_right[full]
