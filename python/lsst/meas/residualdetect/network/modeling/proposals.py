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

"""The network's first stage: where a source might be."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances, pairwise_iou

__all__ = ["ThresholdRpn"]


@PROPOSAL_GENERATOR_REGISTRY.register()
class ThresholdRpn(RPN):  # its parameters are those of Detectron2's
    """Detectron2's region proposal network, but in inference every place of
    some objectness is proposed.

    The usual fixed number of the best places is shared by all sources of an
    image: whether one is proposed depends on how large and how crowded the
    image is, and a patch would give other detections when cut in other tiles.
    In training an instance of class -1 is neither source nor background: no
    place that overlaps it is learnt from, here as in Detectron2's second stage.
    Proposals that overlap may be thinned out more than in training, where the
    second stage is to see many: work for little.
    """

    @configurable
    def __init__(
        self, *, min_objectness: float, nms_thresh: float, nms_thresh_test: float, **kwargs: Any
    ) -> None:
        super().__init__(nms_thresh=nms_thresh, **kwargs)
        self.min_objectness = min_objectness
        self.nms_thresh_of = {True: nms_thresh, False: nms_thresh_test}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Detectron2's options, and ours; see `add_options`."""
        return {
            **super().from_config(cfg, input_shape),
            "min_objectness": cfg.MODEL.RPN.MIN_OBJECTNESS,
            "nms_thresh_test": cfg.MODEL.RPN.NMS_THRESH_TEST,
        }

    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """See `detectron2.modeling.proposal_generator.RPN`."""
        labels, boxes = super().label_and_sample_anchors(
            anchors, [x[x.gt_classes >= 0] for x in gt_instances]
        )
        least = self.anchor_matcher.thresholds[1]  # after minus infinity
        for row, instances in zip(labels, gt_instances, strict=True):
            neither = instances.gt_boxes[instances.gt_classes < 0]
            if len(neither):
                overlap = pairwise_iou(neither, Boxes.cat(anchors)).amax(dim=0)
                row[(row == 0) & (overlap >= least)] = -1
        return labels, boxes

    def predict_proposals(
        self, anchors: Any, pred_objectness_logits: list[torch.Tensor], *others: Any
    ) -> Any:
        """See `detectron2.modeling.proposal_generator.RPN`."""
        logits = pred_objectness_logits
        if not self.training:
            # Detectron2 drops proposals that are not finite.
            logits = [x.masked_fill(x.sigmoid() < self.min_objectness, -torch.inf) for x in logits]
        self.nms_thresh = self.nms_thresh_of[self.training]
        return super().predict_proposals(anchors, logits, *others)
