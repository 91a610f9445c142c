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

"""Recovery and purity on validation tiles while a network trains."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator

from ..candidates import DEFAULT_MIN_DISTANCE_PIX
from ..neighbours import near_known, repeats
from ..network.modeling.config import feature_options
from ..truth.evaluation import EvaluationOptions
from ..truth.matching import match_in_turn
from ..truth.metrics import RankingCurve, ranking_curve
from .dataset import crop_tile, to_detectron2
from .shards import read_shard, shard_paths

__all__ = ["RecoveryEvaluator", "ValidationTiles"]

# Of PSFs as sharp as LSST's; it decides only which of two peaks is whose.
_SIGMA_PIX = 1.5


def _apart(centres: Any, peaks: Any) -> Any:
    """Indices of detections, surest first, that would become peaks."""
    far = np.flatnonzero(~near_known(centres, peaks, DEFAULT_MIN_DISTANCE_PIX))
    return far[~repeats(centres[far], DEFAULT_MIN_DISTANCE_PIX)]


class ValidationTiles:
    """Whole tiles, one at a time, with their known peaks and instances."""

    def __init__(self, folder: Path, cfg: CfgNode) -> None:
        self.paths = shard_paths(folder)
        self.features = feature_options(cfg)
        self._length = sum(len(read_shard(path)) for path in self.paths)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for path in self.paths:
            for tile in read_shard(path):
                crop = crop_tile(tile, 0, 0, tile.residual.shape[1])
                example = to_detectron2(crop, self.features, 0.0)
                del example["instances"]
                yield [{**example, "peaks": crop.peaks, "truth": crop.instances}]


class RecoveryEvaluator(DatasetEvaluator):
    """Average precision, and recovery at fixed purity, of centres.

    As in the evaluation of a run, but for what tiles do not tell: a second
    peak on a source that has one counts as spurious, not as a shred.
    """

    def __init__(self) -> None:
        self.options = EvaluationOptions()
        self.reset()

    def reset(self) -> None:
        """Forget all tiles."""
        self._scores: list[Any] = []
        self._right: list[Any] = []
        self.n_targets = 0

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take in the detections of some tiles."""
        for example, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            order = torch.argsort(found.scores, descending=True)
            centres = found.pred_boxes.get_centers()[order].numpy()[:, ::-1] - 0.5
            self.add(centres, found.scores[order].numpy(), example["peaks"], example["truth"])

    def add(self, centres: Any, scores: Any, peaks: Any, truth: Any) -> None:
        """Take in one tile: positions (n, 2) of the detections, surest first,
        their scores, the known peaks and the instances.
        """
        apart = _apart(centres, peaks)
        centres, scores = centres[apart], scores[apart]
        counted = truth["snr"] >= self.options.min_snr
        self.n_targets += int(counted.sum())
        right = np.zeros(len(centres), bool)
        ignored = np.zeros(len(centres), bool)
        for wanted, hit in ((counted, right), (~counted, ignored)):
            rows = truth[wanted]
            left = np.flatnonzero(~right)
            matched = match_in_turn(
                np.stack([rows["y"], rows["x"]], axis=1).astype(float),
                rows["snr"].astype(float),
                centres[left].astype(float),
                radius_pix=self.options.match_radius_pix,
                sigma_pix=_SIGMA_PIX,
            )
            hit[left[matched[matched >= 0]]] = True
        self._scores.append(scores[~ignored])
        self._right.append(right[~ignored])

    def ranked(self) -> tuple[Any, Any]:
        """Scores (n,) of the detections that count, and whether each is right."""
        return np.concatenate([np.zeros(0), *self._scores]), np.concatenate([np.zeros(0, bool), *self._right])

    def curve(self) -> RankingCurve:
        """Purity and recovery over all tiles."""
        scores, right = self.ranked()
        return ranking_curve(scores, right, right, self.n_targets)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """What goes into the log."""
        curve = self.curve()
        at = {f"recovery{int(100 * p)}": curve.at_purity(p)[0] for p in (0.95, 0.9, 0.8, 0.5)}
        return OrderedDict(validation={"average_precision": curve.average_precision, **at})
