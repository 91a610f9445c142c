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

"""What the package cannot do without, looked for when it is imported.

Beside the stack it is set up, not installed, so that no installer has seen to
what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

__all__ = ["NEEDED", "check_installed"]

NEEDED: Mapping[str, str] = {
    "astropy": "astropy",
    "click": "click",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "rich": "rich",
    "scipy": "scipy",
    "threadpoolctl": "threadpoolctl",
    "torch": "torch",
}
"""Names under which the dependencies of pyproject.toml are imported and
installed, without those that the stack and PyPI both have.
"""


def check_installed() -> None:
    """Refuse to begin without what is needed.

    Raises
    ------
    ImportError
        Raised with all that is missing, and how to install it.
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        names = " ".join(missing)
        raise ImportError(f"meas_residualdetect needs {', '.join(missing)}: pip install --no-deps {names}")
