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

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lsst.pipe.base import NoWorkFound, QuantumContext

from ..butler import DataModel
from ..scene import Scene, SceneError

__all__ = [
    "BAND_ORDER",
    "PATCH_DIMENSIONS",
    "patch_generator",
    "read_coadds",
    "read_scene",
    "wavelength_order",
]

PATCH_DIMENSIONS = ("skymap", "tract", "patch")

# Wavelength order; bands of other names follow alphabetically.
BAND_ORDER = "ugrizy"


def wavelength_order(band: str) -> tuple[int, str]:
    """Key to sort bands by."""
    place = BAND_ORDER.find(band)
    return (place if place >= 0 else len(BAND_ORDER), band)


def patch_generator(seed: int, data_id: Mapping[str, Any]) -> np.random.Generator:
    """Random numbers that are the same for the same data id, in whatever run."""
    words = [zlib.crc32(f"{name}={data_id[name]}".encode()) for name in sorted(data_id)]
    return np.random.default_rng([seed, *words])


def read_coadds(
    butler_qc: QuantumContext,
    coadd_refs: Sequence[Any],
    data_model: DataModel,
    bands: Sequence[str],
    background_refs: Sequence[Any] = (),
) -> Iterator[Any]:
    """Coadds of some bands, each read when it is asked for, with
    `read_scene`'s parameters; those in cells stitched.
    """
    coadds = {ref.dataId["band"]: ref for ref in coadd_refs}
    backgrounds = {ref.dataId["band"]: ref for ref in background_refs}
    for band in bands:
        coadd = butler_qc.get(coadds[band])
        if backgrounds:
            coadd = data_model.stitch(coadd, butler_qc.get(backgrounds[band]))
        yield coadd


def read_scene(
    butler_qc: QuantumContext,
    coadd_refs: Sequence[Any],
    data_model: DataModel,
    *,
    bands: Sequence[str] = (),
    bad_planes: Sequence[str],
    background_refs: Sequence[Any] = (),
    catalogue: Any = None,
) -> Scene:
    """Read the coadds of a quantum as a scene.

    Parameters
    ----------
    butler_qc : `lsst.pipe.base.QuantumContext`
        Where to read.
    coadd_refs : `~collections.abc.Sequence`
        References to the coadds, in any order.
    data_model : `DataModel`
        What the Butler holds.
    bands : `~collections.abc.Sequence` [`str`], optional
        Bands to read, in this order; all there are, in the order of
        wavelength, if empty.
    bad_planes : `~collections.abc.Sequence` [`str`]
        Mask planes whose pixels cannot be used.
    background_refs : `~collections.abc.Sequence`, optional
        References to the coadds' backgrounds, if the coadds are in cells.
    catalogue : optional
        The Butler's detection catalogue; see `DataModel.scene`.

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
    try:
        coadds = read_coadds(butler_qc, coadd_refs, data_model, wanted, background_refs)
        scene = data_model.scene(coadds, wanted, catalogue)
    except ValueError as error:
        raise SceneError(f"{data_id}: {error}") from error
    if scene.bad(bad_planes).all():
        raise NoWorkFound(f"{data_id}: every pixel of every band is masked")
    return scene
