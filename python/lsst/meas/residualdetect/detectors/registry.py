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

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol

from ..candidates import Candidate
from ..detections import Peak
from ..network.package import DEFAULT_MODEL, load_package
from ..scene import Array, Scene

__all__ = [
    "DEFAULT_DETECTOR",
    "NETWORK_DETECTORS",
    "Detector",
    "DetectorError",
    "detector_names",
    "load_detector",
]

# The detector that is used unless the user names another.
DEFAULT_DETECTOR = "onnx"

# What to install for each detector that runs a network.
NETWORK_DETECTORS: Mapping[str, str] = {
    "onnx": "onnxruntime",
    "detectron2": "detectron2, torchvision and safetensors",
}

# Class of what runs the network; its module is imported only when asked for.
_NETWORKS: Mapping[str, str] = {
    "onnx": "..network.onnx:OnnxNetwork",
    "detectron2": "..network.detectron2:Detectron2Network",
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
    return ("matched_filter", *NETWORK_DETECTORS)


def load_detector(name: str, model: str = "") -> Detector:
    """Make a detector by name.

    Parameters
    ----------
    name : `str`
        One of `detector_names`.
    model : `str`, optional
        Model package of a detector that runs a network: a folder, or a name
        under ``models/``; the default model if empty.

    Returns
    -------
    detector : `Detector`
        The detector. A network is loaded when it is first used.

    Raises
    ------
    DetectorError
        Raised if there is none of that name, or it needs what is not
        installed.
    ModelPackageError
        Raised if there is no such model package, or it is not whole.
    """
    if name not in detector_names():
        raise DetectorError(f"unknown detector {name!r}; known: {', '.join(detector_names())}")
    if name not in NETWORK_DETECTORS:
        from .matched_filter import MatchedFilter

        return MatchedFilter()
    from .mask_rcnn import MaskRcnn

    package = load_package(model or DEFAULT_MODEL)
    module, _, attribute = _NETWORKS[name].partition(":")
    try:
        network = getattr(import_module(module, __package__), attribute)
    except ImportError as error:
        raise DetectorError(
            f"detector {name!r} cannot be used here: {error}; it needs {NETWORK_DETECTORS[name]}"
        ) from error
    return MaskRcnn(package, network(package))
