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

"""One scene, from the sky to what each detector made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from ..candidates import DEFAULT_MIN_DISTANCE_PIX, Candidate, add_candidates
from ..deblend import deblend
from ..detection import detect
from ..detectors import Detector
from ..footprint import Detections
from ..redeblend import redeblend
from ..scene import Scene
from ..scene_model import SceneModel
from ..simulation import SimulationOptions
from ..simulation.simulate import Truth, simulate_scene
from ..whole_file import whole_file
from .evaluate import evaluate_patch
from .measures import psf_sigma_pix
from .oracle import Oracle, chi2_gain
from .results import Evaluation, PatchResult

__all__ = ["Outcome", "read_outcome", "run_scene", "write_outcome"]

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
        threshold, classified as if it had become a peak: ``score``,
        ``class``, ``target`` and ``true_id`` as in `Evaluation.peaks`.
    """

    iterations: tuple[Evaluation, ...]
    candidates: Table


def _rank(
    scene: Scene, before: Detections, model: SceneModel, truth: Truth, candidates: list[Candidate]
) -> Table:
    """Classify all candidates; no second deblending is needed for that."""
    everything = add_candidates(before, candidates, scene, min_distance_pix=DEFAULT_MIN_DISTANCE_PIX)
    result = PatchResult(scene.name, scene, before, everything, model, model, truth)
    return evaluate_patch(result).peaks["score", "class", "target", "true_id"]


def _run_detector(
    detector: Detector,
    scene: Scene,
    truth: Truth,
    before: Detections,
    model_before: SceneModel,
    engine: str,
    n_iterations: int,
) -> Outcome:
    catalogue, model = before, model_before
    evaluations = []
    first: list[Candidate] | None = None
    for iteration in range(1, n_iterations + 1):
        candidates = detector.detect(scene, model.image(scene), catalogue.peaks)
        first = candidates if first is None else first
        grown = add_candidates(
            catalogue,
            candidates,
            scene,
            iteration=iteration,
            min_score=detector.default_threshold,
            min_distance_pix=DEFAULT_MIN_DISTANCE_PIX,
        )
        model = redeblend(scene, catalogue, grown, model, engine=engine)
        catalogue = grown
        result = PatchResult(scene.name, scene, before, catalogue, model_before, model, truth)
        evaluation = evaluate_patch(result)
        assert evaluation.truth is not None
        evaluation.truth["chi2_gain"] = chi2_gain(
            scene,
            model_before.image(scene),
            model.image(scene),
            np.stack([evaluation.truth["y"], evaluation.truth["x"]], axis=1),
            2 * psf_sigma_pix(scene),
        )
        evaluations.append(evaluation)
    return Outcome(tuple(evaluations), _rank(scene, before, model_before, truth, first or []))


def run_scene(
    options: SimulationOptions,
    rng: np.random.Generator,
    name: str,
    detectors: Mapping[str, Detector | None],
    *,
    engine: str = "factorized",
    n_iterations: int = 1,
) -> dict[str, Outcome]:
    """Simulate a scene, deblend it, and let detectors look at the residual.

    Parameters
    ----------
    options : `SimulationOptions`
        What to simulate.
    rng : `numpy.random.Generator`
        Source of randomness.
    name : `str`
        Name of the scene.
    detectors : `~collections.abc.Mapping` [`str`, `Detector` or `None`]
        Detectors by the name their outcome is to have; `None` stands for the
        `Oracle`.
    engine : `str`, optional
        Deblender.
    n_iterations : `int`, optional
        How often to look and deblend again.

    Returns
    -------
    outcomes : `dict` [`str`, `Outcome`]
        One for each detector, all of the same pixels and first model.
    """
    scene, truth = simulate_scene(options, rng, name)
    before = detect(scene)
    model = deblend(scene, before.parents, engine=engine)
    return {
        key: _run_detector(
            Oracle(truth, before) if detector is None else detector,
            scene,
            truth,
            before,
            model,
            engine,
            n_iterations,
        )
        for key, detector in detectors.items()
    }


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write an outcome to a file that appears whole or not at all."""
    arrays = {"candidates": outcome.candidates.as_array()}
    for number, evaluation in enumerate(outcome.iterations):
        for name in _TABLES:
            arrays[f"{name}_{number}"] = getattr(evaluation, name).as_array()
        arrays[f"n_peaks_{number}"] = np.array(evaluation.n_peaks)
    last = outcome.iterations[-1]
    arrays["name"], arrays["bands"] = np.array(last.name), np.array(last.bands)
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def read_outcome(path: Path) -> Outcome:
    """Read what `write_outcome` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        n_iterations = sum(name.startswith("truth_") for name in stored.files)
        evaluations = tuple(
            Evaluation(
                name=str(stored["name"]),
                bands=tuple(stored["bands"].tolist()),
                n_peaks=int(stored[f"n_peaks_{number}"]),
                **{name: Table(stored[f"{name}_{number}"]) for name in _TABLES},
            )
            for number in range(n_iterations)
        )
        return Outcome(evaluations, Table(stored["candidates"]))
