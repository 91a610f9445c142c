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

"""Real blends that training tiles are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ..deblend import DeblendOptions, deblend_scenes
from ..detection import detect, detections_at
from ..detections import Detections
from ..io.scene_file import read_scene_file
from ..scene import Scene
from ..scene_model import SourceModel

__all__ = ["Host", "read_hosts", "read_split", "told_of"]

# In training the model may go farther out than in use: it is the truth here.
_TRUTH_OPTIONS = DeblendOptions(background_threshold=0.5)


@dataclass(frozen=True, eq=False)
class Host:
    """A real blend, and what is taken for the truth about it.

    Parameters
    ----------
    scene : `Scene`
        Pixels.
    peaks : `numpy.ndarray`, (n, 2), float64
        Catalogued positions (y, x).
    footprint : `numpy.ndarray`, (y, x), bool
        Pixels of the blend; elsewhere sources may shine that are in no
        catalogue.
    sources : `tuple` [`tuple` [`SourceModel`, ...], ...]
        Components that model each peak; none if it could not be modelled.
    """

    scene: Scene
    peaks: npt.NDArray[np.float64]
    footprint: npt.NDArray[np.bool_]
    sources: tuple[tuple[SourceModel, ...], ...]


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
    content: Any = yaml.safe_load(path.read_text())
    if not isinstance(content, dict) or set(content) != {"training", "validation"}:
        raise ValueError(f"{path} does not have just the lists training and validation")
    split = {part: tuple(map(str, names)) for part, names in content.items()}
    both = set(split["training"]) & set(split["validation"])
    if both:
        raise ValueError(f"{path} has {', '.join(sorted(both))} in both lists")
    return split


def told_of(
    scene: Scene,
    peaks: npt.NDArray[np.float64],
    footprint: npt.NDArray[np.bool_],
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
    footprint : `numpy.ndarray`, (y, x), bool
        Pixels of the blend.
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
    labels = footprint.astype(np.int32)
    if not surroundings:
        outside = np.broadcast_to(~footprint, scene.images.shape)
        scene = scene.with_bad(scene.bad() | outside)
    else:
        others = detect(scene)
        labels = np.where(
            footprint, 1, np.where(others.labels(scene.shape) > 0, 1 + others.labels(scene.shape), 0)
        )
        beyond = [(p.y, p.x) for p in others.peaks if not footprint[round(p.y), round(p.x)]]
        peaks = np.concatenate([peaks, np.array(beyond).reshape(-1, 2)])
    return scene, detections_at(scene, peaks, labels)


def read_hosts(folder: Path, names: Sequence[str], pixel_scale_arcsec: float) -> list[Host]:
    """Read blends and model their sources.

    Parameters
    ----------
    folder : `pathlib.Path`
        Scene files with ``peaks`` and ``footprints``.
    names : `~collections.abc.Sequence` [`str`]
        Which, by their names without the ending.
    pixel_scale_arcsec : `float`
        Side of their pixels.

    Returns
    -------
    hosts : `list` [`Host`]
        In the order of the names.

    Raises
    ------
    FileNotFoundError
        Raised if the folder, or one of the files, is not there.
    ValueError
        Raised with the file's name if it has no peaks.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; real blends do not come with this package, see doc/network.md"
        )
    blends = []
    for name in names:
        path = folder / f"{name}.npz"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, which the list of blends names")
        content = read_scene_file(path, pixel_scale_arcsec=pixel_scale_arcsec)
        if content.peaks is None or not len(content.peaks):
            raise ValueError(f"{path} has no peaks")
        footprint = (
            np.ones(content.scene.shape, bool) if content.footprints is None else content.footprints > 0
        )
        peaks = content.peaks
        inside = ((np.rint(peaks) >= 0) & (np.rint(peaks) < content.scene.shape)).all(axis=1)
        blends.append((content.scene, peaks[inside], footprint))
    told = [told_of(*blend, surroundings=False) for blend in blends]
    models = deblend_scenes([(scene, d.parents) for scene, d in told], _TRUTH_OPTIONS)
    hosts = []
    for (scene, peaks, footprint), (_, detections), model in zip(blends, told, models, strict=True):
        by_position = {(peak.y, peak.x): peak.id for peak in detections.peaks}
        sources = tuple(
            tuple(s for s in model.sources if s.peak_id == by_position.get((float(y), float(x)), -1))
            for y, x in peaks
        )
        hosts.append(Host(scene, peaks, footprint, sources))
    return hosts
