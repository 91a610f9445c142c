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

"""Scene files without a Butler: what the commands on them share."""

from __future__ import annotations

from pathlib import Path

from ..detection import detect, detections_at
from ..detections import Detections
from ..io.scene_file import SceneFile
from ..scene import SceneError

__all__ = ["detections_of"]


def detections_of(content: SceneFile, path: Path) -> Detections:
    """Catalogue of a scene file's own peaks, or of detected ones.

    Raises
    ------
    SceneError
        Raised with the file's name if its peaks do not fit its pixels.
    """
    if content.peaks is None:
        return detect(content.scene)
    try:
        return detections_at(content.scene, content.peaks, content.footprints)
    except ValueError as error:
        raise SceneError(f"{path}: {error}") from error
