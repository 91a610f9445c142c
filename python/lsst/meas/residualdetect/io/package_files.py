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

"""Where the package's own files are that are not Python: pipelines, models."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["file_folders", "find_file"]


def file_folders(kind: str) -> tuple[Path, ...]:
    """Folders to look for files of a kind in, first to last.

    Parameters
    ----------
    kind : `str`
        Folder at the top level of the package, such as ``pipelines``.

    Returns
    -------
    folders : `tuple` [`pathlib.Path`, ...]
        Where eups set the package up, in the checkout, and where a wheel
        puts it; not all of them exist.
    """
    set_up = os.environ.get("MEAS_RESIDUALDETECT_DIR")
    roots = [
        *([Path(set_up)] if set_up else []),
        Path(__file__).parents[5],
        Path(sys.prefix) / "share" / "meas_residualdetect",
    ]
    return tuple(root / kind for root in roots)


def find_file(kind: str, name: str) -> Path:
    """Find one of the package's own files.

    Parameters
    ----------
    kind : `str`
        Folder at the top level of the package, such as ``pipelines``.
    name : `str`
        Path of the file in there.

    Returns
    -------
    path : `pathlib.Path`
        The first in the order of `file_folders`.

    Raises
    ------
    FileNotFoundError
        Raised with the places looked in if there is none.
    """
    folders = file_folders(kind)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, folders))}")
