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

"""What the commands that train have in common."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ..io.package_files import find_file
from .common import Option

__all__ = ["blends_options", "config_path", "need_detectron2"]


def need_detectron2() -> None:
    """Refuse to go on where the network's own packages are not installed."""
    missing = [name for name in ("detectron2", "torchvision", "safetensors") if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"this needs {', '.join(missing)}: pip install 'lsst-meas-residualdetect[train]', "
            "and Detectron2 as doc/training.md says"
        )


def config_path(name: str) -> Path:
    """A training configuration: a file, or a name under ``config/training``."""
    path = Path(name)
    return path if path.suffix else find_file("config/training", f"{name}.yaml")


def blends_options(*, required: bool) -> Option:
    """``--blends``, ``--split`` and ``--pixel-scale``: real blends."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--pixel-scale", type=click.FloatRange(0, min_open=True), default=0.168, show_default=True
            ),
            click.option(
                "--split",
                default="hsc_blends_split",
                show_default=True,
                help="Which blends train and which judge: a YAML file, or a name under config/training.",
            ),
            click.option(
                "--blends",
                required=required,
                type=click.Path(file_okay=False, path_type=Path),
                help="Folder of real blends: scene files with peaks and footprints.",
            ),
        ):
            command = option(command)
        return command

    return add
