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

"""Training tiles of real blends."""

from __future__ import annotations

from pathlib import Path

import click

from ..deblend import engine_names
from .common import check_folder, jobs_option, progress_bar

__all__ = ["tiles"]


@click.command(short_help="Make training tiles of real blends.")
@click.option(
    "--blends",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of scene files with peaks and footprints.",
)
@click.option(
    "--split",
    default="hsc_blends_split",
    show_default=True,
    help="Which blends train and which judge: a YAML file, or a name under config/training.",
)
@click.option("--part", type=click.Choice(["training", "validation"]), default="training", show_default=True)
@click.option("--pixel-scale", type=click.FloatRange(min=0, min_open=True), default=0.168, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the tiles.")
@click.option(
    "-n", "--number", type=click.IntRange(min=1), default=16, show_default=True, help="How many tiles."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Random seed.")
@click.option(
    "--size", type=click.IntRange(min=64), default=256, show_default=True, help="Side of a tile in pixels."
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(engine_names()),
    default=("factorized",),
    show_default=True,
    help="Deblender; several take turns, one named twice more often.",
)
@jobs_option
def tiles(
    blends: Path,
    split: str,
    part: str,
    pixel_scale: float,
    out: Path,
    number: int,
    seed: int,
    size: int,
    engines: tuple[str, ...],
    jobs: int,
) -> None:
    """Make training tiles of real blends.

    Each tile is a patchwork of blends, of which some are told in full, some
    have catalogued sources withheld, and some have sources added beside real
    ones; half are made worse in seeing or depth. For `residualdetect train`,
    beside tiles that `simulate --tiles` made.

    \b
    Examples:
      residualdetect tiles --blends hsc_blends --out real -n 400
      residualdetect tiles --blends hsc_blends --part validation --out judge -n 16 --seed 2
    """
    from ..training.host_tiles import HostTileOptions, generate_host_tiles
    from ..truth.blends import read_split
    from .training_options import config_path

    names = read_split(config_path(split))[part]
    options = HostTileOptions(blends, names, pixel_scale, size, engines)
    check_folder(out)
    with progress_bar("Making tiles", number) as progress:
        made = generate_host_tiles(out, number, options, seed, jobs=jobs, progress=progress)
    click.echo(f"{number} tiles in {out}, {made} of them new")
