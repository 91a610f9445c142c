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

from collections.abc import Sequence

from ...footprint import Detections
from ...scene import Scene, SceneError
from ...scene_model import SceneModel
from .stacking import stack_bands

__all__ = ["ArrayDataModel"]


class ArrayDataModel:
    """See `~lsst.meas.residualdetect.data_models.DataModel`."""

    def scene(self, coadds: Sequence[Scene], bands: Sequence[str]) -> Scene:
        """Stack the bands; a coadd under another band's data id is refused."""
        for coadd, band in zip(coadds, bands, strict=True):
            if coadd.bands != (band,):
                raise SceneError(f"the coadd under band {band!r} says it is of {list(coadd.bands)}")
        return stack_bands(coadds)

    def detections(self, catalogue: Detections) -> Detections:
        """The catalogue itself."""
        return catalogue

    def model(self, models: SceneModel) -> SceneModel:
        """The models themselves."""
        return models

    def catalogue(self, detections: Detections, original: Detections) -> Detections:
        """The core catalogue itself."""
        return detections
