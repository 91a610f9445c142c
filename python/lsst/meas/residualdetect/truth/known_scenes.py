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


"""Scene files whose sources somebody knows, at least in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib import recfunctions

from ..boxes import is_inside, nearest_pixel
from ..detection import detect, detections_at
from ..detections import Detections, places_of
from ..io.scene_file import read_scene_file
from ..noise import expected_snr
from ..scene import Scene, SceneError
from .blends import told_of

__all__ = ["KnownScene", "Truth", "read_known_scene", "scene_paths", "with_snr"]

Truth = npt.NDArray[np.void]


@dataclass(frozen=True, eq=False)
class KnownScene:
    """A scene and what is known of it.

    Parameters
    ----------
    scene : `Scene`
        Pixels; those that nobody has catalogued are masked.
    detections : `Detections`
        Known peaks in their parents.
    truth : `numpy.ndarray`, structured, optional
        True sources; see `PatchResult`.
    """

    scene: Scene
    detections: Detections
    truth: Truth | None = None

    def without(self, bad_planes: Sequence[str]) -> KnownScene:
        """The same without the pixels of some mask planes, and no others."""
        return replace(self, scene=self.scene.with_bad(self.scene.bad(bad_planes)))


def scene_paths(given: Sequence[Path], names: Sequence[str] | None = None) -> list[Path]:
    """Scene files of files and folders.

    Parameters
    ----------
    given : `~collections.abc.Sequence` [`pathlib.Path`]
        Scene files, and folders of them.
    names : `~collections.abc.Sequence` [`str`], optional
        Names, without the ending, of those wanted; all if absent.

    Returns
    -------
    paths : `list` [`pathlib.Path`]
        In the order given, those of a folder by name.

    Raises
    ------
    FileNotFoundError
        Raised if there is none, or one that is named is missing.
    ValueError
        Raised if two have the same name.
    """
    paths = [
        path
        for item in given
        for path in (sorted(item.glob("*.npz")) if item.is_dir() else [item])
        if names is None or path.stem in names
    ]
    where = ", ".join(map(str, given))
    stems = [path.stem for path in paths]
    absent = [name for name in names or () if name not in stems]
    if absent or not paths:
        raise FileNotFoundError(f"{where}: no scene file {', '.join(absent)}".rstrip())
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"{where}: several scene files are named {', '.join(twice)}")
    return paths


def with_snr(truth: Truth, scene: Scene) -> Truth:
    """A truth table with signal-to-noise ratios: its own, or else those of
    point sources of its fluxes.
    """
    if "snr" in (truth.dtype.names or ()):
        return truth
    fluxes = np.stack([truth[f"flux_{band}"] for band in scene.bands], axis=1).astype(np.float64)
    positions = places_of(truth)
    snr = expected_snr(fluxes, scene, *positions.T)
    return recfunctions.append_fields(truth, "snr", snr, usemask=False)


def read_known_scene(path: Path, pixel_scale_arcsec: float | None = None) -> KnownScene:
    """Read a scene file with what it says of its sources.

    Its own peaks are the known ones, or else those that ordinary detection
    finds. With footprints beside peaks, what lies off them is masked: nobody
    has said what is there.

    Parameters
    ----------
    path : `pathlib.Path`
        The file.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel, if the file does not say it right.

    Returns
    -------
    known : `KnownScene`
        The scene.

    Raises
    ------
    SceneError
        Raised with the file's name if it cannot be read.
    """
    content = read_scene_file(path, pixel_scale_arcsec=pixel_scale_arcsec)
    scene, peaks = content.scene, content.peaks
    truth = None if content.truth is None else with_snr(content.truth, scene)
    if peaks is None:
        return KnownScene(scene, detect(scene), truth)
    if not np.isfinite(peaks).all():
        raise SceneError(f"{path}: peaks are not all finite")
    peaks = peaks[is_inside(nearest_pixel(peaks, scene.origin), scene.shape)]
    if content.footprints is None:
        return KnownScene(scene, detections_at(scene, peaks), truth)
    return KnownScene(*told_of(scene, peaks, content.footprints, surroundings=False), truth)
