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

"""``residualdetect train``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["train"]


@click.command()
@click.option(
    "--tiles",
    required=True,
    multiple=True,
    metavar="FOLDER[=WEIGHT]",
    help="Training tiles that `simulate --tiles` or `tiles` made. Several folders give crops as often "
    "as their weights say, 1 where there is none.",
)
@click.option(
    "--validation",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Tiles of another seed to watch; several folders are watched each by itself.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for checkpoints and the log."
)
@click.option(
    "--config",
    default="mask_rcnn_ugrizy",
    show_default=True,
    help="Configuration: a YAML file, or a name under config/training.",
)
@click.option(
    "--start",
    help="Model package to start from, also one that sees fewer channels; random weights if not given.",
)
@click.option("--gpus", type=click.IntRange(min=0), default=0, show_default=True, help="GPUs; 0 is the CPU.")
@click.option("--restart", is_flag=True, help="Do not go on from the last checkpoint in --out.")
@click.argument("overrides", nargs=-1, metavar="[NAME VALUE]...")
def train(
    tiles: tuple[str, ...],
    validation: tuple[Path, ...],
    out: Path,
    config: str,
    start: str | None,
    gpus: int,
    restart: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train a network with Detectron2.

    Needs Detectron2 and torchvision. NAME VALUE pairs override single options
    of the configuration. A run that was cut off goes on from its last
    checkpoint. curves.png in --out shows at the end how it went.

    \b
    Examples:
      residualdetect train --tiles tiles --validation val --out run
      residualdetect train --tiles sky=0.6 --tiles real=0.4 --validation val --out run --start ./mine
      residualdetect train --tiles tiles --validation val --out run SOLVER.MAX_ITER 5000
    """
    from .training_options import config_path, need_detectron2

    need_detectron2()
    from ..network.modeling.config import read_config
    from ..network.package import load_package
    from ..training.folders import join_folders
    from ..training.train import train as run

    paths = [
        *("TILES.TRAIN", join_folders(tiles), "TILES.VALIDATION", join_folders(validation)),
        *("OUTPUT_DIR", str(out)),
    ]
    if start is not None:
        paths += ["MODEL.WEIGHTS", str(load_package(start).file("weights.safetensors"))]
    run(read_config(config_path(config), [*paths, *overrides]), resume=not restart, n_gpus=gpus)
