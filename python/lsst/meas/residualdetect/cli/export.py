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

"""``residualdetect export``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["export"]

# What users have, and what is hardest.
_POPULATIONS = ("default", "dense")


@click.command(short_help="Make a model package of a trained network.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Package to write, such as models/NAME."
)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Simulated scenes, of each of two populations, to calibrate scores on.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=8000, show_default=True, help="Their random seed."
)
@click.option("--checkpoint", help="File in RUN; the last one if not given.")
@click.option(
    "--purity",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Purity on these scenes that sets the package's threshold.",
)
def export(run: Path, out: Path, number: int, seed: int, checkpoint: str | None, purity: float) -> None:
    """Make a model package of what `residualdetect train` left in RUN.

    The package has the weights for Detectron2, the same network for ONNX
    Runtime, the calibration of scores and a threshold.

    \b
    Example:
      residualdetect export run --out models/mine
    """
    from .training_options import need_detectron2

    need_detectron2()
    from ..experiments.comparison import judge_package
    from ..network.modeling.config import read_config
    from ..threads import usable_cores
    from ..training.export import export_package

    if checkpoint is None:
        pointer = run / "last_checkpoint"
        if not pointer.is_file():
            raise FileNotFoundError(f"{run} holds no checkpoint of a training run")
        checkpoint = pointer.read_text().strip()
    package = export_package(
        read_config(run / "config.yaml"),
        run / checkpoint,
        out,
        lambda folder: judge_package(folder, _POPULATIONS, number, seed, jobs=usable_cores()),
        judged_on=f"{number} of each of {', '.join(_POPULATIONS)}, seed {seed}",
        target_purity=purity,
    )
    for name, value in package.results["calibration"].items():
        click.echo(f"{name}: {value}")
    click.echo(f"model package: {out}")
