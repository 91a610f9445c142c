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

"""Runs the network with Detectron2, on the GPU if there is one."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from safetensors.torch import load_file

from ..scene import Array
from .modeling.config import add_options
from .package import ModelPackage

__all__ = ["Detectron2Network"]


class Detectron2Network:
    """A `Network` from a package's ``detectron2.yaml`` and
    ``weights.safetensors``.

    Parameters
    ----------
    package : `ModelPackage`
        Where the network is. It is loaded when it is first used.
    device : `str`, optional
        Where to compute, in torch's words; on the GPU, if there is one, if
        absent.

    Raises
    ------
    ModelPackageError
        Raised if the package lacks one of the files.
    """

    def __init__(self, package: ModelPackage, device: str | None = None) -> None:
        self._config = package.file("detectron2.yaml")
        self._weights = package.file("weights.safetensors")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _model(self) -> Any:
        cfg = add_options(get_cfg())
        # Detectron2 would let a configuration file run code.
        cfg.merge_from_file(str(self._config), allow_unsafe=False)
        cfg.MODEL.DEVICE = self.device
        model = build_model(cfg)
        model.load_state_dict(load_file(self._weights, device=self.device))
        return model.eval()

    def find(self, channels: Array) -> Any:
        """What Detectron2 finds: `detectron2.structures.Instances`."""
        with torch.inference_mode():
            return self._model.inference([{"image": torch.from_numpy(channels)}], do_postprocess=False)[0]

    def __call__(self, channels: Array) -> tuple[Array, Array, Array]:
        """See `Network`."""
        found = self.find(channels)
        boxes, scores, masks = found.pred_boxes.tensor, found.scores, found.pred_masks[:, 0]
        return boxes.cpu().numpy(), scores.cpu().numpy(), masks.cpu().numpy()
