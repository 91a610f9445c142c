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

"""The deblender of the embedded world, as a task."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import Field, ListField

from ..butler import load_images
from ..deblend import check_engine, deblend
from ..deblend.redeblend import changed_parents, redeblend
from ..detections import Detections, peak_columns
from ..scene import DEFAULT_BAD_PLANES, Scene
from ..scene_model import SceneModel
from .deblend_options import DeblendOptionsConfig
from .patch import (
    PATCH_DIMENSIONS,
    CoaddConnections,
    ImagesConfig,
    InputRefs,
    OutputRefs,
    Quantum,
    read_scene,
)

__all__ = ["DeblendConfig", "DeblendConnections", "DeblendTask"]


class DeblendConnections(
    CoaddConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"before": "", "after": ""},
):
    """Inputs and outputs of `DeblendTask`.

    ``after`` is the suffix of the catalogue deblended and of the outputs;
    ``before`` that of the catalogue and models whose unchanged parents are
    kept, read only with ``reuse_models``.
    """

    detections = cT.Input(
        doc="Merged detection catalogue to deblend.",
        name="object_detection_merged{after}",
        storageClass="ArrayDetections",
        dimensions=PATCH_DIMENSIONS,
    )
    old_detections = cT.Input(
        doc="The catalogue that was deblended before.",
        name="object_detection_merged{before}",
        storageClass="ArrayDetections",
        dimensions=PATCH_DIMENSIONS,
    )
    old_models = cT.Input(
        doc="The models made of it.",
        name="object_scarlet_models{before}",
        storageClass="ArrayModels",
        dimensions=PATCH_DIMENSIONS,
    )
    models = cT.Output(
        doc="Deblended models.",
        name="object_scarlet_models{after}",
        storageClass="ArrayModels",
        dimensions=PATCH_DIMENSIONS,
    )
    objects = cT.Output(
        doc="Table of deblended sources.",
        name="object{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )

    def __init__(self, *, config: DeblendConfig) -> None:
        super().__init__(config=config)
        if not config.reuse_models:
            del self.old_detections
            del self.old_models


class DeblendConfig(
    ImagesConfig, DeblendOptionsConfig, pipe_base.PipelineTaskConfig, pipelineConnections=DeblendConnections
):
    """Options of `DeblendTask`."""

    reuse_models = Field[bool](
        doc="Keep the former models of parents that gained no peak, and fit only the others?",
        default=False,
    )
    bands = ListField[str](doc="Bands to deblend; all there are if empty.", default=[])
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels are left out.", default=list(DEFAULT_BAD_PLANES)
    )


class DeblendTask(pipe_base.PipelineTask):
    """Model every parent of a patch, single-peak parents too."""

    ConfigClass = DeblendConfig
    _DefaultName = "deblend"
    config: DeblendConfig

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_engine(self.config.engine)

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
        """Deblend a patch."""
        detections = butlerQC.get(inputRefs.detections)
        if not len(detections):
            raise pipe_base.NoWorkFound(f"{butlerQC.quantum.dataId}: the detection catalogue is empty")
        former: dict[str, Any] = {}
        if self.config.reuse_models:
            former["old_detections"] = butlerQC.get(inputRefs.old_detections)
            former["old_models"] = butlerQC.get(inputRefs.old_models)
        scene = read_scene(
            butlerQC,
            inputRefs.coadds,
            load_images(self.config.images),
            bands=former["old_models"].bands if former else self.config.bands,
            bad_planes=self.config.bad_mask_planes,
        )
        butlerQC.put(self.run(scene, detections, **former), outputRefs)

    def run(
        self,
        scene: Scene,
        detections: Detections,
        old_detections: Detections | None = None,
        old_models: SceneModel | None = None,
    ) -> pipe_base.Struct:
        """Deblend a scene.

        Parameters
        ----------
        scene : `Scene`
            Coadds.
        detections : `Detections`
            The catalogue to deblend.
        old_detections, old_models : `Detections`, `SceneModel`, optional
            A former catalogue and its models, of which those of unchanged
            parents are kept.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``models`` (`SceneModel`) and ``objects``
            (`astropy.table.Table`), a row for each peak.
        """
        options = self.config.deblend_options(self.config.bad_mask_planes)
        if old_detections is None or old_models is None:
            fitted = {parent.id for parent in detections}
            models = deblend(scene, detections.parents, options, engine=self.config.engine)
        else:
            fitted = {parent.id for parent in changed_parents(old_detections, detections)}
            models = redeblend(
                scene, old_detections, detections, old_models, options, engine=self.config.engine
            )
        for parent in models:
            if parent.failure and parent.parent_id in fitted:
                self.log.warning(
                    "%s: parent %d has no model: %s", scene.name, parent.parent_id, parent.failure
                )
            if parent.unmodelled and parent.parent_id in fitted:
                self.log.warning(
                    "%s: parent %d: no model of %s",
                    scene.name,
                    parent.parent_id,
                    "; ".join(parent.unmodelled.values()),
                )
        self.metadata["n_parents"] = len(detections)
        self.metadata["n_fitted"] = len(fitted)
        self.metadata["n_failed"] = sum(bool(parent.failure) for parent in models)
        self.log.info(
            "%s: fitted %d of %d parents; %d parents in all have no model",
            scene.name,
            len(fitted),
            len(detections),
            self.metadata["n_failed"],
        )
        return pipe_base.Struct(models=models, objects=object_table(scene, detections, models))


def object_table(scene: Scene, detections: Detections, models: SceneModel) -> Table:
    """Deblended sources, a row for each peak.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    detections : `Detections`
        Catalogue.
    models : `SceneModel`
        Its models.

    Returns
    -------
    objects : `astropy.table.Table`
        ``id`` (the peak's), ``parent``, ``y``, ``x`` (patch pixels),
        ``iteration``, ``score``, ``merge_peak_residual``, ``ra``, ``dec``
        (degrees; NaN if unknown), ``flux_<band>`` (image units; NaN without a
        model), ``deblend_chi2`` (of the parent, reduced) and
        ``deblend_failed``.
    """
    pairs = [(parent, peak) for parent in detections for peak in parent.peaks]
    fits = {parent.parent_id: parent for parent in models}
    of_peaks = peak_columns(detections.peaks)
    columns = {
        "id": of_peaks["id"],
        "parent": np.array([parent.id for parent, _ in pairs], np.int64),
        **of_peaks,
        "merge_peak_residual": of_peaks["iteration"] > 0,
    }
    columns["ra"], columns["dec"] = scene.sky(of_peaks["y"], of_peaks["x"])
    flux = models.peak_fluxes(of_peaks["id"]).astype(np.float32)
    columns |= {f"flux_{band}": flux[:, index] for index, band in enumerate(models.bands)}
    columns["deblend_chi2"] = np.array([fits[parent.id].reduced_chi2 for parent, _ in pairs], np.float64)
    columns["deblend_failed"] = np.array(
        [bool(fits[parent.id].failure) or peak.id in fits[parent.id].unmodelled for parent, peak in pairs],
        bool,
    )
    return Table(columns, units={"ra": "deg", "dec": "deg"})
