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

import shlex
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..io.package_files import find_file
from .common import ended_by_signals, progress_bar
from .fits_arguments import band_map_of, fits_options, read_images
from .scene_arguments import tell_doubts

if TYPE_CHECKING:
    from ..io.scene_file import SceneFile

__all__ = ["ingest"]


@click.command()
@click.argument("repo", type=click.Path(file_okay=False, path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@fits_options
@click.option(
    "--pixel-scale",
    type=click.FloatRange(min=0, min_open=True),
    help="Arcsec per pixel, in place of what the files say (0.2 if they say nothing).",
)
def ingest(repo: Path, files: tuple[Path, ...], pixel_scale: float | None, **images: Any) -> None:
    """Put coadds or cutouts into an embedded Butler repository.

    REPO is made if it is not there. Each scene file (.npz) becomes a patch,
    and so do the FITS files (one band each) with the same OBJECT card, as
    this package writes them; images of surveys are given with --image, and
    become one patch. Peaks in a scene file stand in for detection; a truth
    table is kept for the evaluation. Files are read one after the other; if
    one cannot be used, nothing is written.

    \b
    Examples:
      residualdetect ingest repo blend.npz --pixel-scale 0.168
      residualdetect ingest repo coadd_g.fits coadd_r.fits coadd_i.fits
      residualdetect ingest repo --image g=g.fits --image r=r.fits --psf-fwhm 0.7
    """
    from ..butler.inputs import read_inputs
    from ..butler.repository import (
        COADDS_COLLECTION,
        ingest_scenes,
        ingested_scenes,
        leftovers,
        new_repository,
        open_repository,
    )

    of_images = read_images(**images)
    if of_images is None and not files:
        raise click.UsageError("expected files, or --image BAND=FILE for each band")
    for path in leftovers(repo):
        click.echo(
            f"{path} is left of an ingest that was cut off and can go, unless one is under way", err=True
        )
    said: list[str] = []

    def scenes(known: Mapping[str, int]) -> Iterator[SceneFile]:
        strict = images["strict"]
        from_files = read_inputs(
            files, pixel_scale_arcsec=pixel_scale, band_map=band_map_of(images["band_map"])
        )
        for content in chain(from_files, [] if of_images is None else [of_images]):
            if content is not of_images:
                tell_doubts(content, strict=strict)
            name, (height, width) = content.scene.name, content.scene.shape
            if name in known:
                twice = f"{name} is in {repo} already, as patch {known[name]}; it becomes another one"
                if strict:
                    raise click.UsageError(twice)
                click.echo(f"warning: {twice}", err=True)
            said.append(f"{name}, {''.join(content.scene.bands)}, {height} x {width} pixels")
            yield content

    is_new = not repo.exists() or (repo.is_dir() and not any(repo.iterdir()))
    opened = new_repository(repo) if is_new else nullcontext(open_repository(repo, writeable=True))
    with (
        ended_by_signals(),
        opened as butler,
        progress_bar("Ingesting files", len(files) + (of_images is not None)) as progress,
    ):
        known = {} if is_new else ingested_scenes(butler)
        patches = ingest_scenes(butler, scenes(known), progress=progress)
    for patch, what in zip(patches, said, strict=True):
        click.echo(f"patch {patch}: {what}")
    where, pipeline = (shlex.quote(str(path)) for path in (repo, find_file("pipelines", "embedded.yaml")))
    click.echo(
        f"now: pipetask run -b {where} -i {COADDS_COLLECTION} -o residuals "
        f"--register-dataset-types -p {pipeline}#firstIteration"
    )
