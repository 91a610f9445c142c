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

"""What a detector is, and the ones there are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol

from ..candidates import Candidate
from ..scene import Array, Scene

__all__ = ["Detector", "DetectorError", "detector_names", "load_detector"]

# Class of each detector; a module is imported only when it is asked for.
_DETECTORS: Mapping[str, str] = {
    "matched_filter": "lsst.meas.residualdetect.detectors.matched_filter:MatchedFilter",
}


class DetectorError(ValueError):
    """A detector that does not exist or cannot be used here."""


class Detector(Protocol):
    """Looks at a scene and its model and says where sources are missing."""

    @property
    def default_threshold(self) -> float:
        """Score above which candidates are taken unless the user says
        otherwise.
        """

    def detect(self, scene: Scene, model: Array) -> list[Candidate]:
        """Find sources that the model lacks.

        Parameters
        ----------
        scene : `Scene`
            Coadds of all bands.
        model : `numpy.ndarray`, (band, y, x), float32
            All deblended sources summed, convolved to each band's PSF.

        Returns
        -------
        candidates : `list` [`Candidate`]
            Every candidate with a score, also those below the threshold.
        """


def detector_names() -> tuple[str, ...]:
    """Names that `load_detector` knows."""
    return tuple(_DETECTORS)


def load_detector(name: str) -> Detector:
    """Make a detector by name.

    Raises
    ------
    DetectorError
        Raised if there is none of that name.
    """
    if name not in _DETECTORS:
        raise DetectorError(f"unknown detector {name!r}; known: {', '.join(_DETECTORS)}")
    module, _, attribute = _DETECTORS[name].partition(":")
    detector: Detector = getattr(import_module(module), attribute)()
    return detector
