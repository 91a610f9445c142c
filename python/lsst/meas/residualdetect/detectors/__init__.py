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

"""Detectors of unrecognised sources, by name.

Every module here registers its detectors, and so does what other packages
offer in the entry-point group ``lsst.meas.residualdetect.detectors``: names
of detectors, and classes with a ``ConfigClass``.
"""

import logging
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from .registry import (
    DEFAULT_DETECTOR,
    DETECTORS,
    Detector,
    DetectorError,
    detector_names,
    load_detector,
    takes_model,
)

__all__ = [
    "DEFAULT_DETECTOR",
    "DETECTORS",
    "Detector",
    "DetectorError",
    "detector_names",
    "load_detector",
    "takes_model",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
for _entry in entry_points(group=__name__):
    try:
        _offered = _entry.load()
        if DETECTORS.get(_entry.name) is not _offered:  # its module may have registered it
            DETECTORS.register(_entry.name, _offered)
    except (
        ImportError,
        AttributeError,
        RuntimeError,
        TypeError,
    ) as _error:  # what loading and register raise
        logging.getLogger(__name__).warning("detector %r cannot be used: %s", _entry.name, _error)
