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

"""The task the package is for: peaks that the deblender was not told of."""

from __future__ import annotations

import dataclasses
from typing import Any

from astropy.table import Table

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ChoiceField, Field, ListField, RangeField

from ..candidates import DEFAULT_MIN_DISTANCE_PIX, Candidate, add_candidates
from ..data_models import STORAGE_CLASSES, load_data_model
from ..detectors import DEFAULT_DETECTOR, detector_names, load_detector
from ..footprint import Detections
from ..model_package import DEFAULT_MODEL
from ..scene import DEFAULT_BAD_PLANES, Scene
from ..scene_model import SceneModel
from .patch import PATCH_DIMENSIONS, read_scene

__all__ = ["ResidualDetectionConfig", "ResidualDetectionConnections", "ResidualDetectionTask"]


class ResidualDetectionConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"before": "", "after": "_residual"},
):
    """Inputs and outputs of `ResidualDetectionTask`.

    ``before`` and ``after`` are suffixes of data set names; the k-th
    iteration reads what the one before it wrote.
    """

    coadds = cT.Input(
        doc="Coadds in all bands.",
        name="deep_coadd",
        storageClass="ExposureF",
        dimensions=(*PATCH_DIMENSIONS, "band"),
        multiple=True,
    )
    detections = cT.Input(
        doc="Merged detection catalogue that was deblended.",
        name="object_detection_merged{before}",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    models = cT.Input(
        doc="Scarlet models of its sources.",
        name="object_scarlet_models{before}",
        storageClass="LsstScarletModelData",
        dimensions=PATCH_DIMENSIONS,
    )
    new_detections = cT.Output(
        doc="The catalogue with the new peaks appended and footprints grown.",
        name="object_detection_merged{after}",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    candidates = cT.Output(
        doc="Every candidate of the detector, those below the threshold too.",
        name="object_candidates{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )

    def __init__(self, *, config: ResidualDetectionConfig) -> None:
        super().__init__(config=config)
        for name, storage_class in STORAGE_CLASSES[config.data_model].items():
            connection = getattr(self, name)
            setattr(self, name, dataclasses.replace(connection, storageClass=storage_class))


class ResidualDetectionConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ResidualDetectionConnections):
    """Options of `ResidualDetectionTask`."""

    data_model = ChoiceField[str](
        doc="What the Butler holds.",
        default="afw",
        allowed={
            "afw": "lsst.afw exposures and catalogues, lsst.meas.extensions.scarlet models (the stack).",
            "array": "The package's own types (the embedded repository).",
        },
    )
    bands = ListField[str](
        doc="Bands to look at; all that the models have if empty.",
        default=[],
    )
    detector = ChoiceField[str](
        doc="How to look for sources that the model lacks.",
        default=DEFAULT_DETECTOR,
        allowed={name: name for name in detector_names()},
    )
    model = Field[str](
        doc="Model package of a detector that runs a network: a folder, or a name under models/.",
        default=DEFAULT_MODEL,
    )
    score_threshold = RangeField(
        dtype=float,
        doc="Score from which a candidate becomes a peak; the detector's own if not set.",
        default=None,
        optional=True,
        min=0.0,
    )
    min_distance_pix = RangeField(
        dtype=float,
        doc="Candidates nearer than this to a peak are taken for a flaw of that peak's model. Pixels.",
        default=DEFAULT_MIN_DISTANCE_PIX,
        min=0.0,
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels are left out.",
        default=list(DEFAULT_BAD_PLANES),
    )


class ResidualDetectionTask(pipe_base.PipelineTask):
    """Find sources in the deblender's residual and add them as peaks.

    Runs after the scarlet deblender. The catalogue it writes is the
    deblender's input for another pass.
    """

    ConfigClass = ResidualDetectionConfig
    _DefaultName = "residualDetection"
    config: ResidualDetectionConfig

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_model = load_data_model(self.config.data_model)
        self.detector = load_detector(self.config.detector, self.config.model)

    def runQuantum(  # noqa: N802
        self,
        butlerQC: pipe_base.QuantumContext,  # noqa: N803
        inputRefs: pipe_base.InputQuantizedConnection,  # noqa: N803
        outputRefs: pipe_base.OutputQuantizedConnection,  # noqa: N803
    ) -> None:
        """Read a patch, find sources, write the results."""
        data_id = butlerQC.quantum.dataId
        catalogue = butlerQC.get(inputRefs.detections)
        detections = self.data_model.detections(catalogue)
        if not len(detections):
            raise pipe_base.NoWorkFound(f"{data_id}: the detection catalogue is empty")
        model = self.data_model.model(butlerQC.get(inputRefs.models))
        scene = read_scene(
            butlerQC,
            inputRefs.coadds,
            self.data_model,
            bands=self.config.bands or model.bands,
            bad_planes=self.config.bad_mask_planes,
        )
        result = self.run(scene, detections, model)
        butlerQC.put(
            pipe_base.Struct(
                new_detections=self.data_model.catalogue(result.detections, catalogue),
                candidates=result.candidates,
            ),
            outputRefs,
        )

    def run(self, scene: Scene, detections: Detections, model: SceneModel) -> pipe_base.Struct:
        """Find sources that the model lacks.

        Parameters
        ----------
        scene : `Scene`
            Coadds.
        detections : `Detections`
            The catalogue that was deblended.
        model : `SceneModel`
            Its deblended sources.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``detections`` (`Detections`), the catalogue with new peaks, and
            ``candidates`` (`astropy.table.Table`), a row for each candidate:
            ``y``, ``x`` (patch pixels), ``score``, ``area`` (pixels),
            ``peak`` (id, 0 if it became none), ``parent`` (id, 0 likewise).
        """
        threshold = self.config.score_threshold
        if threshold is None:
            threshold = self.detector.default_threshold
        candidates = self.detector.detect(
            scene, model.select_bands(scene.bands).image(scene), detections.peaks
        )
        iteration = 1 + max((peak.iteration for peak in detections.peaks), default=0)
        result = add_candidates(
            detections,
            candidates,
            scene,
            iteration=iteration,
            min_score=threshold,
            min_distance_pix=self.config.min_distance_pix,
        )
        n_new = len(result.peaks) - len(detections.peaks)
        changed = sum(any(peak.iteration == iteration for peak in parent.peaks) for parent in result)
        self.metadata["n_candidates"] = len(candidates)
        self.metadata["n_new_peaks"] = n_new
        self.metadata["n_changed_parents"] = changed
        self.log.info(
            "%s: %d of %d candidates of %s reach %g; without those near a known peak "
            "%d new peaks in %d of %d parents",
            scene.name,
            sum(candidate.score >= threshold for candidate in candidates),
            len(candidates),
            self.config.detector,
            threshold,
            n_new,
            changed,
            len(result),
        )
        return pipe_base.Struct(detections=result, candidates=_candidate_table(candidates, result, iteration))


def _candidate_table(candidates: list[Candidate], detections: Detections, iteration: int) -> Table:
    """All candidates, surest first, with the peaks they became."""
    became = {
        (peak.y, peak.x): (peak.id, parent.id)
        for parent in detections
        for peak in parent.peaks
        if peak.iteration == iteration
    }
    rows = [
        (c.y, c.x, c.score, c.footprint.area, *became.get((c.y, c.x), (0, 0)))
        for c in sorted(candidates, key=lambda candidate: -candidate.score)
    ]
    names = ("y", "x", "score", "area", "peak", "parent")
    dtypes = (float, float, float, int, int, int)
    return Table(rows=rows or None, names=names, dtype=dtypes)
