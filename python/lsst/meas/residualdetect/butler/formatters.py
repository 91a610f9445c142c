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

"""How the embedded Butler repository writes and reads the core types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from lsst.daf.butler import FormatterV2
from lsst.resources import ResourcePath

from ..io.fits_coadd import read_coadd, write_coadd
from ..io.fits_detections import read_detections, write_detections
from ..io.fits_models import read_model, write_model

__all__ = ["CoaddFormatter", "DetectionsFormatter", "ModelFormatter"]


class _FitsFormatter(FormatterV2):
    """A formatter that hands a local file to a pair of functions."""

    default_extension = ".fits"
    can_read_from_local_file = True
    reader: ClassVar[staticmethod[[Path], Any]]
    writer: ClassVar[staticmethod[[Path, Any], None]]

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Read the whole dataset."""
        return type(self).reader(Path(path))

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Write the whole dataset; the Butler then moves it into place."""
        type(self).writer(Path(uri.ospath), in_memory_dataset)


class CoaddFormatter(_FitsFormatter):
    """A `~lsst.meas.residualdetect.Scene` of one band."""

    reader = staticmethod(read_coadd)
    writer = staticmethod(write_coadd)


class DetectionsFormatter(_FitsFormatter):
    """A `~lsst.meas.residualdetect.Detections` catalogue."""

    reader = staticmethod(read_detections)
    writer = staticmethod(write_detections)


class ModelFormatter(_FitsFormatter):
    """A `~lsst.meas.residualdetect.SceneModel`."""

    reader = staticmethod(read_model)
    writer = staticmethod(write_model)
