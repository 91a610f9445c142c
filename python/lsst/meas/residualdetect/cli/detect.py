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

"""``residualdetect detect``."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from ..detectors import DEFAULT_DETECTOR, NETWORK_DETECTORS, detector_names
from .common import check_parent, check_stems, progress_bar, scene_paths

__all__ = ["detect"]

_COLUMNS = ("scene", "y", "x", "score", "area", "parent")


@click.command(short_help="Find what the deblender missed in scene files.")
@scene_paths
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="CSV table to write."
)
@click.option(
    "--model", metavar="NAME", help="Model package of a network: a folder, or a name under models/."
)
@click.option(
    "--detector",
    type=click.Choice(detector_names()),
    help=f"How to look for sources that the model lacks; {DEFAULT_DETECTOR} if not given, onnx with --model.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    help="Score from which a candidate is taken; the detector's own if not given.",
)
def detect(
    scenes: tuple[Path, ...], out: Path, model: str | None, detector: str | None, threshold: float | None
) -> None:
    """Find sources that the deblender missed in scene files, without a Butler.

    Uses the model in a scene file, or deblends first where there is none.
    The table has a row for each new source: scene (the file's stem), y, x
    (pixels, centres on integers), score, area (pixels of its mask) and parent
    (label of its footprint).

    \b
    Examples:
      residualdetect detect blend.npz --out new.csv
      residualdetect detect deblended/*.npz --out new.csv --threshold 8
      residualdetect detect blend.npz --out new.csv --model ./mine
    """
    from ..deblend import deblend
    from ..detectors import load_detector
    from ..find_missing import FindMissingOptions, find_missing
    from ..io.scene_file import read_scene_file
    from ..io.whole_file import whole_file
    from .scene_arguments import detections_of

    check_stems(scenes)
    check_parent(out)
    detector = detector or ("onnx" if model else DEFAULT_DETECTOR)
    if model and detector not in NETWORK_DETECTORS:
        raise click.UsageError(
            f"--model {model} is of no use to --detector {detector}, which runs no network"
        )
    finder = load_detector(detector, model or "")
    options = FindMissingOptions(score_threshold=threshold)
    rows = []
    with progress_bar("Looking at scenes", len(scenes)) as progress:
        for path in scenes:
            content = read_scene_file(path)
            scene = content.scene
            if scene.bad().all():
                click.echo(f"{path}: every pixel of every band is masked", err=True)
            detections = detections_of(content, path)
            model_of_all = deblend(scene, detections.parents) if content.model is None else content.model
            missing = find_missing(scene, detections, model_of_all, finder, options)
            rows += [
                (path.stem, found.y, found.x, f"{found.score:.4f}", found.footprint.area, placement.parent)
                for found, placement in zip(missing.candidates, missing.placements, strict=True)
                if placement.peak
            ]
            progress(1)
    with whole_file(out) as temporary, temporary.open("w", newline="") as stream:
        csv.writer(stream).writerows([_COLUMNS, *rows])
    click.echo(f"{len(rows)} new sources in {len(scenes)} scenes: {out}")
