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
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..detectors import DEFAULT_DETECTOR, DETECTORS, detector_names, takes_model
from ..find_missing import Missing
from ..io.table_file import check_table_ending, is_table_ending
from ..scene import Array
from ..scene_model import SceneModel
from .common import (
    check_parent,
    detection_option,
    number_of,
    options_of,
    progress_bar,
    search_of,
    search_option,
    values_option,
)
from .fits_arguments import fits_options
from .scene_arguments import check_inputs, detections_of, scene_contents, scene_paths
from .sky_outputs import SkyOutputs, metadata, sky_tables

__all__ = ["detect"]

_COLUMNS = ("scene", "y", "x", "score", "area", "parent")
_FILE = click.Path(dir_okay=False, path_type=Path)


def _rows(stem: str, missing: Missing) -> list[tuple[Any, ...]]:
    """What the table of pixels says."""
    return [
        (stem, found.y, found.x, f"{found.score:.4f}", found.footprint.area, placement.parent)
        for found, placement in zip(missing.candidates, missing.placements, strict=True)
        if placement.peak
    ]


def _detector_options(detector: str, given: tuple[str, ...]) -> dict[str, Any]:
    """Options of a detector of texts like ``min_score=0.1``."""
    options = {}
    for text in given:
        name, _, value = text.partition("=")
        # What there is none of is refused by who makes the detector.
        field = DETECTORS[detector].ConfigClass._fields.get(name)
        try:
            options[name] = value if field is None else field.dtype(value)
        except ValueError as error:
            raise ValueError(f"--option {text}: {error}") from error
    return options


@click.command(short_help="Find what the deblender missed in scene files or FITS images.")
@scene_paths
@fits_options
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Table of new sources to write: .csv, .ecsv, .fits, .parquet or .xml (VOTable).",
)
@click.option("--regions", type=_FILE, help="DS9 regions to write, known and new sources.")
@click.option("--catalogue", type=_FILE, help="Table to write of known and new sources, deblended again.")
@click.option(
    "--model-images",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for FITS images of model and residual.",
)
@click.option("--picture", type=_FILE, help="PNG to write: colour, residual before and after, marks.")
@click.option(
    "--model", metavar="NAME", help="Model package of a network: a folder, or a name under models/."
)
@click.option(
    "--detector",
    type=click.Choice(detector_names()),
    help=f"How to look for sources that the model lacks; {DEFAULT_DETECTOR} if not given, onnx with --model.",
)
@values_option(
    *("--option", "detector_options"),
    text="Option of the detector, such as min_score=0.1; see doc/detectors.md.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    help="Score from which a candidate is taken; the detector's own if not given.",
)
@search_option
@detection_option
def detect(
    scenes: tuple[Path, ...],
    out: Path,
    model: str | None,
    detector: str | None,
    detector_options: tuple[str, ...],
    threshold: float | None,
    search: tuple[str, ...],
    detection: tuple[str, ...],
    regions: Path | None,
    catalogue: Path | None,
    model_images: Path | None,
    picture: Path | None,
    **images: Any,
) -> None:
    """Find sources that the deblender missed, without a Butler.

    In scene files: uses the model in them, or deblends first where there is
    none. A .csv table has a row for each new source: scene (the file's stem),
    y, x (pixels, centres on integers), score, area (pixels of its mask) and
    parent (label of its footprint).

    In FITS images: one scene of all bands. The table has places on the sky,
    fluxes with errors and the nearest known source; so has that of scene
    files with another ending than .csv.

    \b
    Examples:
      residualdetect detect blend.npz --out new.csv
      residualdetect detect deblended/*.npz --out new.csv --threshold 8
      residualdetect detect blend.npz --out new.csv --model ./mine
      residualdetect detect --image g=g.fits --image r=r.fits --out new.ecsv
      residualdetect detect --image i=i.fits[SCI] --psf-fwhm 0.7 --noise i=wht.fits:weight \\
          --peaks known.fits --out new.fits --regions new.reg --picture new.png
    """
    from astropy.table import vstack

    from ..deblend import deblend
    from ..detection import DetectionOptions
    from ..detectors import load_detector
    from ..find_missing import find_missing
    from ..io.table_file import write_table
    from ..io.whole_file import whole_file

    check_inputs(scenes, images)
    outputs = SkyOutputs(regions, catalogue, model_images, picture)
    if len(scenes) > 1 and outputs.given:
        raise click.UsageError(f"{', '.join(outputs.given)}: of one scene at a time")
    check_parent(out)
    outputs.check()
    is_sky = not scenes or (is_table_ending(out) and out.suffix.lower() != ".csv")
    if is_sky:
        check_table_ending(out)
    detector = detector or ("onnx" if model else DEFAULT_DETECTOR)
    if model and not takes_model(detector):
        raise click.UsageError(
            f"--model {model} is of no use to --detector {detector}, which runs no network"
        )
    finder = load_detector(detector, model or "", **_detector_options(detector, detector_options))
    options = search_of(search, score_threshold=threshold)
    how_to_detect = options_of(DetectionOptions, detection, "--detection")
    model_of_all: SceneModel | Array
    rows: list[tuple[Any, ...]] = []
    tables = []
    with progress_bar("Looking at scenes", len(scenes) or 1) as progress:
        for path, content in scene_contents(scenes, images):
            detections = detections_of(content, path, how_to_detect)
            scene = content.scene.with_bad(content.scene.bad(options.bad_planes))
            content = replace(content, scene=scene)
            if scene.bad().all():
                click.echo(f"{path}: every pixel of every band is masked", err=True)
            if content.model is None:
                model_of_all = deblend(
                    scene, detections.parents, options.singles, engine=options.singles_engine
                )
            else:
                model_of_all = content.model
            missing = find_missing(scene, detections, model_of_all, finder, options)
            for reason, count in missing.reasons.items():
                click.echo(f"{path}: {count} parents left alone: {reason}", err=True)
            for reason in missing.unmodelled_peaks.values():
                click.echo(f"{path}: {reason}; nothing is looked for around it", err=True)
            if missing.doubt:
                click.echo(f"warning: {path}: {missing.doubt}", err=True)
            rows += _rows(path.stem, missing)
            if is_sky or outputs.given:
                found = sky_tables(content, missing, model_of_all, options)
                meta = metadata(content, detector, finder, missing.score_threshold)
                outputs.write(content, missing, found, meta)
                if scenes:
                    found.new.add_column(np.full(len(found.new), path.stem), name="scene", index=0)
                tables.append(found.new)
            progress(1)
    if is_sky:
        table = vstack(tables, metadata_conflicts="silent")
        table.meta = meta
        write_table(out, table)
    else:
        with whole_file(out) as temporary, temporary.open("w", newline="") as stream:
            csv.writer(stream).writerows([_COLUMNS, *rows])
    click.echo(f"{number_of(len(rows), 'new source')} in {number_of(len(scenes) or 1, 'scene')}: {out}")
