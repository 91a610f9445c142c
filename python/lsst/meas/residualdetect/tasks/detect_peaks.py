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
from lsst.pex.config import Config, ConfigField, Field, ListField, RangeField

from ..butler import load_images
from ..detection import DetectionOptions, detect
from ..detection.merged_peaks import CullPeaksOptions
from .patch import PATCH_DIMENSIONS, CoaddConnections, ImagesConfig, read_scene

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


class CullPeaksConfig(Config):
    """Which peaks of a parent with many are dropped."""

    n_bands_sufficient = RangeField(
        dtype=int,
        doc="Always keep peaks detected in this many bands; 1 keeps all.",
        default=CullPeaksOptions.n_bands_sufficient,
        min=1,
    )
    rank_sufficient = RangeField(
        dtype=int,
        doc="Always keep this many peaks of each parent.",
        default=CullPeaksOptions.rank_sufficient,
        min=1,
    )
    rank_considered = RangeField(
        dtype=int,
        doc="Keep peaks of less than this rank that also meet rank_normalized_considered.",
        default=CullPeaksOptions.rank_considered,
        min=1,
    )
    rank_normalized_considered = RangeField(
        dtype=float,
        doc="Keep peaks of less than this rank, as part of the parent's peaks, that also meet "
        "rank_considered.",
        default=CullPeaksOptions.rank_normalized_considered,
        min=0.0,
    )

    def options(self) -> CullPeaksOptions:
        """The same as the core's options."""
        return CullPeaksOptions(**self.toDict())


class DetectPeaksConfig(
    ImagesConfig, pipe_base.PipelineTaskConfig, pipelineConnections=DetectPeaksConnections
):
    """Options of `DetectPeaksTask`; the defaults are the stack's."""

    bands = ListField[str](doc="Bands to detect in; all there are if empty.", default=[])
    threshold = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio of the PSF-matched image above which a pixel is detected.",
        default=DetectionOptions.threshold,
        min=0.0,
        inclusiveMin=False,
    )
    grow_sigma = RangeField(
        dtype=float,
        doc="Footprints grow by this many PSF standard deviations.",
        default=DetectionOptions.grow_sigma,
        min=0.0,
    )
    min_new_peak_arcsec = RangeField(
        dtype=float,
        doc="A peak of a further band is new if it is farther than this from all others. Arcsec.",
        default=DetectionOptions.min_new_peak_arcsec,
        min=0.0,
    )
    max_same_peak_arcsec = RangeField(
        dtype=float,
        doc="A peak of a further band nearer than this to another is the same. Arcsec.",
        default=DetectionOptions.max_same_peak_arcsec,
        min=0.0,
    )
    band_priority = ListField[str](
        doc="Order in which bands give their peaks.", default=list(DetectionOptions.band_priority)
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels are left out.", default=list(DetectionOptions.bad_planes)
    )

    do_temp_local_background = Field[bool](
        doc="Look for the peaks of parents with several above a temporary local background? "
        "Noise on the halo of a bright star makes no peaks then.",
        default=DetectionOptions.do_temp_local_background,
    )
    temp_local_background = ConfigField[TempLocalBackgroundConfig](
        dtype=TempLocalBackgroundConfig, doc="The temporary local background."
    )
    n_peaks_max_simple = RangeField(
        dtype=int,
        doc="Peaks that a parent may have in a band without being looked at above the local background.",
        default=DetectionOptions.n_peaks_max_simple,
        min=0,
    )
    cull_peaks = ConfigField[CullPeaksConfig](
        dtype=CullPeaksConfig, doc="Which peaks of a parent with many are dropped."
    )

    def options(self) -> DetectionOptions:
        """The same as the core's options."""
        return DetectionOptions(
            threshold=self.threshold,
            grow_sigma=self.grow_sigma,
            min_new_peak_arcsec=self.min_new_peak_arcsec,
            max_same_peak_arcsec=self.max_same_peak_arcsec,
            band_priority=tuple(self.band_priority),
            bad_planes=tuple(self.bad_mask_planes),
            do_temp_local_background=self.do_temp_local_background,
            temp_local_background_bin_size=self.temp_local_background.bin_size,
            n_peaks_max_simple=self.n_peaks_max_simple,
            cull_peaks=self.cull_peaks.options(),
        )

    def validate(self) -> None:
        """Refuse values that do not go together."""
        super().validate()
        self.options()


class DetectPeaksTask(pipe_base.PipelineTask):
    """Detect sources in every band and merge the bands' peaks."""

    ConfigClass = DetectPeaksConfig
    _DefaultName = "detectPeaks"
    config: DetectPeaksConfig

    def runQuantum(  # noqa: N802
        self,
        butlerQC: pipe_base.QuantumContext,  # noqa: N803
        inputRefs: pipe_base.InputQuantizedConnection,  # noqa: N803
        outputRefs: pipe_base.OutputQuantizedConnection,  # noqa: N803
    ) -> None:
        """Detect in a patch, or pass on the peaks that came with it."""
        scene = read_scene(
            butlerQC,
            inputRefs.coadds,
            load_images(self.config.images),
            bands=self.config.bands,
            bad_planes=self.config.bad_mask_planes,
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
