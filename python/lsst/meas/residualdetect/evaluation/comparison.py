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

"""Detectors side by side on many scenes of several populations."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack

from ..deblend import check_engine
from ..detectors import NETWORK_DETECTORS, Detector, load_detector
from ..whole_file import whole_file
from .experiment import Outcome, read_outcome, run_scene, write_outcome
from .metrics import RankingCurve, median
from .pooling import classified_curve, target_rows
from .populations import population
from .results import EvaluationOptions
from .summary import summarise

__all__ = ["ORACLE", "ComparisonOptions", "Entry", "compare"]

ORACLE = "oracle"

_OPTIONS_FILE = "options.json"

# A source whose surroundings fit better by this much is within the reach of
# whoever looks at the data.
_SEEN_CHI2 = 25.0

_worker_detectors: dict[str, Detector | None] = {}


@dataclass(frozen=True)
class ComparisonOptions:
    """What to compare on what.

    Parameters
    ----------
    populations : `tuple` [`str`, ...]
        Names of `POPULATIONS`.
    detectors : `tuple` [`str`, ...]
        Names of detectors, or ``oracle``.
    model : `str`
        Model package of those detectors that need one.
    n_scenes : `int`
        Scenes of each population.
    seed : `int`
        Scene k of a population depends on this and k only.
    size : `int`
        Side of a scene in pixels.
    n_iterations : `int`
        How often to look and deblend again.
    engine : `str`
        Deblender.
    """

    populations: tuple[str, ...]
    detectors: tuple[str, ...]
    model: str
    n_scenes: int = 50
    seed: int = 9000
    size: int = 300
    n_iterations: int = 1
    engine: str = "factorized"


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
    """

    population: str
    detector: str
    iterations: tuple[dict[str, Any], ...]
    curve: RankingCurve
    candidates: Table
    truth: Table
    target: np.ndarray

    @property
    def figures(self) -> dict[str, Any]:
        """Figures of the ranking and of each iteration."""
        purity = EvaluationOptions().target_purity
        recovery, threshold = self.curve.at_purity(purity)
        gain = np.asarray(self.truth["chi2_gain"])[self.target]
        return {
            "population": self.population,
            "detector": self.detector,
            "average_precision": self.curve.average_precision,
            "recovery_at_purity": {"purity": purity, "recovery": recovery, "threshold": threshold},
            "median_chi2_gain": median(gain),
            "targets_with_chi2_gain_over_25": float((gain > _SEEN_CHI2).mean())
            if len(gain)
            else float("nan"),
            "iterations": list(self.iterations),
        }


def _start_worker(detectors: Sequence[str], model: str) -> None:
    import torch

    torch.set_num_threads(1)
    for name in detectors:
        if name == ORACLE:
            _worker_detectors[name] = None
        else:
            _worker_detectors[name] = load_detector(name, model if name in NETWORK_DETECTORS else "")


def _outcome_path(folder: Path, name: str, detector: str, number: int) -> Path:
    return folder / name / detector / f"{number:05d}.npz"


def _run_job(
    folder: Path, options: ComparisonOptions, name: str, number: int, missing: Sequence[str]
) -> None:
    # Scenes of one number show the same sky in every population of the same
    # density, so that bands can be compared.
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(number,)))
    outcomes = run_scene(
        population(name, options.size),
        rng,
        f"{name}-{options.seed}-{number:05d}",
        {detector: _worker_detectors[detector] for detector in missing},
        engine=options.engine,
        n_iterations=options.n_iterations,
    )
    for detector, outcome in outcomes.items():
        write_outcome(_outcome_path(folder, name, detector, number), outcome)


def _claim(folder: Path, options: ComparisonOptions) -> None:
    """Refuse a folder whose results were made in another way."""
    kept = {"populations", "detectors", "n_scenes"}
    fixed = {key: value for key, value in asdict(options).items() if key not in kept}
    path = folder / _OPTIONS_FILE
    if path.exists():
        found = json.loads(path.read_text())
        different = sorted(key for key in fixed if found.get(key) != fixed[key])
        if different:
            raise ValueError(
                f"{folder} holds results with "
                + ", ".join(f"{key} {found.get(key)!r} (now {fixed[key]!r})" for key in different)
                + "; choose another folder"
            )
    else:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(fixed, indent=2) + "\n")


def _pool(tables: Sequence[Table]) -> Table:
    """Tables of scenes, end to end, with the number of the scene."""
    for number, table in enumerate(tables):
        table["scene"] = np.full(len(table), number)
    return vstack(tables, metadata_conflicts="silent")


def _entry(name: str, detector: str, outcomes: Sequence[Outcome]) -> Entry:
    firsts = [outcome.iterations[0] for outcome in outcomes]
    candidates = _pool([outcome.candidates for outcome in outcomes])
    target = target_rows(firsts)
    return Entry(
        population=name,
        detector=detector,
        iterations=tuple(
            summarise(evaluations) for evaluations in zip(*(o.iterations for o in outcomes), strict=True)
        ),
        curve=classified_curve(candidates, int(target.sum())),
        candidates=candidates,
        truth=_pool([evaluation.truth for evaluation in firsts]),
        target=target,
    )


def compare(
    folder: Path,
    options: ComparisonOptions,
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Entry]:
    """Run detectors on fresh scenes and pool what they found.

    Scenes that are in the folder already are not run again, so a run that
    was cut off goes on where it was, and more scenes, populations or
    detectors can be added later.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the outcome of each scene is kept.
    options : `ComparisonOptions`
        What to compare.
    jobs : `int`
        Number of processes.
    progress : `~collections.abc.Callable`, optional
        Called with the number of scenes just finished, or found finished.

    Returns
    -------
    entries : `list` [`Entry`]
        Population by population, detector by detector.

    Raises
    ------
    ValueError
        Raised if a population, detector or deblender is unknown, or the
        folder holds results of other options.
    """
    check_engine(options.engine)
    for name in options.populations:
        population(name, options.size)
    for detector in options.detectors:
        if detector != ORACLE:
            load_detector(detector, options.model if detector in NETWORK_DETECTORS else "")
    _claim(folder, options)
    todo: dict[tuple[str, int], list[str]] = {}
    for name in options.populations:
        for detector in options.detectors:
            (folder / name / detector).mkdir(parents=True, exist_ok=True)
        for number in range(options.n_scenes):
            missing = [d for d in options.detectors if not _outcome_path(folder, name, d, number).exists()]
            if missing:
                todo[name, number] = missing
    progress(options.n_scenes * len(options.populations) - len(todo))
    executor = ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(options.detectors, options.model),
    )
    try:
        futures = [
            executor.submit(_run_job, folder, options, name, number, missing)
            for (name, number), missing in todo.items()
        ]
        for future in as_completed(futures):
            future.result()
            progress(1)
    finally:
        executor.shutdown(cancel_futures=True)
    return [
        _entry(
            name,
            detector,
            [read_outcome(_outcome_path(folder, name, detector, k)) for k in range(options.n_scenes)],
        )
        for name in options.populations
        for detector in options.detectors
    ]
