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

"""Holding a run against the truth, as a task."""

from __future__ import annotations

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT

from ..butler import load_images
from ..truth import PatchResult, evaluate_patch, summarise
from .evaluation_options import EvaluationOptionsConfig
from .patch import (
    PATCH_DIMENSIONS,
    CoaddConnections,
    ImagesConfig,
    InputRefs,
    OutputRefs,
    Quantum,
    read_scene,
)

__all__ = ["EvaluateConfig", "EvaluateConnections", "EvaluateTask"]


class EvaluateConnections(
    CoaddConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"before": "", "after": "_residual"},
):
    """Inputs and outputs of `EvaluateTask`.

    ``before`` and ``after`` are the suffixes of the catalogues compared.
    """

    truth = cT.PrerequisiteInput(
        doc="True sources, where they are known.",
        name="truth",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
        minimum=0,
    )
    detections_before = cT.Input(
        doc="Catalogue of the ordinary detection.",
        name="object_detection_merged{before}",
        storageClass="ArrayDetections",
        dimensions=PATCH_DIMENSIONS,
    )
    detections_after = cT.Input(
        doc="Catalogue with the new peaks.",
        name="object_detection_merged{after}",
        storageClass="ArrayDetections",
        dimensions=PATCH_DIMENSIONS,
    )
    models_before = cT.Input(
        doc="Models of the ordinary catalogue.",
        name="object_scarlet_models{before}",
        storageClass="ArrayModels",
        dimensions=PATCH_DIMENSIONS,
    )
    models_after = cT.Input(
        doc="Models of the catalogue with the new peaks.",
        name="object_scarlet_models{after}",
        storageClass="ArrayModels",
        dimensions=PATCH_DIMENSIONS,
    )
    sources = cT.Output(
        doc="What became of each true source; not written without a truth.",
        name="evaluation_sources{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    peaks = cT.Output(
        doc="What each new peak turned out to be.",
        name="evaluation_peaks{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    parents = cT.Output(
        doc="Chi-square of each parent before and after.",
        name="evaluation_parents{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )


class EvaluateConfig(
    ImagesConfig,
    EvaluationOptionsConfig,
    pipe_base.PipelineTaskConfig,
    pipelineConnections=EvaluateConnections,
):
    """Options of `EvaluateTask`."""


class EvaluateTask(pipe_base.PipelineTask):
    """Say what became of the true sources, and what the new peaks are."""

    ConfigClass = EvaluateConfig
    _DefaultName = "evaluate"
    config: EvaluateConfig

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
        """Evaluate a patch."""
        model_before = butlerQC.get(inputRefs.models_before)
        scene = read_scene(
            butlerQC,
            inputRefs.coadds,
            load_images(self.config.images),
            bands=model_before.bands,
            bad_planes=self.config.bad_mask_planes,
        )
        truth_ref = getattr(inputRefs, "truth", None)
        result = PatchResult(
            name=scene.name,
            scene=scene,
            before=butlerQC.get(inputRefs.detections_before),
            after=butlerQC.get(inputRefs.detections_after),
            model_before=model_before,
            model_after=butlerQC.get(inputRefs.models_after),
            truth=butlerQC.get(truth_ref).as_array() if truth_ref else None,
        )
        evaluation = evaluate_patch(result, self.config.options(), bad_planes=self.config.bad_mask_planes)
        butlerQC.put(evaluation.peaks, outputRefs.peaks)
        butlerQC.put(evaluation.parents, outputRefs.parents)
        if evaluation.truth is not None:
            butlerQC.put(evaluation.truth, outputRefs.sources)
        summary = summarise([evaluation])
        outcome = "no truth to compare with"
        if evaluation.truth is not None:
            outcome = f"{summary['n_recovered']} of {summary['n_unrecognized']} sources to find recovered"
        self.log.info("%s: %d new peaks so far, %s", scene.name, summary["n_new_peaks"], outcome)
