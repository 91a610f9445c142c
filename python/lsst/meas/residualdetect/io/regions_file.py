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


"""Regions as DS9 draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from .whole_file import write_whole

__all__ = ["write_regions"]

_RADIUS_ARCSEC = 0.8
_RADIUS_PIX = 4.0


def write_regions(path: Path, sources: Table) -> None:
    """Write known and new sources as regions of DS9; Aladin and the package
    regions read them too.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    sources : `astropy.table.Table`
        ``name``, ``ra``, ``dec`` (degrees, ICRS), ``y``, ``x`` (pixels from
        0, used where no source has a place on the sky), and ``new``.
    """
    on_sky = np.isfinite(sources["ra"]).all()
    lines = ["# Region file format: DS9 version 4.1", "global width=1", "icrs" if on_sky else "image"]
    for row in sources:
        if on_sky:
            place, radius = f"{row['ra']:.7f},{row['dec']:.7f}", f'{_RADIUS_ARCSEC}"'
        else:
            place, radius = f"{row['x'] + 1:.3f},{row['y'] + 1:.3f}", f"{_RADIUS_PIX}"
        # A brace in a name would end its text.
        name = str(row["name"]).translate({ord("{"): "(", ord("}"): ")"})
        if row["new"]:
            lines.append(f"circle({place},{radius}) # color=red text={{{name}}}")
        else:
            lines.append(f"point({place}) # point=x color=green text={{{name}}}")
    write_whole(path, "\n".join(lines) + "\n")
