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


"""The forms in which a Butler holds coadds, catalogues and models.

A form is a module that turns what the Butler returns into core types, and
results back, and its entry in one of the tables here. A task composes one form
of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from ..detections import Detections
from ..scene import Array, Scene
from ..scene_model import SceneModel

__all__ = [
    "CATALOGUE_FORMS",
    "IMAGE_FORMS",
    "MODEL_FORMS",
    "Catalogues",
    "DataModelError",
    "Form",
    "Images",
    "Models",
    "image_form_of",
    "load_catalogues",
    "load_images",
    "load_models",
]


class DataModelError(ValueError):
    """A form that cannot be used here, or a dataset that is not of it."""


@dataclass(frozen=True)
class Form:
    """One form, known before its adapter can be imported: a pipeline can be
    read without the stack.

    Parameters
    ----------
    storage_class : `str`
        The Butler's name for what is read.
    adapter : `str`
        Module in this package, and class in it, with a colon between.
    doc : `str`
        What it is, for the help of config fields.
    written : `str`, optional
        The Butler's name for what is written, if that is another.
    """

    storage_class: str
    adapter: str
    doc: str
    written: str = ""

    @property
    def output_storage_class(self) -> str:
        """The Butler's name for what is written."""
        return self.written or self.storage_class


class Images(Protocol):
    """Coadds of single bands."""

    def fetch(self, handle: Any) -> Any:
        """What `read` takes.

        Parameters
        ----------
        handle : `lsst.daf.butler.DeferredDatasetHandle`
            The coadd in the Butler; only what is needed is read.
        """

    def read(self, coadd: Any, band: str, *, catalogue: Any = None, background: Any = None) -> Scene:
        """One band as a scene.

        Parameters
        ----------
        coadd : `object`
            What the Butler holds.
        band : `str`
            Its band, by data id.
        catalogue : optional
            The Butler's detection catalogue, for coadds that have a PSF only
            in places.
        background : optional
            Background that is still in the coadd, if it is kept apart.
        """

    def picture(self, pixels: Array, scene: Scene, coadd: Any) -> Any:
        """What the Butler is to hold for a coadd with other pixels: (y, x),
        float32, in the scene's box.
        """


class Catalogues(Protocol):
    """Merged detection catalogues."""

    @property
    def init_outputs(self) -> Mapping[str, Any]:
        """What a task writes before it has seen data, by the connection's
        name.
        """

    def read(self, catalogue: Any) -> Detections:
        """Core catalogue from the Butler's."""

    def write(self, detections: Detections, original: Any) -> Any:
        """The Butler's catalogue, made from the one it gave and the core
        catalogue that was made of it.
        """


class Models(Protocol):
    """Deblended models."""

    def read(self, models: Any, catalogue: Any) -> SceneModel:
        """Core models from the Butler's, and from its catalogue that they
        were made of.
        """


IMAGE_FORMS: Mapping[str, Form] = {
    "afw": Form("ExposureF", "images.afw:AfwImages", "lsst.afw exposures (the stack)"),
    "afw_cells": Form(
        "MultipleCellCoadd",
        "images.afw:AfwCellImages",
        "lsst.cell_coadds coadds, stitched to exposures and their backgrounds subtracted (the stack)",
        written="ExposureF",
    ),
    "cell_coadd": Form(
        "CellCoadd",
        "images.lsst_images:CellCoaddImages",
        "lsst.images coadds in cells (Rubin's data preview 2)",
        written="MaskedImageV2",
    ),
    "masked_image": Form(
        "MaskedImageV2",
        "images.lsst_images:MaskedImages",
        "lsst.images masked images, whose PSF is measured from their stars",
    ),
    "array": Form("ArrayCoadd", "images.embedded:ArrayImages", "the package's own (the embedded repository)"),
}

# The two that follow share their names: those of the config field data_model.
CATALOGUE_FORMS: Mapping[str, Form] = {
    "afw": Form("SourceCatalog", "catalogues.afw:AfwCatalogues", "lsst.afw source catalogues"),
    "array": Form("ArrayDetections", "catalogues.embedded:ArrayCatalogues", "the package's own"),
}

MODEL_FORMS: Mapping[str, Form] = {
    "afw": Form("LsstScarletModelData", "models.afw:AfwModels", "lsst.meas.extensions.scarlet models"),
    "array": Form("ArrayModels", "models.embedded:ArrayModels", "the package's own"),
}


def _load(name: str, forms: Mapping[str, Form], *arguments: Any) -> Any:
    if name not in forms:
        raise DataModelError(f"unknown data model {name!r}; known: {', '.join(forms)}")
    module, _, adapter = forms[name].adapter.partition(":")
    try:
        make = getattr(import_module(f"{__package__}.{module}"), adapter)
    except ImportError as error:
        raise DataModelError(f"data model {name!r} cannot be used here: {error}") from error
    return make(*arguments)


def load_images(name: str) -> Images:
    """The adapter of a form of coadds.

    Raises
    ------
    DataModelError
        Raised if there is none of that name, or what it needs is not
        installed.
    """
    images: Images = _load(name, IMAGE_FORMS)
    return images


def load_catalogues(
    name: str, init_inputs: Mapping[str, Any] | None = None, pseudo_columns: Sequence[str] = ()
) -> Catalogues:
    """The adapter of a form of catalogues.

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
    catalogues: Catalogues = _load(name, CATALOGUE_FORMS, init_inputs, pseudo_columns)
    return catalogues


def load_models(name: str) -> Models:
    """The adapter of a form of models, with `load_images`'s errors."""
    models: Models = _load(name, MODEL_FORMS)
    return models


def image_form_of(storage_class: str) -> str:
    """Name of the form of coadds that the Butler stores under a name.

    Raises
    ------
    DataModelError
        Raised if none is stored so.
    """
    for name, form in IMAGE_FORMS.items():
        if form.storage_class == storage_class:
            return name
    known = ", ".join(form.storage_class for form in IMAGE_FORMS.values())
    raise DataModelError(f"coadds stored as {storage_class} cannot be read; known: {known}")
