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

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table

from ..candidates import DEFAULT_MIN_DISTANCE_PIX, Candidate, add_candidates
from ..deblend import deblend
from ..deblend.redeblend import redeblend
from ..detection import detect
from ..detections import Detections
from ..detectors import Detector
from ..scene import Scene
from ..scene_model import SceneModel
from ..simulation import SimulationOptions
from ..simulation.simulate import Truth, simulate_scene
from ..truth.evaluate_patch import evaluate_patch
from ..truth.evaluation import EvaluationOptions, PatchResult
from ..truth.measures import psf_sigma_pix
from .oracle import Oracle, chi2_gain
from .outcome import Outcome

__all__ = ["rank_candidates", "run_scene"]


def rank_candidates(
    scene: Scene,
    before: Detections,
    model_before: SceneModel,
    truth: Truth,
    candidates: Sequence[Candidate],
    options: EvaluationOptions | None = None,
) -> Table:
    """Classify candidates as if all had become peaks, whatever their score;
    nothing is deblended again for that.

    Parameters
    ----------
    scene : `Scene`
        The patch.
    before : `Detections`
        Catalogue of the ordinary detection.
    model_before : `SceneModel`
        Its model.
    truth : `numpy.ndarray`, structured
        True sources; see `PatchResult`.
    candidates : `~collections.abc.Sequence` [`Candidate`]
        What a detector found. Those too near to a peak or a surer one are
        dropped, as they would be in a run.
    options : `EvaluationOptions`, optional
        Limits; the defaults if absent.

    Returns
    -------
    ranking : `astropy.table.Table`
        One row per candidate left, surest first: ``score``, ``class``,
        ``target`` and ``true_id`` as in `Evaluation.peaks`.
    """
    everything = add_candidates(before, candidates, scene, min_distance_pix=DEFAULT_MIN_DISTANCE_PIX)
    result = PatchResult(scene.name, scene, before, everything, model_before, model_before, truth)
    ranking = evaluate_patch(result, options).peaks["score", "class", "target", "true_id"]
    return ranking[np.argsort(-ranking["score"], kind="stable")]


def _run_detector(
    detector: Detector,
    scene: Scene,
    truth: Truth,
    before: Detections,
    model_before: SceneModel,
    engine: str,
    n_iterations: int,
) -> Outcome:
    image_before = model_before.image(scene)
    catalogue, model, image = before, model_before, image_before
    evaluations = []
    for iteration in range(1, n_iterations + 1):
        candidates = detector.detect(scene, image, catalogue.peaks)
        if iteration == 1:
            ranking = rank_candidates(scene, before, model_before, truth, candidates)
        grown = add_candidates(
            catalogue,
            candidates,
            scene,
            iteration=iteration,
            min_score=detector.default_threshold,
            min_distance_pix=DEFAULT_MIN_DISTANCE_PIX,
        )
        model = redeblend(scene, catalogue, grown, model, engine=engine)
        catalogue, image = grown, model.image(scene)
        evaluation = evaluate_patch(
            PatchResult(scene.name, scene, before, catalogue, model_before, model, truth)
        )
        assert evaluation.truth is not None
        positions = np.stack([evaluation.truth["y"], evaluation.truth["x"]], axis=1)
        evaluation.truth["chi2_gain"] = chi2_gain(
            scene, image_before, image, positions, 2 * psf_sigma_pix(scene)
        )
        evaluations.append(evaluation)
    return Outcome(tuple(evaluations), ranking)


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
        How often to look and deblend again, at least once.

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
