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

"""The package's version: that which scons wrote, or else its installed metadata's."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    # Not in the repository.
    __version__: str = import_module(".version", __package__).__version__
except ModuleNotFoundError:
    try:
        __version__ = version("lsst-meas-residualdetect")
    except PackageNotFoundError:  # on the path, but neither built nor installed
        __version__ = "unknown"
