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

"""Scenes without a Butler: what the commands on them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ..detection import DetectionOptions, detect, detections_at
from ..detections import Detections
from ..io.scene_file import SceneFile
from ..scene import SceneError
from .common import check_stems
from .fits_arguments import band_map_of, read_images

__all__ = ["check_inputs", "detections_of", "scene_contents", "scene_paths", "tell_doubts"]

scene_paths = click.argument(
    "scenes", nargs=-1, metavar="[SCENE]...", type=click.Path(dir_okay=False, path_type=Path)
)


def check_inputs(scenes: tuple[Path, ...], images: Mapping[str, Any]) -> None:
    """Refuse no input, both kinds at once, and files that have one name."""
    if bool(scenes) == bool(images["images"]):
        raise click.UsageError("expected either scene files or --image BAND=FILE for each band")
    check_stems(scenes)


def scene_contents(scenes: tuple[Path, ...], images: Mapping[str, Any]) -> Iterator[tuple[Path, SceneFile]]:
    """What to work on, with the file's name; scene files one at a time.

    Parameters
    ----------
    scenes : `tuple` [`~pathlib.Path`]
        Scene files.
    images : `~collections.abc.Mapping`
        Arguments of `read_images`.
    """
    from ..io.scene_file import read_scene_file

    of_images = read_images(**images)
    if of_images is not None:
        yield Path(of_images.scene.name), of_images
    for path in scenes:
        content = read_scene_file(path, band_map=band_map_of(images["band_map"]))
        tell_doubts(content, strict=images["strict"])
        yield path, content


def tell_doubts(content: SceneFile, *, strict: bool) -> None:
    """Warn of what is likely wrong with a scene file, or refuse it.

    Raises
    ------
    SceneError
        Raised with the first doubt if ``strict``.
    """
    from ..io.plausibility import check_plausible
    from ..io.remarks import Remarks

    check_plausible(content.scene, Remarks(strict), content.peaks, content.footprints)


def detections_of(
    content: SceneFile, path: Path, options: DetectionOptions = DetectionOptions()
) -> Detections:
    """Catalogue of a scene file's own peaks, or of detected ones.

    Raises
    ------
    SceneError
        Raised with the file's name if its peaks do not fit its pixels.
    """
    if content.peaks is None:
        return detect(content.scene, options)
    try:
        return detections_at(content.scene, content.peaks, content.footprints, options)
    except ValueError as error:
        raise SceneError(f"{path}: {error}") from error
