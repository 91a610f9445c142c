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

from collections.abc import Sequence
from typing import Any, Protocol

from lsst.pex.config import Config, makeRegistry

from ..candidates import Candidate
from ..detections import Peak
from ..scene import Array, Scene

__all__ = [
    "DEFAULT_DETECTOR",
    "DETECTORS",
    "Detector",
    "DetectorError",
    "detector_names",
    "load_detector",
    "takes_model",
]

# The detector that is used unless the user names another.
DEFAULT_DETECTOR = "onnx"

DETECTORS = makeRegistry("What makes a `Detector` of its config, by name.")


class DetectorError(ValueError):
    """A detector that does not exist or cannot be used here."""


class Detector(Protocol):
    """Looks at a scene and its model and says where sources are missing."""

    @property
    def default_threshold(self) -> float:
        """Score above which candidates are taken unless the user says
        otherwise.
        """

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """Find sources that the model lacks.

        Parameters
        ----------
        scene : `Scene`
            Coadds of all bands.
        model : `numpy.ndarray`, (band, y, x), float32
            All deblended sources summed, convolved to each band's PSF.
        peaks : `~collections.abc.Sequence` [`Peak`]
            What the deblender was told of, in patch coordinates.

        Returns
        -------
        candidates : `list` [`Candidate`]
            Every candidate with a score, also those below the threshold.
        """


def detector_names() -> tuple[str, ...]:
    """Names that `load_detector` knows."""
    return tuple(sorted(DETECTORS))


def _config(name: str) -> Config:
    if name not in DETECTORS:
        raise DetectorError(f"unknown detector {name!r}; known: {', '.join(detector_names())}")
    return DETECTORS[name].ConfigClass()


def takes_model(name: str) -> bool:
    """Whether a detector has the option ``model``, a model package."""
    return "model" in _config(name)


def load_detector(name: str, model: str = "", **options: Any) -> Detector:
    """Make a detector by name.

    Parameters
    ----------
    name : `str`
        One of `detector_names`.
    model : `str`, optional
        Model package of a detector that runs a network: a folder, or a name
        under ``models/``; its default if empty.
    **options
        Fields of the detector's config.

    Returns
    -------
    detector : `Detector`
        The detector. A network is loaded when it is first used.

    Raises
    ------
    DetectorError
        Raised if there is none of that name, it has no such option, or it
        needs what is not installed.
    ModelPackageError
        Raised if there is no such model package, or it is not whole.
    """
    config = _config(name)
    if model and "model" in config:
        options["model"] = model
    for option, value in options.items():
        if option not in config:
            raise DetectorError(
                f"detector {name!r} has no option {option!r}; it has {', '.join(config) or 'none'}"
            )
        try:
            setattr(config, option, value)
        except ValueError as error:
            raise DetectorError(f"detector {name!r}: {' '.join(str(error).split())}") from error
    return DETECTORS[name](config=config)
