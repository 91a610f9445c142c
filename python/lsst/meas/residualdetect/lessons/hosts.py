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

import numpy as np
import numpy.typing as npt

from ..boxes import is_inside, nearest_pixel
from ..deblend import DeblendOptions, deblend_scenes
from ..io.scene_file import read_scene_file
from ..scene import Scene
from ..scene_model import SourceModel
from ..truth.blends import told_of

__all__ = ["Host", "read_hosts"]

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


def read_hosts(folder: Path, names: Sequence[str], pixel_scale_arcsec: float | None) -> list[Host]:
    """Read blends and model their sources.

    Parameters
    ----------
    folder : `pathlib.Path`
        Scene files with ``peaks`` and ``footprints``.
    names : `~collections.abc.Sequence` [`str`]
        Which, by their names without the ending.
    pixel_scale_arcsec : `float`, optional
        Side of their pixels, if the files do not say it right.

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
            raise ValueError(f"{path} has no peaks; residualdetect deblend writes it again with some")
        footprint = (
            np.ones(content.scene.shape, bool) if content.footprints is None else content.footprints > 0
        )
        peaks = content.peaks
        inside = is_inside(nearest_pixel(peaks), content.scene.shape)
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
