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

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from ..detections import Detections
from ..scene import Array, Scene
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
        "model_images": "ArrayCoadd",
        "residual_images": "ArrayCoadd",
    },
}

_ADAPTERS: Mapping[str, str] = {
    "afw": "lsst.meas.residualdetect.butler.afw:AfwDataModel",
    "array": "lsst.meas.residualdetect.butler.embedded:ArrayDataModel",
}


class DataModelError(ValueError):
    """A data model that cannot be used here."""


class DataModel(Protocol):
    """Turns what the Butler returns into core types, and results back."""

    @property
    def init_outputs(self) -> Mapping[str, Any]:
        """What a task writes before it has seen data, by the connection's
        name.
        """

    def stitch(self, coadd: Any, background: Any) -> Any:
        """A coadd in cells as one in a piece, its background subtracted."""

    def scene(self, coadds: Iterable[Any], bands: Sequence[str], catalogue: Any = None) -> Scene:
        """One scene from the coadds of its bands.

        Parameters
        ----------
        coadds : `~collections.abc.Iterable`
            What the Butler holds for each band.
        bands : `~collections.abc.Sequence` [`str`]
            Their bands, by data id.
        catalogue : optional
            The Butler's detection catalogue, for coadds that have a PSF only
            in places.
        """

    def detections(self, catalogue: Any) -> Detections:
        """Core catalogue from the Butler's."""

    def model(self, models: Any, catalogue: Any) -> SceneModel:
        """Core models from the Butler's, and from its catalogue that they
        were made of.
        """

    def catalogue(self, detections: Detections, original: Any) -> Any:
        """The Butler's catalogue, made from the one it gave and the core
        catalogue that was made of it.
        """

    def image(self, pixels: Array, scene: Scene, coadd: Any) -> Any:
        """What the Butler holds for a coadd, with other pixels: (y, x),
        float32, in the scene's box.
        """


def load_data_model(
    name: str, init_inputs: Mapping[str, Any] | None = None, pseudo_columns: Sequence[str] = ()
) -> DataModel:
    """Make the adapter of a data model.

    Parameters
    ----------
    name : `str`
        Which.
    init_inputs : `~collections.abc.Mapping`, optional
        What the task was given before it sees data: in the stack, schemas.
    pseudo_columns : `~collections.abc.Sequence` [`str`], optional
        Flags that make a parent a sky object.

    Raises
    ------
    DataModelError
        Raised if there is none of that name, or what it needs is not
        installed or not given.
    """
    if name not in _ADAPTERS:
        raise DataModelError(f"unknown data model {name!r}; known: {', '.join(_ADAPTERS)}")
    module, _, attribute = _ADAPTERS[name].partition(":")
    try:
        make = getattr(import_module(module), attribute)
    except ImportError as error:
        raise DataModelError(f"data model {name!r} cannot be used here: {error}") from error
    adapter: DataModel = make(init_inputs, pseudo_columns)
    return adapter
