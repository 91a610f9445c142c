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

"""Models of the stack's deblender to the core's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lsst.afw.table import SourceCatalog
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

from ...scene import Array
from ...scene_model import ParentModel, SceneModel, SourceModel
from ..catalogues.afw import peak_ids
from ..forms import DataModelError

__all__ = ["AfwModels", "object_fluxes"]


def _too_old(missing: str) -> DataModelError:
    return DataModelError(
        f"the scarlet models have no {missing} in their metadata: they were written by an older "
        "meas_extensions_scarlet; deblend again with the present one"
    )


def _components(peak_id: int, source: Any) -> Iterator[SourceModel]:
    for component in source.components:
        origin = (int(component.origin[0]), int(component.origin[1]))
        if component.component_type == "factorized":
            yield SourceModel(
                peak_id,
                np.asarray(component.spectrum, np.float32),
                np.asarray(component.morph, np.float32),
                origin,
            )
        else:
            # A cube: in each band a morphology of its own.
            for band, pixels in enumerate(component.model):
                spectrum = np.zeros(len(component.model), np.float32)
                spectrum[band] = 1
                yield SourceModel(peak_id, spectrum, np.asarray(pixels, np.float32), origin)


def _blends(data: Any) -> Iterator[Any]:
    """Blends with sources: of a parent that was subdivided, its parts."""
    children = getattr(data, "children", None)
    if children is None:
        yield data
    else:
        for child in children.values():
            yield from _blends(child)


def _parent_model(
    parent: int, n_peaks: int, data: Any, numbers: Mapping[tuple[int, int], int]
) -> ParentModel:
    sources: list[SourceModel] = []
    seen = set()
    for blend in _blends(data):
        for source in blend.sources.values():
            peak = (source.metadata or {}).get("peak_id")
            if peak is None:
                raise _too_old(f"peak_id of a source in parent {parent}")
            number = numbers.get((parent, int(peak)))
            if number is None:
                raise DataModelError(
                    f"the models have a source of peak {peak} in parent {parent}, which the catalogue "
                    "lacks: they were made of another catalogue"
                )
            seen.add(number)
            sources.extend(_components(number, source))
    finite = all(np.isfinite(s.spectrum).all() and np.isfinite(s.morphology).all() for s in sources)
    failure = ""
    if not seen and n_peaks:
        failure = f"none of its {n_peaks} peaks has a model"
    elif not finite:
        failure = "its model is not finite"
    return ParentModel(parent, tuple(sources), failure=failure)


def object_fluxes(models: LsstScarletModelData) -> dict[int, Array]:
    """Flux of each object that has a model, its components summed.

    Returns
    -------
    fluxes : `dict` [`int`, `numpy.ndarray`]
        Flux in each band of the models, (band,), image units, by the
        object's id.
    """
    return {
        int(source.metadata["id"]): np.sum([part.flux for part in _components(0, source)], axis=0)
        for data in models.blends.values()
        for blend in _blends(data)
        for source in blend.sources.values()
        if source.components
    }


class AfwModels:
    """See `~lsst.meas.residualdetect.butler.Models`."""

    def read(self, models: LsstScarletModelData, catalogue: SourceCatalog) -> SceneModel:
        """Deblended sources of a patch.

        Parameters
        ----------
        models : `lsst.meas.extensions.scarlet.io.LsstScarletModelData`
            What the deblender wrote.
        catalogue : `lsst.afw.table.SourceCatalog`
            The merged detections that it deblended.

        Returns
        -------
        model : `SceneModel`
            A model of each parent that was deblended; a parent of which all
            failed says so in ``failure``, and peaks may lack a source. Isolated sources, which are no models
            but pixels of the coadds, are left out.

        Raises
        ------
        DataModelError
            Raised if the models were written in a format without PSFs and bands,
            or are of another catalogue.
        """
        metadata = models.metadata or {}
        missing = [name for name in ("bands", "psf", "model_psf") if metadata.get(name) is None]
        if missing:
            raise _too_old(", ".join(missing))
        numbers = peak_ids(catalogue)
        n_peaks = {int(record.getId()): len(record.getFootprint().peaks) for record in catalogue}
        unknown = [int(parent) for parent in models.blends if int(parent) not in n_peaks]
        if unknown:
            raise DataModelError(
                f"the models are of parents {unknown[:5]}, which the catalogue lacks: they were made of "
                "another catalogue"
            )
        return SceneModel(
            bands=tuple(str(band) for band in metadata["bands"]),
            psfs=np.asarray(metadata["psf"], np.float32),
            model_psf=np.asarray(metadata["model_psf"], np.float32),
            parents=tuple(
                _parent_model(int(parent), n_peaks[int(parent)], data, numbers)
                for parent, data in models.blends.items()
            ),
        )
