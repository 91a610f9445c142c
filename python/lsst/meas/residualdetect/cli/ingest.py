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

"""``residualdetect ingest``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from .common import pipeline_path, progress_bar
from .fits_arguments import fits_options, read_images

__all__ = ["ingest"]


@click.command()
@click.argument("repo", type=click.Path(file_okay=False, path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@fits_options
@click.option(
    "--pixel-scale",
    type=click.FloatRange(min=0, min_open=True),
    help="Arcsec per pixel, in place of what a scene file says (0.2 if it says nothing).",
)
def ingest(repo: Path, files: tuple[Path, ...], pixel_scale: float | None, **images: Any) -> None:
    """Put coadds or cutouts into an embedded Butler repository.

    REPO is made if it is not there. Each scene file (.npz) becomes a patch,
    and so do the FITS files (one band each) with the same OBJECT card, as
    this package writes them; images of surveys are given with --image, and
    become one patch. Peaks in a scene file stand in for detection; a truth
    table is kept for the evaluation. Nothing is written unless all files are
    good.

    \b
    Examples:
      residualdetect ingest repo blend.npz --pixel-scale 0.168
      residualdetect ingest repo coadd_g.fits coadd_r.fits coadd_i.fits
      residualdetect ingest repo --image g=g.fits --image r=r.fits --psf-fwhm 0.7
    """
    from ..butler.repository import (
        COADDS_COLLECTION,
        create_repository,
        ingest_scenes,
        open_repository,
        read_inputs,
    )

    of_images = read_images(**images)
    if of_images is None and not files:
        raise click.UsageError("expected files, or --image BAND=FILE for each band")
    scenes = read_inputs(files, pixel_scale_arcsec=pixel_scale)
    if of_images is not None:
        scenes.append(of_images)
    is_new = not repo.exists() or not any(repo.iterdir())
    butler = create_repository(repo) if is_new else open_repository(repo, writeable=True)
    try:
        with progress_bar("Ingesting scenes", len(scenes)) as progress:
            patches = ingest_scenes(butler, scenes, progress=progress)
    except Exception:
        if is_new:
            shutil.rmtree(repo)
        raise
    for patch, content in zip(patches, scenes, strict=True):
        height, width = content.scene.shape
        click.echo(
            f"patch {patch}: {content.scene.name}, {''.join(content.scene.bands)}, {height} x {width} pixels"
        )
    click.echo(
        f"now: pipetask run -b {repo} -i {COADDS_COLLECTION} -o residuals --register-dataset-types "
        f"-p {pipeline_path('embedded.yaml')}#firstIteration"
    )
