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

"""What every task of a patch does first: read its coadds as one scene."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ChoiceField, Config, Field
from lsst.pipe.base.connections import DeferredDatasetRef

from ..butler import IMAGE_FORMS, Images
from ..butler.images.stack import stack_bands
from ..io.band_names import wavelength_order
from ..io.plausibility import check_plausible
from ..io.remarks import Remarks
from ..scene import Scene, SceneError

__all__ = [
    "BAND_DIMENSIONS",
    "PATCH_DIMENSIONS",
    "CoaddConnections",
    "ImagesConfig",
    "InputRefs",
    "OutputRefs",
    "Quantum",
    "StackCoaddConnections",
    "StackCoaddsConfig",
    "patch_generator",
    "read_scene",
    "set_storage_class",
]

# Types of what every task's runQuantum is given.
Quantum: TypeAlias = pipe_base.QuantumContext
InputRefs: TypeAlias = pipe_base.InputQuantizedConnection
OutputRefs: TypeAlias = pipe_base.OutputQuantizedConnection

PATCH_DIMENSIONS = ("skymap", "tract", "patch")
BAND_DIMENSIONS = (*PATCH_DIMENSIONS, "band")


def patch_generator(seed: int, data_id: Mapping[str, Any]) -> np.random.Generator:
    """Random numbers that are the same for the same data id, in whatever run."""
    words = [zlib.crc32(f"{name}={data_id[name]}".encode()) for name in sorted(data_id)]
    return np.random.default_rng([seed, *words])


def set_storage_class(connections: Any, name: str, storage_class: str) -> None:
    """Let a connection, if it is there, read or write another type."""
    connection = getattr(connections, name, None)
    if connection is not None:
        setattr(connections, name, dataclasses.replace(connection, storageClass=storage_class))


class ImagesConfig(Config):
    """For tasks of the embedded repository that read coadds."""

    images = ChoiceField[str](
        doc="What the Butler holds for a coadd.",
        default="array",
        allowed={name: form.doc for name, form in IMAGE_FORMS.items()},
    )


class CoaddConnections(pipe_base.PipelineTaskConnections, dimensions=PATCH_DIMENSIONS):
    """The coadds of a patch, in the form that `ImagesConfig` says."""

    coadds = cT.Input(
        doc="Coadds in all bands.",
        name="deep_coadd",
        storageClass="ArrayCoadd",
        dimensions=BAND_DIMENSIONS,
        multiple=True,
    )

    def __init__(self, *, config: Any) -> None:
        super().__init__(config=config)
        set_storage_class(self, "coadds", IMAGE_FORMS[config.images].storage_class)


class StackCoaddsConfig(Config):
    """For tasks of the stack that read the coadds of a patch."""

    use_cell_coadds = Field[bool](
        doc="Read coadds in cells, stitch them and subtract their backgrounds?",
        default=False,
    )

    def coadd_refs(self, refs: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        """References to the coadds, and to the backgrounds still in them."""
        return (refs.coadds_cell, refs.backgrounds) if self.use_cell_coadds else (refs.coadds, ())


class StackCoaddConnections(pipe_base.PipelineTaskConnections, dimensions=PATCH_DIMENSIONS):
    """The coadds of a patch, whole or in cells, as `StackCoaddsConfig` says."""

    coadds = cT.Input(
        doc="Coadds in all bands.",
        name="deep_coadd",
        storageClass="ExposureF",
        dimensions=BAND_DIMENSIONS,
        multiple=True,
    )
    coadds_cell = cT.Input(
        doc="Coadds in cells, in place of the others.",
        name="deep_coadd_cell_predetection",
        storageClass="MultipleCellCoadd",
        dimensions=BAND_DIMENSIONS,
        multiple=True,
    )
    backgrounds = cT.Input(
        doc="Backgrounds to subtract from coadds in cells.",
        name="deep_coadd_background",
        storageClass="Background",
        dimensions=BAND_DIMENSIONS,
        multiple=True,
    )

    def __init__(self, *, config: Any) -> None:
        super().__init__(config=config)
        for name in ("coadds",) if config.use_cell_coadds else ("coadds_cell", "backgrounds"):
            delattr(self, name)


def read_scene(
    butler_qc: pipe_base.QuantumContext,
    coadd_refs: Sequence[Any],
    images: Images,
    *,
    bands: Sequence[str] = (),
    bad_planes: Sequence[str],
    background_refs: Sequence[Any] = (),
    catalogue: Any = None,
    check: bool = False,
) -> Scene:
    """Read the coadds of a quantum as a scene.

    Parameters
    ----------
    butler_qc : `lsst.pipe.base.QuantumContext`
        Where to read.
    coadd_refs : `~collections.abc.Sequence`
        References to the coadds, in any order.
    images : `~lsst.meas.residualdetect.butler.Images`
        What the Butler holds.
    bands : `~collections.abc.Sequence` [`str`], optional
        Bands to read, in this order; all there are, in the order of
        wavelength, if empty.
    bad_planes : `~collections.abc.Sequence` [`str`]
        Mask planes whose pixels cannot be used.
    background_refs : `~collections.abc.Sequence`, optional
        References to the coadds' backgrounds, if the coadds are in cells.
    catalogue : optional
        The Butler's detection catalogue; see `~lsst.meas.residualdetect.butler.Images.read`.
    check : `bool`, optional
        Log what is likely wrong with the pixels: where they come from others,
        and enter here.

    Returns
    -------
    scene : `Scene`
        Never without a usable pixel.

    Raises
    ------
    SceneError
        Raised with the data id if a band asked for is missing or the coadds
        do not fit together.
    lsst.pipe.base.NoWorkFound
        Raised if every pixel is masked.
    """
    data_id = butler_qc.quantum.dataId
    by_band = {ref.dataId["band"]: ref for ref in coadd_refs}
    wanted = list(bands) or sorted(by_band, key=wavelength_order)
    missing = [band for band in wanted if band not in by_band]
    if missing:
        raise SceneError(f"{data_id}: no coadd in {missing}; there are {sorted(by_band)}")
    backgrounds = {ref.dataId["band"]: ref for ref in background_refs}

    def read(band: str) -> Scene:
        background = butler_qc.get(backgrounds[band]) if backgrounds else None
        coadd = images.fetch(butler_qc.get(DeferredDatasetRef(by_band[band])))
        return images.read(coadd, band, catalogue=catalogue, background=background)

    try:
        scene = stack_bands(map(read, wanted), len(wanted))
    except ValueError as error:
        raise SceneError(f"{data_id}: {error}") from error
    if scene.bad(bad_planes).all():
        raise pipe_base.NoWorkFound(f"{data_id}: every pixel of every band is masked")
    if check:
        check_plausible(scene, Remarks(), what=f"{data_id}")
    return scene
