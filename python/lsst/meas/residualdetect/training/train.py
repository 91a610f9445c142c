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

"""Detectron2's trainer on our tiles."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, default_setup, launch
from detectron2.utils import comm
from torch.utils.data import DataLoader

from ..network.modeling.precision import has_bfloat16
from .curves import plot_curves
from .dataset import train_loader
from .folders import validation_folders
from .validation import RecoveryEvaluator, ValidationTiles
from .warm_start import load_weights

__all__ = ["Trainer", "train"]

_log = logging.getLogger(__name__)


class _FreezeStatistics(HookBase):  # one of Detectron2's hooks
    """From some iteration on, normalises with the statistics so far.

    A bright star in a batch changes the batch's statistics, and all examples
    with it; a network that learned under such statistics sees things that are
    not there when it is alone with the star and those of inference. From here
    on it learns as it will be used.
    """

    def __init__(self, after: int) -> None:
        self.after = after

    def before_step(self) -> None:
        if self.trainer.iter >= self.after:
            for module in self.trainer.model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()


class Trainer(DefaultTrainer):
    """`detectron2.engine.DefaultTrainer` with our tiles, AdamW, and recovery
    and purity on the validation tiles.
    """

    def build_hooks(self) -> list[Any]:
        """Detectron2's, and the freezing of the statistics."""
        return [_FreezeStatistics(self.cfg.SOLVER.FREEZE_STATISTICS_AFTER), *super().build_hooks()]

    def resume_or_load(self, resume: bool = True) -> None:
        """See Detectron2; ``MODEL.WEIGHTS`` may also be a package's
        ``weights.safetensors``.
        """
        weights = Path(self.cfg.MODEL.WEIGHTS)
        if weights.suffix == ".safetensors" and not (resume and self.checkpointer.has_checkpoint()):
            load_weights(self.model, weights)
        else:
            super().resume_or_load(resume)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader[Any]:
        """Crops of the tiles in ``TILES.TRAIN``."""
        # Detectron2 has seeded torch, differently each time if SEED is negative:
        # with a fixed seed a resumed run sees its first crops once more.
        return train_loader(cfg, torch.initial_seed() % 2**31, comm.get_rank(), comm.get_world_size())

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> ValidationTiles:
        """Whole tiles of one of the folders in ``TILES.VALIDATION``."""
        return ValidationTiles(validation_folders(cfg)[dataset_name], cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> RecoveryEvaluator:
        """Recovery and purity."""
        return RecoveryEvaluator()

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW; biases and normalisation are not decayed."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": cfg.SOLVER.WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=cfg.SOLVER.BASE_LR, betas=tuple(cfg.SOLVER.BETAS))
        limit = cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE if cfg.SOLVER.CLIP_GRADIENTS.ENABLED else None
        if limit is not None:

            def clip(*_: Any) -> None:
                torch.nn.utils.clip_grad_norm_(parameters, limit)

            optimizer.register_step_pre_hook(clip)
        return optimizer


def _run(cfg: CfgNode, resume: bool) -> None:
    default_setup(cfg, None)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    half = cfg.MODEL.FINE_FPN.AUTOCAST and has_bfloat16(cfg.MODEL.DEVICE)
    _log.info("the backbone trains in %s", "bfloat16" if half else "float32")
    trainer.train()
    if comm.is_main_process():
        plot_curves(Path(cfg.OUTPUT_DIR))


def train(cfg: CfgNode, *, resume: bool = True, n_gpus: int = 0) -> None:
    """Train a network.

    Writes checkpoints, a log, TensorBoard events, ``metrics.json`` and, at the
    end, their picture ``curves.png`` to ``cfg.OUTPUT_DIR``.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        What and how; see `read_config`.
    resume : `bool`, optional
        Whether to go on from the last checkpoint in the output folder, if
        there is one.
    n_gpus : `int`, optional
        Number of GPUs; 0 trains on the CPU.

    Raises
    ------
    FileNotFoundError
        Raised if a folder of tiles is empty.
    """
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cuda" if n_gpus else "cpu"
    cfg.DATASETS.TEST = tuple(validation_folders(cfg))
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    launch(_run, num_gpus_per_machine=max(n_gpus, 1), dist_url="auto", args=(cfg, resume))
