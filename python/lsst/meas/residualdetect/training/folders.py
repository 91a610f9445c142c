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

"""The folders of tiles that a run trains on and watches."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

__all__ = ["join_folders", "train_folders", "validation_folders"]


def join_folders(folders: Sequence[str | Path]) -> str:
    """Folders as one option of the configuration: apart by `os.pathsep`."""
    return os.pathsep.join(map(str, folders))


def _split(value: str) -> list[str]:
    return [part for part in value.split(os.pathsep) if part]


def train_folders(cfg: CfgNode) -> dict[Path, float]:
    """Folders of training tiles with their weights.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        ``TILES.TRAIN`` has ``FOLDER`` or ``FOLDER=WEIGHT``, several apart by
        `os.pathsep`. A folder without a weight has 1.

    Returns
    -------
    folders : `dict` [`pathlib.Path`, `float`]
        In the order given.

    Raises
    ------
    ValueError
        Raised if there is none, or a weight is no positive number.
    """
    folders: dict[Path, float] = {}
    for part in _split(cfg.TILES.TRAIN):
        path, equals, after = part.rpartition("=")
        weight = 1.0
        if equals:
            try:
                weight = float(after)
            except ValueError:
                path = part  # a folder with = in its name
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"weight of the training tiles {part!r} is {weight}; it must be positive")
        folders[Path(path or part)] = weight
    if not folders:
        raise ValueError("no folder of training tiles was given")
    return folders


def validation_folders(cfg: CfgNode) -> dict[str, Path]:
    """Folders of validation tiles by the names that their results have.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        ``TILES.VALIDATION`` has folders, apart by `os.pathsep`.

    Returns
    -------
    folders : `dict` [`str`, `pathlib.Path`]
        By their own names.

    Raises
    ------
    ValueError
        Raised if there is none, or two have the same name.
    """
    paths = [Path(part) for part in _split(cfg.TILES.VALIDATION)]
    folders = {path.resolve().name: path for path in paths}
    if not paths or len(folders) < len(paths):
        raise ValueError(
            f"folders of validation tiles are {[str(path) for path in paths]}; "
            "expected at least one, and different names"
        )
    return folders
