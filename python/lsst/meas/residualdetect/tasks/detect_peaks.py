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

"""Ordinary detection in the embedded world."""

from __future__ import annotations

from typing import Any

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import Config, ConfigField, ListField, RangeField

from ..butler import load_images
from ..detection import DetectionOptions, detect
from ..detection.merged_peaks import CullPeaksOptions
from .options_config import OptionsConfig, with_options
from .patch import (
    PATCH_DIMENSIONS,
    CoaddConnections,
    ImagesConfig,
    InputRefs,
    OutputRefs,
    Quantum,
    read_scene,
)

__all__ = ["DetectPeaksConfig", "DetectPeaksConnections", "DetectPeaksTask"]


class DetectPeaksConnections(CoaddConnections, dimensions=PATCH_DIMENSIONS):
    """Inputs and outputs of `DetectPeaksTask`."""

    given = cT.PrerequisiteInput(
        doc="Peaks that came with the scene; used in place of detection where there are any.",
        name="object_detection_given",
        storageClass="ArrayDetections",
        dimensions=PATCH_DIMENSIONS,
        minimum=0,
    )
    detections = cT.Output(
        doc="Merged detection catalogue.",
        name="object_detection_merged",
        storageClass="ArrayDetections",
        dimensions=PATCH_DIMENSIONS,
    )


class TempLocalBackgroundConfig(Config):
    """The background that peaks are looked for above."""

    bin_size = RangeField(
        dtype=int,
        doc="Side of a bin in pixels.",
        default=DetectionOptions.temp_local_background_bin_size,
        min=1,
    )


@with_options(CullPeaksOptions)
class CullPeaksConfig(OptionsConfig):
    """Which peaks of a parent with many are dropped."""


@with_options(DetectionOptions, "bad_planes", "temp_local_background_bin_size")
class DetectPeaksConfig(
    OptionsConfig, ImagesConfig, pipe_base.PipelineTaskConfig, pipelineConnections=DetectPeaksConnections
):
    """Options of `DetectPeaksTask`; the defaults are the stack's."""

    bands = ListField[str](doc="Bands to detect in; all there are if empty.", default=[])
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels are left out.", default=list(DetectionOptions.bad_planes)
    )

    temp_local_background = ConfigField[TempLocalBackgroundConfig](
        dtype=TempLocalBackgroundConfig, doc="The temporary local background."
    )
    cull_peaks = ConfigField[CullPeaksConfig](
        dtype=CullPeaksConfig, doc="Which peaks of a parent with many are dropped."
    )

    def options(self, **others: Any) -> DetectionOptions:
        """The same as the core's options."""
        options: DetectionOptions = super().options(
            bad_planes=tuple(self.bad_mask_planes),
            temp_local_background_bin_size=self.temp_local_background.bin_size,
            **others,
        )
        return options


class DetectPeaksTask(pipe_base.PipelineTask):
    """Detect sources in every band and merge the bands' peaks."""

    ConfigClass = DetectPeaksConfig
    _DefaultName = "detectPeaks"
    config: DetectPeaksConfig

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
        """Detect in a patch, or pass on the peaks that came with it."""
        scene = read_scene(
            butlerQC,
            inputRefs.coadds,
            load_images(self.config.images),
            bands=self.config.bands,
            bad_planes=self.config.bad_mask_planes,
            # What was ingested was checked then.
            check=self.config.images != "array",
        )
        given: Any = getattr(inputRefs, "given", None)
        if given:
            detections = butlerQC.get(given)
            self.log.info("%s: %d peaks came with the scene", scene.name, len(detections.peaks))
        else:
            detections = detect(scene, self.config.options())
            self.log.info("%s: %d peaks in %d parents", scene.name, len(detections.peaks), len(detections))
        self.metadata["n_peaks"] = len(detections.peaks)
        self.metadata["n_parents"] = len(detections)
        butlerQC.put(detections, outputRefs.detections)
