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

"""What a detector made of a population."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table, vstack

from ..truth.evaluation import EvaluationOptions
from ..truth.metrics import RankingCurve, median, ratio, scene_interval
from ..truth.pooling import classified_curve, target_rows
from ..truth.summary import summarise
from .outcome import Outcome

__all__ = ["Entry", "make_entry"]

# A source whose surroundings fit better by this much is within the reach of
# whoever looks at the data.
_SEEN_CHI2 = 25.0

# Purities at which recovery is quoted, beside the one asked for.
_PURITIES = (0.95, 0.9, 0.8)


def _purities(options: EvaluationOptions) -> tuple[float, ...]:
    return tuple(sorted({*_PURITIES, options.target_purity}, reverse=True))


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the results: a detector on a population.

    Parameters
    ----------
    population, detector : `str`
        Names.
    iterations : `tuple` [`dict`, ...]
        What `summarise` gives, after each re-deblend.
    curve : `RankingCurve`
        Of all candidates of the first iteration, whatever the threshold.
    candidates : `astropy.table.Table`
        These candidates, classified, with the number of their ``scene``.
    truth : `astropy.table.Table`
        True sources after the first iteration; see `Evaluation`. Also
        ``chi2_gain`` and ``scene``.
    target : `numpy.ndarray`, (n,), bool
        Which of them were to be found.
    intervals : `~collections.abc.Mapping` [`str`, `tuple` [`float`, `float`]]
        68 % intervals of ``average_precision`` and, by the purity (``0.9``),
        of the recovery there; see `scene_interval`.
    options : `EvaluationOptions`
        What counted.
    """

    population: str
    detector: str
    iterations: tuple[dict[str, Any], ...]
    curve: RankingCurve
    candidates: Table
    truth: Table
    target: npt.NDArray[np.bool_]
    intervals: Mapping[str, tuple[float, float]]
    options: EvaluationOptions

    @property
    def purities(self) -> tuple[float, ...]:
        """At which recovery is quoted, highest first."""
        return _purities(self.options)

    @property
    def figures(self) -> dict[str, Any]:
        """Figures of the ranking and of each iteration."""
        recovery = {}
        for purity in self.purities:
            value, threshold = self.curve.at_purity(purity)
            interval = self.intervals[f"{purity:g}"]
            recovery[f"{purity:g}"] = {"value": value, "interval": interval, "threshold": threshold}
        gain = np.asarray(self.truth["chi2_gain"])[self.target]
        return {
            "population": self.population,
            "detector": self.detector,
            "average_precision": self.curve.average_precision,
            "average_precision_interval": self.intervals["average_precision"],
            "recovery_at_purity": recovery,
            "median_chi2_gain": median(gain),
            "targets_with_chi2_gain_over_25": ratio((gain > _SEEN_CHI2).sum(), len(gain)),
            "iterations": list(self.iterations),
        }


def _pool(tables: Sequence[Table]) -> Table:
    """Tables of scenes, end to end, with the number of the scene."""
    pooled = vstack(tables, metadata_conflicts="silent")
    pooled["scene"] = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    return pooled


def _intervals(
    candidates: Table,
    target: npt.NDArray[np.bool_],
    scene: npt.NDArray[np.int64],
    n_scenes: int,
    purities: Sequence[float],
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """How sure the figures of the ranking are, had other scenes been drawn."""
    n_targets = np.bincount(scene[target], minlength=n_scenes)

    def curve(drawn: npt.NDArray[np.float64]) -> RankingCurve:
        return classified_curve(candidates, float(drawn @ n_targets), drawn[candidates["scene"]])

    def recovery(purity: float) -> tuple[float, float]:
        return scene_interval(lambda drawn: curve(drawn).at_purity(purity)[0], n_scenes, rng)

    return {
        "average_precision": scene_interval(lambda drawn: curve(drawn).average_precision, n_scenes, rng),
        **{f"{purity:g}": recovery(purity) for purity in purities},
    }


def make_entry(name: str, detector: str, outcomes: Sequence[Outcome], rng: np.random.Generator) -> Entry:
    """Pool what a detector made of the scenes of a sky.

    Parameters
    ----------
    name, detector : `str`
        Names of the sky and of the detector.
    outcomes : `~collections.abc.Sequence` [`Outcome`]
        One of each scene, at least one.
    rng : `numpy.random.Generator`
        For the bootstrap.

    Returns
    -------
    entry : `Entry`
        Their figures.
    """
    firsts = [outcome.iterations[0] for outcome in outcomes]
    candidates = _pool([outcome.candidates for outcome in outcomes])
    truth = _pool([evaluation.truth for evaluation in firsts])
    target = target_rows(firsts)
    options = firsts[0].options
    return Entry(
        population=name,
        detector=detector,
        iterations=tuple(
            summarise(evaluations) for evaluations in zip(*(o.iterations for o in outcomes), strict=True)
        ),
        curve=classified_curve(candidates, int(target.sum())),
        candidates=candidates,
        truth=truth,
        target=target,
        intervals=_intervals(
            candidates, target, np.asarray(truth["scene"]), len(outcomes), _purities(options), rng
        ),
        options=options,
    )
