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


"""The Object table, with what residual detection says of an object."""

from __future__ import annotations

from typing import Any

from lsst.pex.config import Field
from lsst.pipe.tasks.functors import CompositeFunctor
from lsst.pipe.tasks.postprocess import (
    TransformObjectCatalogConfig,
    TransformObjectCatalogConnections,
    TransformObjectCatalogTask,
)

__all__ = ["ResidualObjectCatalogConfig", "ResidualObjectCatalogTask"]


class ResidualObjectCatalogConfig(
    TransformObjectCatalogConfig, pipelineConnections=TransformObjectCatalogConnections
):
    """Options of `ResidualObjectCatalogTask`: the stack's, and one."""

    more_functors = Field[str](
        doc="Functor file whose columns are written beside those of functorFile.",
        default="$MEAS_RESIDUALDETECT_DIR/schemas/ResidualObject.yaml",
    )


class ResidualObjectCatalogTask(TransformObjectCatalogTask):
    """TransformObjectCatalogTask that reads two functor files, as one cannot
    include another: the stack's, and that of this package.
    """

    ConfigClass = ResidualObjectCatalogConfig
    _DefaultName = "transformObjectCatalog"
    config: ResidualObjectCatalogConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.funcs.update(CompositeFunctor.from_file(self.config.more_functors))
