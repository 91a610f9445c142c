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

"""Run detectors side by side on many scenes of several populations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.table import Table, vstack

from ..deblend import check_engine
from ..detectors import NETWORK_DETECTORS, Detector, load_detector
from ..threads import worker_processes
from .comparison_options import ComparisonOptions, claim_folder
from .entry import Entry, make_entry
from .experiment import run_scene
from .outcome import read_outcome, write_outcome
from .populations import population

__all__ = ["ORACLE", "compare", "judge_package"]

ORACLE = "oracle"

_worker_detectors: dict[str, Detector | None] = {}


def _start_worker(detectors: Sequence[str], model: str) -> None:
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
    claim_folder(folder, options)
    todo: dict[tuple[str, int], list[str]] = {}
    for name in options.populations:
        for detector in options.detectors:
            (folder / name / detector).mkdir(parents=True, exist_ok=True)
        for number in range(options.n_scenes):
            missing = [d for d in options.detectors if not _outcome_path(folder, name, d, number).exists()]
            if missing:
                todo[name, number] = missing
    progress(options.n_scenes * len(options.populations) - len(todo))
    with worker_processes(jobs, _start_worker, (options.detectors, options.model)) as executor:
        futures = [
            executor.submit(_run_job, folder, options, name, number, missing)
            for (name, number), missing in todo.items()
        ]
        for future in as_completed(futures):
            future.result()
            progress(1)
    return [
        make_entry(
            name,
            detector,
            [read_outcome(_outcome_path(folder, name, detector, k)) for k in range(options.n_scenes)],
        )
        for name in options.populations
        for detector in options.detectors
    ]


def judge_package(
    folder: Path, populations: Sequence[str], n_scenes: int, seed: int, *, jobs: int
) -> tuple[Table, int]:
    """What a model package's network finds on simulated scenes.

    Parameters
    ----------
    folder : `pathlib.Path`
        The package.
    populations : `~collections.abc.Sequence` [`str`]
        Names of `POPULATIONS`.
    n_scenes : `int`
        Scenes of each.
    seed : `int`
        Their random seed.
    jobs : `int`
        Number of processes.

    Returns
    -------
    candidates : `astropy.table.Table`
        All candidates, classified; see `rank_candidates`.
    n_targets : `int`
        How many sources were to be found.
    """
    options = ComparisonOptions(
        populations=tuple(populations), detectors=("onnx",), model=str(folder), n_scenes=n_scenes, seed=seed
    )
    with TemporaryDirectory() as scratch:
        entries = compare(Path(scratch), options, jobs=jobs)
    tables = [entry.candidates for entry in entries]
    return vstack(tables, metadata_conflicts="silent"), sum(int(entry.target.sum()) for entry in entries)
