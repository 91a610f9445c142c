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


"""What comes with an extra of the package, and the word for who lacks it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import click

__all__ = ["EXTRAS", "need_extras", "what_to_install"]

# Import names of what each extra of pyproject.toml brings.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "simulate": ("galsim", "surveycodex"),
    "report": ("matplotlib", "jinja2"),
    "files": ("photutils", "regions"),
    "peers": ("sep", "photutils", "skimage"),
    "train": ("onnx", "safetensors", "tensorboard", "torchvision"),
}


def what_to_install(module: str | None) -> str | None:
    """One line about a module that could not be imported, if it comes with an
    extra.
    """
    package = (module or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f"this needs {package}: pip install 'lsst-meas-residualdetect[{extra}]'"
    return None


def need_extras(*extras: str) -> None:
    """Refuse to begin what could not be ended for want of an extra.

    Raises
    ------
    click.ClickException
        Raised with what to install.
    """
    missing = [name for extra in extras for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"this needs {', '.join(missing)}: pip install 'lsst-meas-residualdetect[{','.join(extras)}]'"
        )
