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

"""What candidates are, by the taxonomy of blends, where truth is known."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from ..scene_model import SceneModel
from ..truth import Evaluation, EvaluationOptions, PatchResult, evaluate_patch
from ..truth.known_scenes import Truth
from .missing import Missing

__all__ = ["classify_candidates", "rank_candidates"]


def classify_candidates(
    missing: Missing, model: SceneModel, truth: Truth, options: EvaluationOptions | None = None
) -> Evaluation:
    """Classify candidates as if all had become peaks, whatever their score;
    nothing is deblended again for that.

    Parameters
    ----------
    missing : `Missing`
        What a detector found. Candidates too near to a peak or a surer one,
        or in too few bands, are dropped as in a run.
    model : `SceneModel`
        The model that was looked at.
    truth : `numpy.ndarray`, structured
        True sources; see `PatchResult`.
    options : `EvaluationOptions`, optional
        Limits; the defaults if absent.

    Returns
    -------
    evaluation : `Evaluation`
        Whose peaks are the candidates that are left.
    """
    scene = missing.scene
    everything = missing.at_threshold(float("-inf")).detections
    return evaluate_patch(
        PatchResult(scene.name, scene, missing.before, everything, model, model, truth), options
    )


def rank_candidates(
    missing: Missing, model: SceneModel, truth: Truth, options: EvaluationOptions | None = None
) -> Table:
    """Rank the candidates of `classify_candidates`, with its parameters.

    Returns
    -------
    ranking : `astropy.table.Table`
        One row per candidate left, surest first: ``score``, ``class``,
        ``target``, ``true_id``, ``y`` and ``x`` as in `Evaluation.peaks`.
    """
    peaks = classify_candidates(missing, model, truth, options).peaks
    ranking = peaks["score", "class", "target", "true_id", "y", "x"]
    return ranking[np.argsort(-ranking["score"], kind="stable")]
