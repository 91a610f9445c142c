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


"""Real blends: which are for what, and what a deblender is told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..boxes import nearest_pixel
from ..detection import detect, detections_at
from ..detections import Detections, positions_of
from ..mask_bits import set_bit
from ..scene import Scene

__all__ = ["read_split", "told_of"]


class _Split(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    training: tuple[str, ...]
    validation: tuple[str, ...]


def read_split(path: Path) -> dict[str, tuple[str, ...]]:
    """Which blends a network may be trained on, and which judge it.

    Parameters
    ----------
    path : `pathlib.Path`
        YAML file with the lists ``training`` and ``validation`` of names of
        scene files.

    Returns
    -------
    split : `dict` [`str`, `tuple` [`str`, ...]]
        The two lists.

    Raises
    ------
    ValueError
        Raised with the file's name if it has not just these two, or a name
        is in both.
    """
    try:
        split = _Split.model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(
            f"{path}: expected just the lists training and validation of names of scene files"
        ) from error
    both = set(split.training) & set(split.validation)
    if both:
        raise ValueError(f"{path} has {', '.join(sorted(both))} in both lists")
    return split.model_dump()


def told_of(
    scene: Scene,
    peaks: npt.NDArray[np.float64],
    footprints: npt.NDArray[Any],
    *,
    surroundings: bool,
) -> tuple[Scene, Detections]:
    """What a deblender is told of a blend.

    Parameters
    ----------
    scene : `Scene`
        Pixels.
    peaks : `numpy.ndarray`, (n, 2)
        Positions (y, x).
    footprints : `numpy.ndarray`, (y, x), bool or int
        Pixels of the blend, or the label of each of several, 0 = none.
    surroundings : `bool`
        Whether the other pixels are used as well, with the sources that
        ordinary detection sees there; otherwise they are masked.

    Returns
    -------
    scene : `Scene`
        The scene, masked or not.
    detections : `Detections`
        Parents. The given peaks come first, in their order; footprints that
        are left without a peak are none.
    """
    labels = footprints.astype(np.int32)
    if not surroundings:
        outside = np.broadcast_to(labels == 0, scene.images.shape)
        scene = replace(scene, mask=set_bit(scene.mask, scene.mask_planes["NO_DATA"], outside))
    else:
        others = detect(scene)
        beyond = others.labels(scene.shape, scene.origin)
        found = positions_of(others.peaks)
        rows, columns = nearest_pixel(found, scene.origin).T
        peaks = np.concatenate([peaks, found[labels[rows, columns] == 0]])
        labels = np.where(labels > 0, labels, np.where(beyond > 0, labels.max() + beyond, 0))
    return scene, detections_at(scene, peaks, labels)
