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


"""Coadds of the embedded repository, which are scenes of one band."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...scene import Array, Scene, SceneError

__all__ = ["ArrayImages"]


class ArrayImages:
    """See `~lsst.meas.residualdetect.butler.Images`."""

    def fetch(self, handle: Any) -> Any:
        """The whole coadd."""
        return handle.get()

    def read(self, coadd: Scene, band: str, *, catalogue: Any = None, background: Any = None) -> Scene:
        """The coadd itself; one under another band's data id is refused."""
        if coadd.bands != (band,):
            raise SceneError(f"the coadd under band {band!r} says it is of {list(coadd.bands)}")
        return coadd

    def picture(self, pixels: Array, scene: Scene, coadd: Scene) -> Scene:
        """The coadd with other pixels; those without data stay so."""
        no_data = coadd.bad(())[0]
        return replace(coadd, images=np.where(no_data, np.nan, pixels)[np.newaxis])
