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

"""What a data model is, and the ones there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from ..footprint import Detections
from ..scene import Scene
from ..scene_model import SceneModel

__all__ = ["STORAGE_CLASSES", "DataModel", "DataModelError", "load_data_model"]

# Storage classes that stand in for those a connection declares, which are the
# stack's, by the connection's name. Kept apart from the adapters so that a
# pipeline can be read where an adapter cannot be imported.
STORAGE_CLASSES: Mapping[str, Mapping[str, str]] = {
    "afw": {},
    "array": {
        "coadds": "ArrayCoadd",
        "detections": "ArrayDetections",
        "models": "ArrayModels",
        "new_detections": "ArrayDetections",
    },
}

_ADAPTERS: Mapping[str, str] = {
    "array": "lsst.meas.residualdetect.data_models.array.adapter:ArrayDataModel",
}


class DataModelError(ValueError):
    """A data model that cannot be used here."""


class DataModel(Protocol):
    """Turns what the Butler returns into core types, and results back."""

    def scene(self, coadds: Sequence[Any], bands: Sequence[str]) -> Scene:
        """One scene from the coadds of its bands.

        Parameters
        ----------
        coadds : `~collections.abc.Sequence`
            What the Butler holds for each band.
        bands : `~collections.abc.Sequence` [`str`]
            Their bands, by data id.
        """

    def detections(self, catalogue: Any) -> Detections:
        """Core catalogue from the Butler's."""

    def model(self, models: Any) -> SceneModel:
        """Core models from the Butler's."""

    def catalogue(self, detections: Detections, original: Any) -> Any:
        """The Butler's catalogue, made from the one it gave and the core
        catalogue that was made of it.
        """


def load_data_model(name: str) -> DataModel:
    """Make the adapter of a data model.

    Raises
    ------
    DataModelError
        Raised if there is none of that name here.
    """
    if name not in _ADAPTERS:
        raise DataModelError(
            f"data model {name!r} cannot be used in this version; set data_model to one of: "
            + ", ".join(_ADAPTERS)
        )
    module, _, attribute = _ADAPTERS[name].partition(":")
    adapter: DataModel = getattr(import_module(module), attribute)()
    return adapter
