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

"""The network's second stage: which proposals are sources."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers

__all__ = ["TwoStageRoiHeads"]

_EPSILON = 1e-6


class _TwoStagePredictor(FastRCNNOutputLayers):
    """Adds the log-odds that the first stage gives a proposal to its own."""

    def predict_probs(self, predictions: Any, proposals: Any) -> tuple[torch.Tensor, ...]:
        """See Detectron2: for each image (proposal, 2), source and not."""
        combined = []
        for own, image in zip(super().predict_probs(predictions, proposals), proposals, strict=True):
            odds = torch.logit(own[:, :1], _EPSILON) + image.objectness_logits[:, None]
            probability = torch.sigmoid(odds)
            combined.append(torch.cat([probability, 1 - probability], dim=1))
        return tuple(combined)

    def inference(self, predictions: Any, proposals: Any) -> Any:
        """See Detectron2. What is found also has the ``objectness`` (0 to 1)
        of its proposal.
        """
        found, kept = super().inference(predictions, proposals)
        for instances, rows, image in zip(found, kept, proposals, strict=True):
            instances.objectness = torch.sigmoid(image.objectness_logits[rows])
        return found, kept


@ROI_HEADS_REGISTRY.register()
class TwoStageRoiHeads(StandardROIHeads):
    """Detectron2's standard heads, but for the score in inference.

    There is only one class, so that both stages answer the same question;
    the first has seen every place of an image in training, the second only
    those that the first thought likely. Together they rank better than the
    second alone, whose word Detectron2 takes.
    """

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        made = super()._init_box_head(cfg, input_shape)
        made["box_predictor"] = _TwoStagePredictor(cfg, made["box_head"].output_shape)
        return made
