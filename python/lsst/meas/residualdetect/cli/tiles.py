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
from .training_options import blends_options, config_path

__all__ = ["tiles"]


@click.command(short_help="Make training tiles of real blends.")
@blends_options(required=True)
@click.option("--part", type=click.Choice(["training", "validation"]), default="training", show_default=True)
@folder_option("tiles")
@number_option(16, "How many tiles.")
@seed_option(1)
@size_option(256, 64, "tile")
@engines_option
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

    names = read_split(config_path(split))[part]
    options = HostTileOptions(blends, names, pixel_scale, size, engines)
    check_folder(out)
    with progress_bar("Making tiles", number) as progress:
        made = generate_host_tiles(out, number, options, seed, jobs=jobs, progress=progress)
    click.echo(f"{number_of(number, 'tile')} in {out}, {made} of them new")
