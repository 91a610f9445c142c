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


"""What the package needs is looked for when it is imported."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from lsst.meas.residualdetect.installed import NEEDED

ROOT = Path(__file__).parents[1]


def test_every_dependency_is_looked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", line).group() for line in project["dependencies"]}
    assert set(NEEDED.values()) == {name for name in names if not name.startswith("lsst-")}


def test_one_line_names_what_is_missing():
    program = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name: None if name in ('torch', 'yaml') else find(name)\n"
        "import lsst.meas.residualdetect\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode
    assert done.stderr.splitlines()[-1] == (
        "ImportError: meas_residualdetect needs pyyaml, torch: pip install --no-deps pyyaml torch"
    )
