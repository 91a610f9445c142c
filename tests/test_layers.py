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

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python/lsst/meas/residualdetect"
FILES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 330

# Commands and tasks have the names of what they run.
FRONT_ENDS = ("cli", "tasks")


def parts_of(path: Path) -> tuple[str, ...]:
    """Name of a module below the package: ("io", "remarks")."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {parts_of(path): path for path in FILES}


def imports_of(module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Modules of the package that a module imports, wherever in it."""
    path = MODULES[module]
    here = module if path.name == "__init__.py" else module[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any("residualdetect" in name.name for name in node.names), f"{path}: {node.lineno}"
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                assert "residualdetect" not in node.module, f"{path}: {node.lineno}"
                continue
            above = here[: len(here) + 1 - node.level]
            base = (*above, *(node.module.split(".") if node.module else ()))
            found |= {(*base, name.name) if (*base, name.name) in MODULES else base for name in node.names}
    return found


def layers() -> dict[str, int]:
    """Place of each module or folder of the package, from the drawing."""
    text = (ROOT / "doc/contributing.md").read_text()
    drawing = re.search(r"```text\n(.*?)```", text, re.DOTALL).group(1)
    rows = [re.split(r"\s{2,}", line)[0].split() for line in drawing.splitlines()]
    places = {name: place for place, row in enumerate(rows) for name in row}
    assert len(places) == sum(map(len, rows)), "a name stands twice in the drawing"
    return places


def test_the_drawing_holds_every_module():
    assert layers().keys() == {module[0] for module in MODULES if module}


def test_imports_point_down():
    places = layers()
    up = [
        f"{'.'.join(module)} imports {'.'.join(other)}"
        for module in MODULES
        if module
        for other in imports_of(module)
        if not other or (other[0] != module[0] and places[other[0]] <= places[module[0]])
    ]
    assert not up


def test_no_modules_import_each_other():
    list(TopologicalSorter({module: imports_of(module) for module in MODULES}).static_order())


def test_a_file_can_be_read_in_one_sitting():
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}


def test_a_name_has_one_meaning():
    modules = [module for module in MODULES if module and module[0] not in FRONT_ENDS]
    # What the Butler holds has a form each in three folders, of one name.
    names = {("butler", module[-1]) if module[0] == "butler" else module for module in modules}
    assert not [name for name, n in Counter(module[-1] for module in names).items() if n > 1]


def test_what_is_frozen_stays_so():
    assert not [str(path) for path in FILES if "object.__setattr__" in path.read_text()]
