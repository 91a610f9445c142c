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

"""Find unrecognised blends in the residuals of the scarlet deblender."""

# ruff: noqa: E402 (what is missing is said before it is missed)

from .installed import check_installed

check_installed()

from .detections import Detections, Footprint, Parent, Peak
from .release import __version__
from .scene import Scene, SceneError
from .scene_model import ParentModel, SceneModel, SourceModel

__all__ = [
    "Detections",
    "Footprint",
    "Parent",
    "ParentModel",
    "Peak",
    "Scene",
    "SceneError",
    "SceneModel",
    "SourceModel",
    "__version__",
]
