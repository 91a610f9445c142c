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

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


def left_out_of_coverage():
    """Modules that `make coverage` does not count."""
    source = ROOT / "python"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
    found = {
        pattern: [path for path in source.rglob("*.py") if path.match(pattern)]
        for pattern in settings["omit"]
    }
    assert all(found.values()), found
    return sorted(
        ".".join(path.relative_to(source).with_suffix("").parts) for paths in found.values() for path in paths
    )


@pytest.mark.parametrize("module", left_out_of_coverage())
def test_coverage_leaves_out_what_needs_the_stack_or_detectron2_alone(module):
    others = r"'(detectron2|lsst\.(afw|scarlet|meas\.extensions|pipe\.tasks))"
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        assert re.search(others, str(error))
    else:
        pytest.skip("what it needs is here")
