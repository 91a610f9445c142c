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

"""Run detectors side by side on many scenes of several kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..threads import in_processes
from .comparison_options import ComparisonOptions, claim_folder
from .entry import Entry, make_entry
from .experiment import run_scene
from .outcome import read_outcome, write_outcome
from .peers import load_peers, load_peers_once
from .skies import Sky

__all__ = ["compare"]


def _outcome_path(folder: Path, name: str, detector: str, number: int) -> Path:
    return folder / name / detector / f"{number:05d}.npz"


def _run_job(folder: Path, options: ComparisonOptions, sky: Sky, number: int, missing: Sequence[str]) -> None:
    detectors = load_peers_once(options.detectors, options.models, options.detector_options)
    outcomes = run_scene(
        sky.scene(number),
        {detector: detectors.get(detector) for detector in missing},
        search=options.search,
        n_iterations=options.n_iterations,
        limits=options.limits,
    )
    for detector, outcome in outcomes.items():
        write_outcome(_outcome_path(folder, sky.name, detector, number), outcome)


def compare(
    folder: Path,
    options: ComparisonOptions,
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Entry]:
    """Run detectors on scenes with truth and pool what they found.

    Scenes that are in the folder already are not run again, so a run that
    was cut off goes on where it was, and more scenes, skies or detectors can be
    added later.

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
        Sky by sky, detector by detector.

    Raises
    ------
    ValueError
        Raised if a detector or deblender is unknown, a scene has no truth,
        or the folder holds results of other options.
    """
    load_peers(options.detectors, options.models, options.detector_options)  # complains before work is done
    claim_folder(folder, options)
    todo: list[tuple[Path, ComparisonOptions, Sky, int, list[str]]] = []
    for sky in options.skies:
        for detector in options.labels:
            (folder / sky.name / detector).mkdir(parents=True, exist_ok=True)
        for number in range(sky.n_scenes):
            paths = {name: _outcome_path(folder, sky.name, name, number) for name in options.labels}
            missing = [name for name, path in paths.items() if not path.exists()]
            if missing:
                todo.append((folder, options, sky, number, missing))
    progress(sum(sky.n_scenes for sky in options.skies) - len(todo))
    for _ in in_processes(_run_job, todo, jobs):
        progress(1)
    return [
        make_entry(
            sky.name,
            detector,
            [read_outcome(_outcome_path(folder, sky.name, detector, k)) for k in range(sky.n_scenes)],
            # For the bootstrap; any will do.
            np.random.default_rng(0),
        )
        for sky in options.skies
        for detector in options.labels
    ]
