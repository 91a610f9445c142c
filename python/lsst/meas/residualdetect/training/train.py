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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, default_setup, defaults, launch
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

from ..network.modeling.precision import has_bfloat16
from ..threads import default_threads
from .curves import plot_curves
from .dataset import train_loader
from .folders import train_folders, validation_folders
from .shards import shard_paths
from .validation import RecoveryEvaluator, ValidationTiles
from .warm_start import load_weights

__all__ = ["Trainer", "n_processes", "train"]

_log = logging.getLogger(__name__)

# Statistics of batches are of the crops of one process.
_LEAST_CROPS = 4


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


def n_processes(cfg: CfgNode) -> int:
    """How many processes train on the processor, each with its part of the
    crops and of the cores.

    An iteration takes two of one thread 0.76 times as long as one of two.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        ``SOLVER.IMS_PER_BATCH`` must be a multiple of the number, and each
        have four crops at least.
    """
    # Where there is a GPU Detectron2 joins processes by NCCL, which needs one for each.
    crops, n = cfg.SOLVER.IMS_PER_BATCH, 1 if torch.cuda.is_available() else default_threads()
    return max(k for k in range(1, n + 1) if k == 1 or (crops % k == 0 and crops // k >= _LEAST_CROPS))


def _run(cfg: CfgNode, resume: bool) -> None:
    if cfg.MODEL.DEVICE == "cpu" and comm.get_world_size() > 1:
        torch.set_num_threads(max(default_threads() // comm.get_world_size(), 1))
        # On a processor torch wants no devices, which Detectron2 always names.
        defaults.create_ddp_model = partial(defaults.create_ddp_model, device_ids=None)
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
        Number of GPUs; 0 trains on the CPU, in as many processes as there
        are cores (or ``OMP_NUM_THREADS`` says), each with an equal part of
        the crops, four at least.

    Raises
    ------
    FileNotFoundError
        Raised if a folder of tiles is empty.
    RuntimeError
        Raised with what went wrong in one of several processes.
    """
    for folder in (*train_folders(cfg), *validation_folders(cfg).values()):
        shard_paths(folder)  # complains if there is none
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cuda" if n_gpus else "cpu"
    cfg.DATASETS.TEST = tuple(validation_folders(cfg))
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    n = n_gpus or n_processes(cfg)
    try:
        launch(_run, num_gpus_per_machine=n, dist_url="auto", args=(cfg, resume))
    except ProcessRaisedException as error:
        # Its text is a traceback, which ends with the error.
        raise RuntimeError(str(error).strip().splitlines()[-1]) from error
