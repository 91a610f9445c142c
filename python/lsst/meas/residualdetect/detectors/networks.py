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

"""Detectors that run a network of a model package."""

from __future__ import annotations

from lsst.pex.config import Config, Field, RangeField

from ..network.package import DEFAULT_MODEL, ModelPackage, load_package
from ..network.tiling import Network
from .mask_rcnn import BAND_SNR, DEFAULT_MIN_SCORE, DEFAULT_TILE_SIZE, MaskRcnn
from .registry import DETECTORS, DetectorError

__all__ = ["Detectron2Config", "NetworkConfig", "OnnxConfig"]


class NetworkConfig(Config):
    """Options of whatever runs the network."""

    model = Field[str](doc="Model package: a folder, or a name under models/.", default=DEFAULT_MODEL)
    min_score = RangeField(
        dtype=float,
        doc="What is less likely a source than this is not even a candidate.",
        default=DEFAULT_MIN_SCORE,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
    )
    band_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio at which a band counts as having seen a candidate.",
        default=BAND_SNR,
        min=0.0,
    )
    tile_size = RangeField(
        dtype=int,
        doc="Largest side of the tiles that an image is looked at in; the package's own if that is "
        "smaller. Memory goes with its square. Pixels.",
        default=DEFAULT_TILE_SIZE,
        min=1,
    )
    n_tiles = RangeField(
        dtype=int,
        doc="Tiles that are looked at at a time; if not given two, where there are threads for them.",
        default=None,
        optional=True,
        min=1,
    )


class OnnxConfig(NetworkConfig):
    """Options of the detector ``onnx``, which runs on the CPU."""

    n_threads = RangeField(
        dtype=int,
        doc="Threads for a tile; if not given its part of OMP_NUM_THREADS of the environment, which is 1 in "
        "pipetask, or else of the cores.",
        default=None,
        optional=True,
        min=1,
    )


class Detectron2Config(NetworkConfig):
    """Options of the detector ``detectron2``."""

    device = Field[str](
        doc="Where to compute: cpu, cuda or cuda:N; a GPU, if there is one, if not given.",
        default=None,
        optional=True,
    )

    def setDefaults(self) -> None:  # noqa: N802
        """One tile at a time, for a GPU."""
        self.n_tiles = 1


def _cannot(name: str, error: ImportError, needs: str) -> DetectorError:
    return DetectorError(f"detector {name!r} cannot be used here: {error}; it needs {needs}")


def _onnx(config: OnnxConfig) -> MaskRcnn:
    package = load_package(config.model)
    try:
        from ..network.onnx import OnnxNetwork
    except ImportError as error:
        raise _cannot("onnx", error, "onnxruntime") from error
    return _mask_rcnn(package, OnnxNetwork(package, config.n_threads), config)


def _detectron2(config: Detectron2Config) -> MaskRcnn:
    package = load_package(config.model)
    try:
        from ..network.detectron2 import Detectron2Network
    except ImportError as error:
        raise _cannot("detectron2", error, "detectron2, torchvision and safetensors") from error
    return _mask_rcnn(package, Detectron2Network(package, config.device), config)


def _mask_rcnn(package: ModelPackage, network: Network, config: NetworkConfig) -> MaskRcnn:
    return MaskRcnn(
        package,
        network,
        min_score=config.min_score,
        band_snr=config.band_snr,
        tile_size=config.tile_size,
        n_tiles=config.n_tiles,
    )


DETECTORS.register("onnx", _onnx, OnnxConfig)
DETECTORS.register("detectron2", _detectron2, Detectron2Config)
