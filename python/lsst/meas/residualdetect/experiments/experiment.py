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

"""One scene, from its pixels to what each detector made of it."""

from __future__ import annotations

from collections.abc import Mapping

from ..deblend import deblend
from ..deblend.redeblend import redeblend
from ..detections import places_of
from ..detectors import Detector
from ..find_missing import FindMissingOptions, find_missing
from ..find_missing.candidate_classes import rank_candidates
from ..scene_model import SceneModel
from ..truth.evaluate_patch import evaluate_patch
from ..truth.evaluation import EvaluationOptions, PatchResult
from ..truth.known_scenes import KnownScene, Truth
from ..truth.measures import psf_sigma_pix
from .oracle import Oracle, chi2_gain
from .outcome import Outcome

__all__ = ["run_scene"]


def _run_detector(
    detector: Detector,
    known: KnownScene,
    truth: Truth,
    model_before: SceneModel,
    search: FindMissingOptions,
    n_iterations: int,
    limits: EvaluationOptions,
) -> Outcome:
    scene, before = known.scene, known.detections
    image_before = model_before.image(scene)
    catalogue, model = before, model_before
    evaluations = []
    for iteration in range(n_iterations):
        missing = find_missing(scene, catalogue, model, detector, search)
        if iteration == 0:
            ranking = rank_candidates(missing, model_before, truth, limits)
        model = redeblend(
            scene, catalogue, missing.detections, model, search.singles, engine=search.singles_engine
        )
        catalogue = missing.detections
        evaluation = evaluate_patch(
            PatchResult(scene.name, scene, before, catalogue, model_before, model, truth), limits
        )
        assert evaluation.truth is not None
        positions = places_of(evaluation.truth)
        evaluation.truth["chi2_gain"] = chi2_gain(
            scene, image_before, model.image(scene), positions, 2 * psf_sigma_pix(scene)
        )
        evaluations.append(evaluation)
    return Outcome(tuple(evaluations), ranking)


def run_scene(
    known: KnownScene,
    detectors: Mapping[str, Detector | None],
    *,
    search: FindMissingOptions = FindMissingOptions(),
    n_iterations: int = 1,
    limits: EvaluationOptions = EvaluationOptions(),
) -> dict[str, Outcome]:
    """Deblend a scene with truth, and let detectors look at the residual.

    Parameters
    ----------
    known : `KnownScene`
        The scene, with truth.
    detectors : `~collections.abc.Mapping` [`str`, `Detector` or `None`]
        Detectors by the name their outcome is to have; `None` stands for the
        `Oracle`.
    search : `FindMissingOptions`, optional
        How candidates become peaks. All sources are deblended as its singles.
    n_iterations : `int`, optional
        How often to look and deblend again, at least once.
    limits : `EvaluationOptions`, optional
        What counts.

    Returns
    -------
    outcomes : `dict` [`str`, `Outcome`]
        One for each detector, all of the same pixels and first model.

    Raises
    ------
    ValueError
        Raised if the scene has no truth.
    """
    truth = known.truth
    if truth is None:
        raise ValueError(f"{known.scene.name} has no truth table; use --leave-out or --degrade")
    known = known.without(search.bad_planes)
    model = deblend(known.scene, known.detections.parents, search.singles, engine=search.singles_engine)
    return {
        key: _run_detector(
            Oracle(truth, known.detections) if detector is None else detector,
            known,
            truth,
            model,
            search,
            n_iterations,
            limits,
        )
        for key, detector in detectors.items()
    }
