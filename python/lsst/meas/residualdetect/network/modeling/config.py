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

"""Configuration of the network and its training, on top of Detectron2's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from ..features import FeatureOptions
from . import backbone, heads, proposals  # noqa: F401  # register themselves with Detectron2

__all__ = ["add_options", "feature_options", "read_config"]


def add_options(cfg: CfgNode) -> CfgNode:
    """Give a Detectron2 configuration the package's own nodes.

    ``MODEL.FINE_FPN``: the backbone. ``MODEL.RPN.MIN_OBJECTNESS``: least
    objectness of a proposal in inference. ``MODEL.RPN.NMS_THRESH_TEST``: there
    a proposal that overlaps a better one by more is dropped. ``TILES``: folders of training and
    validation tiles (see `train_folders`), and what becomes of a tile on its
    way to the network.
    ``FEATURES``: see `FeatureOptions`. ``SOLVER.FREEZE_STATISTICS_AFTER``: iteration
    from which the running statistics of batch normalisation are used, and
    kept, in training too.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        Configuration; changed in place.

    Returns
    -------
    cfg : `detectron2.config.CfgNode`
        The same.
    """
    cfg.MODEL.FINE_FPN = CfgNode(
        {
            "STAGE_CHANNELS": [32, 64, 128],
            "STAGE_BLOCKS": [2, 2, 2],
            "OUT_CHANNELS": 64,
            "NORM": "BN",
            "AUTOCAST": True,
        }
    )
    cfg.TILES = CfgNode(
        {
            "TRAIN": "",
            "VALIDATION": "",
            "CROP": 128,
            "MIN_SNR": 5.0,
            "DROP_BANDS": 0.2,
            "NOISE": 0.15,
            "CROPS_PER_TILE": 4,
        }
    )
    cfg.FEATURES = CfgNode({name.upper(): value for name, value in asdict(FeatureOptions()).items()})
    cfg.MODEL.RPN.MIN_OBJECTNESS = 0.5
    cfg.MODEL.RPN.NMS_THRESH_TEST = cfg.MODEL.RPN.NMS_THRESH
    cfg.SOLVER.BETAS = [0.9, 0.999]
    cfg.SOLVER.FREEZE_STATISTICS_AFTER = 1000
    return cfg


def feature_options(cfg: CfgNode) -> FeatureOptions:
    """The node ``FEATURES`` as the core's options."""
    return FeatureOptions(**{name.lower(): value for name, value in cfg.FEATURES.items()})


def read_config(path: Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a configuration file.

    Parameters
    ----------
    path : `pathlib.Path`
        YAML file with some of Detectron2's or our options.
    overrides : `~collections.abc.Sequence` [`str`], optional
        Names and values in turn, such as ``SOLVER.MAX_ITER 5000``.

    Returns
    -------
    cfg : `detectron2.config.CfgNode`
        All options.

    Raises
    ------
    ValueError
        Raised with the file's name if an option is unknown or of the wrong
        type.
    """
    cfg = add_options(get_cfg())
    try:
        cfg.merge_from_file(str(path), allow_unsafe=False)
        cfg.merge_from_list(list(overrides))
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(f"{path}: {error.args[0] if error.args else error}") from error
    n_channels = feature_options(cfg).n_channels
    # Detectron2 takes the number of channels from these.
    cfg.MODEL.PIXEL_MEAN = [0.0] * n_channels
    cfg.MODEL.PIXEL_STD = [1.0] * n_channels
    return cfg
