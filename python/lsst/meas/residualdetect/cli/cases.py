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

"""``residualdetect cases``."""

from __future__ import annotations

from pathlib import Path

import click

from .common import (
    check_folder,
    engine_option,
    folder_option,
    jobs_option,
    number_option,
    progress_bar,
    seed_option,
)
from .training_options import blends_options, config_path

__all__ = ["cases"]


@click.command(short_help="Make scenes with truth to calibrate a network on.")
@folder_option("cases")
@number_option(75, "Simulated scenes, of smooth and of structured galaxies each.")
@blends_options(required=False)
@seed_option(8000)
@engine_option
@jobs_option
def cases(
    out: Path,
    number: int,
    blends: Path | None,
    split: str,
    pixel_scale: float,
    seed: int,
    engine: str,
    jobs: int,
) -> None:
    """Make what `residualdetect export` calibrates scores on.

    Scenes with truth, deblended: simulated ones, and real blends in which
    sources are withheld or added, or which are made worse. No network is
    needed, and the same cases serve any. A run that was cut off goes on.

    \b
    Example:
      residualdetect cases --out cases --blends hsc_blends
    """
    from ..training.cases import CaseOptions, make_cases
    from ..truth.blends import read_split

    names = read_split(config_path(split))["training"] if blends else ()
    options = CaseOptions(number, blends, names, pixel_scale, engine=engine, seed=seed)
    check_folder(out)
    total = 2 * number + len(names) * (options.n_lessons + options.n_degraded)
    with progress_bar("Making cases", total) as progress:
        made = make_cases(out, options, jobs=jobs, progress=progress)
    click.echo(f"{total} cases in {out}, {made} of them new")
