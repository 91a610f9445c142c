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


"""The table of marked candidates that a report's page saves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

__all__ = ["read_marks"]

_COLUMNS = {"score": np.float64, "peak": np.int64, "reason": np.str_, "mark": np.str_}


def read_marks(path: Path, known: tuple[str, ...]) -> Table:
    """Read marked candidates.

    Parameters
    ----------
    path : `~pathlib.Path`
        CSV file with at least ``score``, ``peak``, ``reason`` and ``mark``.
    known : `tuple` [`str`]
        Marks that there are, beside none.

    Returns
    -------
    table : `astropy.table.Table`
        These four columns; a score that is not there is NaN.

    Raises
    ------
    ValueError
        Raised with the line if there is something else.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; expected marks saved from a report")
        columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        try:
            for row in reader:
                mark = (row["mark"] or "").strip()
                if mark and mark not in known:
                    expected = f"expected {', '.join(known)} or nothing"
                    raise ValueError(f"mark {mark!r}; {expected}")
                columns["mark"].append(mark)
                columns["reason"].append(row["reason"] or "")
                columns["score"].append(float(row["score"] or "nan"))
                columns["peak"].append(int(row["peak"] or 0))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return Table({name: np.array(values, _COLUMNS[name]) for name, values in columns.items()})
