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


"""The stack's data model: lsst.afw exposures and catalogues, scarlet models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lsst.afw.detection import PeakCatalog
from lsst.afw.image import Exposure, ExposureF
from lsst.afw.table import SourceCatalog
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

from ..detections import Detections
from ..scene import Array, Scene
from ..scene_model import SceneModel
from .catalogues.afw import Schemas, read_catalogue, write_catalogue
from .data_model import DataModelError
from .images.afw import exposure_like, read_exposures, stitch_cells
from .models.afw import read_models

__all__ = ["AfwDataModel"]


class AfwDataModel:
    """See `~lsst.meas.residualdetect.butler.DataModel`."""

    def __init__(self, init_inputs: Mapping[str, Any] | None, pseudo_columns: Sequence[str]) -> None:
        missing = [name for name in ("input_schema", "peak_schema") if name not in (init_inputs or {})]
        if init_inputs is None or missing:
            raise DataModelError(
                f"data model 'afw' needs the init inputs {missing}: schemas of the catalogue"
            )
        self._schemas = Schemas(init_inputs["input_schema"].schema, init_inputs["peak_schema"].schema)
        self._pseudo_columns = tuple(pseudo_columns)

    @property
    def init_outputs(self) -> Mapping[str, Any]:
        """Schemas of the catalogue written, as empty catalogues."""
        return {
            "output_schema": SourceCatalog(self._schemas.source),
            "output_peak_schema": PeakCatalog(self._schemas.peak),
        }

    def stitch(self, coadd: Any, background: Any) -> ExposureF:
        """A cell-based coadd in one piece, its background subtracted."""
        return stitch_cells(coadd, background)

    def scene(self, coadds: Iterable[Exposure], bands: Sequence[str], catalogue: SourceCatalog) -> Scene:
        """Stack the bands."""
        return read_exposures(coadds, bands, catalogue)

    def detections(self, catalogue: SourceCatalog) -> Detections:
        """Top-level parents, sky objects marked."""
        return read_catalogue(catalogue, self._pseudo_columns)

    def model(self, models: LsstScarletModelData, catalogue: SourceCatalog) -> SceneModel:
        """Sources of all blends."""
        return read_models(models, catalogue)

    def catalogue(self, detections: Detections, original: SourceCatalog) -> SourceCatalog:
        """The catalogue with new peaks appended and footprints grown."""
        return write_catalogue(detections, original, self._schemas)

    def image(self, pixels: Array, scene: Scene, coadd: Exposure) -> ExposureF:
        """The coadd with other pixels."""
        return exposure_like(pixels, scene, coadd)
