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

"""The embedded world's data model: its Butler holds the core types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..detections import Detections
from ..scene import Array, Scene, SceneError
from ..scene_model import SceneModel
from .images.embedded import stack_bands

__all__ = ["ArrayDataModel"]


class ArrayDataModel:
    """See `~lsst.meas.residualdetect.butler.DataModel`."""

    def __init__(self, init_inputs: Mapping[str, Any] | None, pseudo_columns: Sequence[str]) -> None:
        """Nothing to know beforehand, and no sky objects to mark."""

    @property
    def init_outputs(self) -> Mapping[str, Any]:
        """None: the core types have no schemas."""
        return {}

    def stitch(self, coadd: Any, background: Any) -> Scene:
        """Refused: there are no cells."""
        raise NotImplementedError("data model 'array' has no cell-based coadds")

    def scene(self, coadds: Iterable[Scene], bands: Sequence[str], catalogue: Any = None) -> Scene:
        """Stack the bands; a coadd under another band's data id is refused."""
        stack = list(coadds)
        for coadd, band in zip(stack, bands, strict=True):
            if coadd.bands != (band,):
                raise SceneError(f"the coadd under band {band!r} says it is of {list(coadd.bands)}")
        return stack_bands(stack)

    def detections(self, catalogue: Detections) -> Detections:
        """The catalogue itself."""
        return catalogue

    def model(self, models: SceneModel, catalogue: Detections) -> SceneModel:
        """The models themselves."""
        return models

    def catalogue(self, detections: Detections, original: Detections) -> Detections:
        """The core catalogue itself."""
        return detections

    def image(self, pixels: Array, scene: Scene, coadd: Scene) -> Scene:
        """The coadd with other pixels; those without data stay so."""
        no_data = coadd.mask & np.int32(1 << coadd.mask_planes["NO_DATA"]) != 0
        return replace(coadd, images=np.where(no_data, np.nan, pixels))
