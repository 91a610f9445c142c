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


"""Tables in the format that a file's ending asks for."""

from __future__ import annotations

from pathlib import Path

from astropy.io.votable import from_table
from astropy.io.votable.tree import Info
from astropy.table import Table

from .whole_file import whole_file

__all__ = ["check_table_ending", "is_table_ending", "write_table"]

_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".parquet": "parquet",
    ".xml": "votable",
    ".vot": "votable",
    ".votable": "votable",
    ".csv": "ascii.csv",
}


def is_table_ending(path: Path) -> bool:
    """Whether a file's ending names a format of tables."""
    return path.suffix.lower() in _FORMATS


def check_table_ending(path: Path) -> None:
    """Refuse a file whose ending names no format of tables.

    Raises
    ------
    ValueError
        Raised with the endings that do.
    """
    if not is_table_ending(path):
        raise ValueError(f"{path}: ending {path.suffix!r} is no table; expected one of {', '.join(_FORMATS)}")


def write_table(path: Path, table: Table) -> None:
    """Write a table; either all of it appears under ``path`` or nothing.

    Parameters
    ----------
    path : `~pathlib.Path`
        Ends with ``.ecsv``, ``.fits``, ``.parquet``, ``.xml``, ``.vot``,
        ``.votable`` or ``.csv``, which has neither units nor metadata;
        replaced if it exists.
    table : `astropy.table.Table`
        With metadata whose keys are cards of FITS.

    Raises
    ------
    ValueError
        Raised if the ending is another.
    """
    check_table_ending(path)
    kind = _FORMATS[path.suffix.lower()]
    with whole_file(path) as temporary:
        if kind == "votable":
            tree = from_table(table)
            for key, value in table.meta.items():
                for item in value if isinstance(value, list) else [value]:
                    tree.resources[0].infos.append(Info(name=key, value=str(item)))
            tree.to_xml(str(temporary))
        else:
            table.write(temporary, format=kind)
