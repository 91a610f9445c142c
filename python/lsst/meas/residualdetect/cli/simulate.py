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

"""``residualdetect simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .common import (
    check_folder,
    engines_option,
    folder_option,
    jobs_option,
    number_of,
    number_option,
    progress_bar,
    seed_option,
    size_option,
)

__all__ = ["simulate"]

# Of `TileOptions`, whose import takes seconds: help must not wait.
_SHARES = ("structured", "artefacts", "saturated", "fewer_bands", "masked", "informed", "forgetful")


@click.command()
@folder_option("scene files")
@number_option(1, "How many scenes.")
@seed_option(1)
@size_option(300, 1, "scene")
@click.option("--bands", default="ugrizy", show_default=True, help="Bands, a letter each.")
@click.option(
    "--survey",
    default="LSST",
    show_default=True,
    help="Survey, by surveycodex's name; with --tiles also several, as LSST,HSC.",
)
@click.option(
    "--density",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Factor of the galaxy counts; 1 is the sky.",
)
@click.option(
    "--exposure",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Exposure time in units of the full survey's.",
)
@click.option(
    "--catalogue",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the galaxies from your own table with CatSim's columns.",
)
@click.option(
    "--tiles",
    is_flag=True,
    help="Write deblended training tiles, all conditions varied, in place of scene files.",
)
@click.option(
    "--share",
    "shares",
    type=(click.Choice(_SHARES), click.FloatRange(0, 1)),
    multiple=True,
    help="With --tiles: how many of them are of a kind, as --share saturated 1.",
)
@engines_option
@jobs_option
@click.pass_context
def simulate(
    context: click.Context,
    out: Path,
    number: int,
    seed: int,
    size: int,
    bands: str,
    survey: str,
    density: float,
    exposure: float,
    catalogue: Path | None,
    tiles: bool,
    shares: tuple[tuple[str, float], ...],
    engines: tuple[str, ...],
    jobs: int,
) -> None:
    """Simulate coadds with a table of every true source.

    Scene k of a seed is the same whatever the number and the processes.

    With --tiles: squares of sky for `residualdetect train`, detected and
    deblended, with boxes and masks of the sources that the deblender was not
    told of. Depth, density, seeing, stars, bands and flaws are drawn anew for
    each. A run that was cut off goes on where it was.

    \b
    Examples:
      residualdetect simulate --out scenes -n 100
      residualdetect simulate --out dense -n 10 --density 3 --bands gri
      residualdetect simulate --out tiles -n 4000 --size 256 --tiles
      residualdetect simulate --out halos -n 100 --size 256 --tiles --share saturated 1
    """
    if tiles:
        from ..training import TileOptions, generate_tiles

        for name in ("bands", "density", "exposure", "catalogue"):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} goes with scene files; --tiles draws it for each tile")
        check_folder(out)
        more: dict[str, Any] = dict(shares)
        with progress_bar("Simulating tiles", number) as progress:
            made = generate_tiles(
                out,
                number,
                TileOptions(size, tuple(survey.split(",")), engines, **more),
                seed,
                jobs=jobs,
                progress=progress,
            )
        click.echo(f"{number_of(number, 'tile')} in {out}, {made} of them new")
        return
    if shares:
        raise click.UsageError("--share goes with --tiles")
    from ..io.scene_file import SceneFile, write_scene_file
    from ..simulation import SimulationOptions, read_catsim, simulate_scenes

    options = SimulationOptions(
        bands=tuple(bands), shape=(size, size), survey=survey, density=density, exposure_factor=exposure
    )
    table = None if catalogue is None else read_catsim(catalogue)
    check_folder(out)
    with progress_bar("Simulating scenes", number) as progress:
        for scene, truth in simulate_scenes(
            number, options, seed, jobs=jobs, progress=progress, catalogue=table
        ):
            write_scene_file(out / f"{scene.name}.npz", SceneFile(scene, truth=truth))
    click.echo(f"{number_of(number, 'scene file')} in {out}")
