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

"""``residualdetect deblend``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..detections import positions_of
from .common import (
    check_folder,
    detection_option,
    engine_option,
    folder_option,
    number_of,
    options_of,
    progress_bar,
    values_option,
)
from .fits_arguments import fits_options
from .scene_arguments import check_inputs, detections_of, scene_contents, scene_paths

__all__ = ["deblend"]


@click.command(short_help="Model the sources of scene files or FITS images.")
@scene_paths
@fits_options
@folder_option("deblended scene files")
@engine_option
@values_option(
    *("--option", "options"),
    text="Of the deblender, such as max_iterations=100 or bad_planes=SAT,CR; see DeblendOptions.",
)
@detection_option
def deblend(
    scenes: tuple[Path, ...],
    out: Path,
    engine: str,
    options: tuple[str, ...],
    detection: tuple[str, ...],
    **images: Any,
) -> None:
    """Write scene files again with the deblended model in them.

    The peaks of a scene file are deblended, or those that ordinary detection
    finds where it has none. The model is that of all sources, convolved to
    each band's PSF and summed. FITS images become one scene file.

    \b
    Examples:
      residualdetect deblend scenes/*.npz --out deblended
      residualdetect deblend --image g=g.fits --image r=r.fits --psf-fwhm 0.7 --out deblended
    """
    from ..deblend import DeblendOptions
    from ..deblend import deblend as run
    from ..detection import DetectionOptions
    from ..io.scene_file import write_scene_file

    check_inputs(scenes, images)
    how_to_deblend = options_of(DeblendOptions, options, "--option")
    how_to_detect = options_of(DetectionOptions, detection, "--detection")
    check_folder(out)
    replaced = [path for path in scenes if path.resolve() == (out / f"{path.stem}.npz").resolve()]
    if replaced:
        raise click.UsageError(f"--out {out} would replace {replaced[0]}; choose another folder")
    n_scenes = len(scenes) or 1
    with progress_bar("Deblending scenes", n_scenes) as progress:
        for path, content in scene_contents(scenes, images):
            detections = detections_of(content, path, how_to_detect)
            model = run(content.scene, detections.parents, how_to_deblend, engine=engine)
            write_scene_file(
                out / f"{content.scene.name}.npz",
                replace(
                    content,
                    peaks=positions_of(detections.peaks),
                    footprints=detections.labels(content.scene.shape, content.scene.origin),
                    model=model.image(content.scene),
                ),
            )
            for parent in model:
                if parent.failure:
                    click.echo(f"{path}: parent {parent.parent_id} has no model: {parent.failure}", err=True)
                for reason in parent.unmodelled.values():
                    click.echo(f"{path}: {reason}; it has no model", err=True)
            progress(1)
    click.echo(f"{number_of(n_scenes, 'scene file')} in {out}")
