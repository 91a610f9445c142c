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

"""What a detector made of a scene, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from ..io.whole_file import whole_file
from ..truth.evaluation import Evaluation, EvaluationOptions

__all__ = ["Outcome", "read_outcome", "write_outcome"]

_TABLES = ("truth", "peaks", "parents")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a detector made of a scene.

    Parameters
    ----------
    iterations : `tuple` [`Evaluation`, ...]
        After one re-deblend, after two, ... with the detector's default
        threshold; all against the first catalogue.
    candidates : `astropy.table.Table`
        Every candidate of the first iteration, also those below the
        threshold; see `rank_candidates`.
    """

    iterations: tuple[Evaluation, ...]
    candidates: Table


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write an outcome to a file that appears whole or not at all.

    Parameters
    ----------
    path : `pathlib.Path`
        Where to write.
    outcome : `Outcome`
        What to write.
    """
    arrays = {"candidates": outcome.candidates.as_array()}
    for number, evaluation in enumerate(outcome.iterations):
        for name in _TABLES:
            arrays[f"{name}_{number}"] = getattr(evaluation, name).as_array()
        arrays[f"n_peaks_{number}"] = np.array(evaluation.n_peaks)
    last = outcome.iterations[-1]
    arrays["name"], arrays["bands"] = np.array(last.name), np.array(last.bands)
    arrays["options"] = np.array(json.dumps(asdict(last.options)))
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def read_outcome(path: Path) -> Outcome:
    """Read what `write_outcome` wrote.

    Parameters
    ----------
    path : `pathlib.Path`
        The file.

    Returns
    -------
    outcome : `Outcome`
        What was written.
    """
    with np.load(path, allow_pickle=False) as stored:
        limits: dict[str, Any] = json.loads(str(stored["options"]))
        for key, value in limits.items():
            limits[key] = tuple(value) if isinstance(value, list) else value
        options = EvaluationOptions(**limits)
        n_iterations = sum(name.startswith("truth_") for name in stored.files)
        evaluations = tuple(
            Evaluation(
                name=str(stored["name"]),
                bands=tuple(stored["bands"].tolist()),
                n_peaks=int(stored[f"n_peaks_{number}"]),
                options=options,
                **{name: Table(stored[f"{name}_{number}"]) for name in _TABLES},
            )
            for number in range(n_iterations)
        )
        return Outcome(evaluations, Table(stored["candidates"]))
