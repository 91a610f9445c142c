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


"""A Mask R-CNN in the form in which ONNX Runtime is fastest.

The same sums in another order: scores and masks are those of Detectron2 to a
few in 100,000.
"""

from __future__ import annotations

from copy import deepcopy
from functools import reduce
from itertools import product
from typing import Any

import torch
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn
from torch.nn import functional

__all__ = ["for_onnx"]


class _RowAlign(nn.Module):
    """ROIAlign (He et al. 2017, ICCV) with one sample in the middle of each
    bin, out of rows that hold all channels of a pixel.

    ONNX Runtime's own walks through the image once for each channel, which
    takes several times as long where something else needs the caches.

    Parameters
    ----------
    align : `detectron2.layers.ROIAlign`
        What it stands for; of boxes that lie in the image.
    """

    def __init__(self, align: Any) -> None:
        super().__init__()
        (self.side, _), self.scale = align.output_size, align.spatial_scale

    def forward(self, features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Features (1, channel, y, x) in the bins of boxes (n, 5: image, x0,
        y0, x1, y1): (n, channel, y, x).
        """
        n_channels, height, width = features.shape[1:]
        rows = features[0].flatten(1).t()
        last = torch.stack([torch.as_tensor(side) for side in (width, height)])[:, None] - 1
        low, high = boxes[:, 1:3, None], boxes[:, 3:5, None]
        middle = (torch.arange(self.side, dtype=torch.float32) + 0.5) / self.side
        place = (low + (high - low) * middle) * self.scale - 0.5  # (n, x or y, bin)
        place = torch.minimum(place.clamp(min=0), last.float())
        first = place.long()
        beyond = place - first
        ends = ((first, 1 - beyond), (torch.minimum(first + 1, last), beyond))
        sampled = reduce(
            torch.add,
            (
                rows[(y[:, 1, :, None] * width + x[:, 0, None]).flatten()]
                * (weight_y[:, 1, :, None] * weight_x[:, 0, None]).flatten()[:, None]
                for (y, weight_y), (x, weight_x) in product(ends, ends)
            ),
        )
        bins = sampled.reshape(-1, self.side**2, n_channels).transpose(1, 2)
        return bins.reshape(-1, n_channels, self.side, self.side)


class _Quarters(nn.Module):
    """Upsampling by two and the prediction after it, for each of the four
    pixels that one becomes: convolutions of 1 x 1, which need no new order
    of the pixels.

    Parameters
    ----------
    upsample : `torch.nn.ConvTranspose2d`
        Of 2 x 2, stride 2.
    predictor : `torch.nn.Module`
        Convolution of 1 x 1.
    """

    def __init__(self, upsample: nn.ConvTranspose2d, predictor: nn.Module) -> None:
        super().__init__()
        self.upsample, self.predictor = upsample, predictor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.upsample.weight.transpose(0, 1).flatten(2).unbind(2)
        quarters = []
        for weight in weights:
            quarter = functional.conv2d(x, weight[:, :, None, None], self.upsample.bias)
            quarters.append(self.predictor(functional.relu(quarter)))
        # Not flattened: of no boxes at all ONNX Runtime cannot tell the number of channels.
        n_classes, height, width = quarters[0].shape[1:]
        return functional.pixel_shuffle(
            torch.stack(quarters, dim=2).reshape(-1, 4 * n_classes, height, width), 2
        )


def for_onnx(network: Any) -> Any:
    """A copy of a network that is faster in ONNX Runtime.

    Parameters
    ----------
    network : `torch.nn.Module`
        Trained `GeneralizedRCNN`. Parts that are not those of this package's
        configuration are left as they are.

    Returns
    -------
    network : `torch.nn.Module`
        For inference on one image at a time.
    """
    network = deepcopy(network).eval()
    heads = network.roi_heads
    for pooler in (heads.box_pooler, heads.mask_pooler):
        for level, align in enumerate(pooler.level_poolers):
            if align.sampling_ratio == 1 and align.aligned:
                pooler.level_poolers[level] = _RowAlign(align)
    head = heads.mask_head
    if isinstance(head, MaskRCNNConvUpsampleHead):
        quarters = _Quarters(head.deconv, head.predictor)
        del head.deconv, head.deconv_relu, head.predictor
        head.add_module("quarters", quarters)
    return network
