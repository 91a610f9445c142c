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


"""As much of the stack's deblender as a pipeline's graph shows."""

from __future__ import annotations

import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import Config, ConfigField, ConfigurableField, Field
from lsst.pipe.base import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Task


class StackDeblendConnections(
    PipelineTaskConnections,
    dimensions=("skymap", "tract", "patch"),
):
    """Those of DeblendCoaddSourcesMultiTask in pipe_tasks, by name and type."""

    inputSchema = cT.InitInput(doc=".", name="in_schema", storageClass="SourceCatalog")  # noqa: N815
    peakSchema = cT.InitInput(doc=".", name="peak_schema", storageClass="PeakCatalog")  # noqa: N815
    outputSchema = cT.InitOutput(doc=".", name="out_schema", storageClass="SourceCatalog")  # noqa: N815
    mergedDetections, deblendedCatalog, objectParents, scarletModelData = (  # noqa: N815
        kind(doc=".", name=name, storageClass=storage, dimensions=("skymap", "tract", "patch"))
        for kind, name, storage in (
            (cT.Input, "merged", "SourceCatalog"),
            (cT.Output, "deblended", "SourceCatalog"),
            (cT.Output, "parents", "SourceCatalog"),
            (cT.Output, "models", "LsstScarletModelData"),
        )
    )
    coadds, coadds_cell, backgrounds, deconvolvedCoadds = (  # noqa: N815
        cT.Input(
            doc=".",
            name=name,
            storageClass=storage,
            dimensions=("skymap", "tract", "patch", "band"),
            multiple=True,
        )
        for name, storage in (
            ("coadds", "ExposureF"),
            ("cells", "MultipleCellCoadd"),
            ("backgrounds", "Background"),
            ("deconvolved", "ExposureF"),
        )
    )

    def __init__(self, *, config):
        super().__init__(config=config)
        for name in ("coadds",) if config.useCellCoadds else ("coadds_cell", "backgrounds"):
            delattr(self, name)


class StackIdConfig(Config):
    release_id = Field[int](doc=".", default=0)


class ScarletDeblendTask(Task):
    ConfigClass = Config
    _DefaultName = "scarlet"


class StackDeblendConfig(PipelineTaskConfig, pipelineConnections=StackDeblendConnections):
    useCellCoadds = Field[bool](doc=".", default=False)  # noqa: N815
    idGenerator = ConfigField[StackIdConfig](doc=".")  # noqa: N815
    multibandDeblend = ConfigurableField(target=ScarletDeblendTask, doc=".")  # noqa: N815


class DeblendCoaddSourcesMultiTask(PipelineTask):
    ConfigClass = StackDeblendConfig
    _DefaultName = "stack"


class ResidualScarletDeblendTask(ScarletDeblendTask):
    _DefaultName = "residual"


class RedeblendConnections(StackDeblendConnections, dimensions=("skymap", "tract", "patch")):
    """Those of this package's task, which cannot be imported without the stack."""

    old_objects, old_models, old_parents, candidates, new_objects = (
        kind(doc=".", name=name, storageClass=storage, dimensions=("skymap", "tract", "patch"))
        for kind, name, storage in (
            (cT.Input, "old_objects", "SourceCatalog"),
            (cT.Input, "old_models", "LsstScarletModelData"),
            (cT.Input, "old_parents", "SourceCatalog"),
            (cT.Input, "candidates", "ArrowAstropy"),
            (cT.Output, "new_objects", "ArrowAstropy"),
        )
    )


class RedeblendConfig(StackDeblendConfig, pipelineConnections=RedeblendConnections):
    pass


class RedeblendTask(DeblendCoaddSourcesMultiTask):
    ConfigClass = RedeblendConfig
    _DefaultName = "redeblend"
