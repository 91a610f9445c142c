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

"""The network's backbone: a small ResNet with a feature pyramid."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, CNNBlockBase
from fvcore.nn import weight_init
from torch import nn

from .precision import has_bfloat16

__all__ = ["FineFpn", "build_fine_fpn_backbone"]


class _Stem(CNNBlockBase):
    """One convolution of stride 2: sources are a few pixels wide, so that
    the further pooling of the usual stem would lose them.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(in_channels, out_channels, 2)
        self.conv1 = Conv2d(
            in_channels,
            out_channels,
            kernel_size=5,
            stride=2,
            padding=2,
            bias=False,
            norm=get_norm(norm, out_channels),
        )
        weight_init.c2_msra_fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu_(self.conv1(x))


class FineFpn(Backbone):
    """Feature pyramid of which only the finest level is used.

    Boxes are about ten pixels wide everywhere, so the coarser levels only
    lend their context to the finest one, of stride 2 (Lin et al. 2017, CVPR,
    Feature Pyramid Networks).

    Parameters
    ----------
    bottom_up : `detectron2.modeling.backbone.ResNet`
        Stages of strides 2, 4, 8, ...
    out_channels : `int`
        Channels of the output.
    norm : `str`
        Normalisation, in detectron2's words.
    autocast : `bool`
        Whether to train in bfloat16, where batch statistics hide rounding
        errors, on devices that have units for it; see `has_bfloat16`.
        Inference is in float32.
    """

    def __init__(self, bottom_up: ResNet, out_channels: int, norm: str, autocast: bool) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.autocast = autocast
        self.levels = list(bottom_up.output_shape())
        shapes = bottom_up.output_shape().values()
        self.lateral = nn.ModuleList(
            Conv2d(shape.channels, out_channels, kernel_size=1, bias=False, norm=get_norm(norm, out_channels))
            for shape in shapes
        )
        self.output = Conv2d(
            out_channels,
            out_channels,
            kernel_size=3,
            padding=1,
            bias=False,
            norm=get_norm(norm, out_channels),
            activation=functional.relu_,
        )
        for layer in (*self.lateral, self.output):
            weight_init.c2_msra_fill(layer)
        self._out_features = ["p1"]
        self._out_feature_channels = {"p1": out_channels}
        self._out_feature_strides = {"p1": min(shape.stride for shape in shapes)}
        self._coarsest = max(shape.stride for shape in shapes)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this."""
        return self._coarsest

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of the one output, ``p1``."""
        return {"p1": ShapeSpec(self._out_feature_channels["p1"], stride=self._out_feature_strides["p1"])}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Features (n, channel, y / 2, x / 2) of images (n, channel, y, x)."""
        half = self.autocast and self.training and has_bfloat16(x.device.type)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            features = self.bottom_up(x.contiguous(memory_format=torch.channels_last))
            coarse_to_fine = list(zip(reversed(self.levels), reversed(self.lateral), strict=True))
            total: torch.Tensor = coarse_to_fine[0][1](features[coarse_to_fine[0][0]])
            for level, lateral in coarse_to_fine[1:]:
                total = functional.interpolate(total, scale_factor=2.0, mode="nearest")
                total = total + lateral(features[level])
            p1 = self.output(functional.relu(total))
        return {"p1": p1.float()}


@BACKBONE_REGISTRY.register()
def build_fine_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FineFpn:
    """Build the backbone from ``cfg.MODEL.FINE_FPN``."""
    options = cfg.MODEL.FINE_FPN
    stages = []
    before = options.STAGE_CHANNELS[0]
    for number, (channels, blocks) in enumerate(
        zip(options.STAGE_CHANNELS, options.STAGE_BLOCKS, strict=True)
    ):
        strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
        stages.append(
            ResNet.make_stage(
                BasicBlock,
                blocks,
                in_channels=before,
                out_channels=channels,
                stride_per_block=strides,
                norm=options.NORM,
            )
        )
        before = channels
    bottom_up = ResNet(
        _Stem(input_shape.channels, options.STAGE_CHANNELS[0], options.NORM),
        stages,
        out_features=[f"res{number + 2}" for number in range(len(stages))],
    )
    return FineFpn(bottom_up, options.OUT_CHANNELS, options.NORM, options.AUTOCAST)
