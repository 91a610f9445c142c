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

"""What all FITS files of the package share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy.io import fits
from astropy.table import Table

from .remarks import reason_of

__all__ = ["FitsError", "naming_the_file", "native", "table"]


T = TypeVar("T")


class FitsError(ValueError):
    """A FITS file that does not hold what it should; the message names it."""


def naming_the_file(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Turn whatever goes wrong while reading into a `FitsError`."""

    @wraps(read)
    def wrapped(path: Path) -> T:
        try:
            return read(path)
        except FileNotFoundError as error:
            raise FitsError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise FitsError(f"{path}: {reason_of(error)}") from error

    return wrapped


def native(array: Any, dtype: Any = None) -> Any:
    """A writable array in the machine's byte order, no longer tied to the
    file; of the file's type if none is given.
    """
    return np.array(array, dtype=dtype or array.dtype.newbyteorder("="))


def table(name: str, columns: dict[str, Any]) -> fits.BinTableHDU:
    """A table extension of the columns given."""
    return fits.BinTableHDU(Table(columns), name=name)
