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


"""Companions beside real objects, chosen for a patch."""

from __future__ import annotations

from typing import Any

import numpy as np

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ConfigField, ListField, RangeField

from ..butler import load_catalogues, load_images
from ..detections import Detections
from ..injection.companion_options import CompanionOptions
from ..injection.companions import draw_companions
from ..scene import DEFAULT_BAD_PLANES, Scene
from .options_config import OptionsConfig, with_options
from .patch import (
    PATCH_DIMENSIONS,
    InputRefs,
    OutputRefs,
    Quantum,
    StackCoaddConnections,
    StackCoaddsConfig,
    patch_generator,
    read_scene,
)

__all__ = [
    "CompanionOptionsConfig",
    "MakeCompanionsConfig",
    "MakeCompanionsConnections",
    "MakeCompanionsTask",
]


class MakeCompanionsConnections(
    StackCoaddConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"injected_prefix": "injected_"},
):
    """Inputs and outputs of `MakeCompanionsTask`."""

    input_schema = cT.InitInput(
        doc="Schema of the merged detection catalogue.",
        name="object_detection_merged_schema",
        storageClass="SourceCatalog",
    )
    peak_schema = cT.InitInput(
        doc="Schema of its peaks.",
        name="object_detection_peak_schema",
        storageClass="PeakCatalog",
    )
    detections = cT.Input(
        doc="Merged detection catalogue, for hosts.",
        name="object_detection_merged",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    companions = cT.Output(
        doc="What to inject.",
        name="{injected_prefix}companions",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )


@with_options(CompanionOptions)
class CompanionOptionsConfig(OptionsConfig):
    """What to inject beside which objects."""


class MakeCompanionsConfig(
    StackCoaddsConfig, pipe_base.PipelineTaskConfig, pipelineConnections=MakeCompanionsConnections
):
    """Options of `MakeCompanionsTask`."""

    companions = ConfigField[CompanionOptionsConfig](doc="What to inject beside which objects.")
    seed = RangeField(
        dtype=int,
        doc="Another seed gives other companions; the same, the same in the same patch.",
        default=0,
        min=0,
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes on whose pixels no companion is put, and which say nothing of hosts.",
        default=list(DEFAULT_BAD_PLANES),
    )
    pseudo_columns = ListField[str](
        doc="Flags that mark sky objects, which are no hosts.",
        default=["merge_peak_sky", "sky_source"],
    )


class MakeCompanionsTask(pipe_base.PipelineTask):
    """Choose objects of a patch, and draw a companion for each."""

    ConfigClass = MakeCompanionsConfig
    _DefaultName = "makeCompanions"
    config: MakeCompanionsConfig

    def __init__(self, *, initInputs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        self.images = load_images("afw_cells" if self.config.use_cell_coadds else "afw")
        self.catalogues = load_catalogues("afw", initInputs, self.config.pseudo_columns)

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
        """Read a patch and write its companions."""
        data_id: Any = butlerQC.quantum.dataId
        catalogue = butlerQC.get(inputRefs.detections)
        if not len(catalogue):
            raise pipe_base.NoWorkFound(f"{data_id}: the detection catalogue is empty")
        coadds, backgrounds = self.config.coadd_refs(inputRefs)
        scene = read_scene(
            butlerQC,
            coadds,
            self.images,
            bad_planes=self.config.bad_mask_planes,
            background_refs=backgrounds,
            catalogue=catalogue,
        )
        rng = patch_generator(self.config.seed, data_id.required)
        try:
            companions = self.run(scene, self.catalogues.read(catalogue), rng).companions
        except ValueError as error:
            raise type(error)(f"{data_id}: {error}") from error
        if not len(companions):
            raise pipe_base.NoWorkFound(f"{data_id}: no object got a companion")
        butlerQC.put(companions, outputRefs.companions)

    def run(self, scene: Scene, detections: Detections, rng: np.random.Generator) -> pipe_base.Struct:
        """Draw companions; see `draw_companions` for parameters and table.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``companions`` (`astropy.table.Table`).
        """
        companions = draw_companions(
            scene,
            detections,
            self.config.companions.options(),
            rng,
            bad_planes=self.config.bad_mask_planes,
        )
        self.metadata["n_companions"] = len(companions)
        self.log.info("Drew %d companions beside %d peaks", len(companions), len(detections.peaks))
        return pipe_base.Struct(companions=companions)
