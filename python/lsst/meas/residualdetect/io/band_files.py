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


"""Which files of a survey belong to a band, and reading a plane of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .fits_common import FitsError
from .fits_planes import FitsPath, find_plane, open_fits, pixels_of
from .remarks import Remarks

__all__ = ["BandFiles", "Reading", "companion", "merged_header", "read_plane", "sibling"]


@dataclass(frozen=True)
class BandFiles:
    """Where the pixels of a band are.

    Parameters
    ----------
    name : `str`
        Canonical name.
    image : `FitsPath`
        File, and maybe extension.
    plane : `int`, optional
        Which plane, of a cube.
    """

    name: str
    image: FitsPath
    plane: int | None = None

    def __str__(self) -> str:
        return f"{self.image} (band {self.name})"


@dataclass
class Reading:
    """What has been read so far.

    Parameters
    ----------
    remarks : `Remarks`
        Is told what was assumed.
    files : `list` [`str`]
        What was opened.
    """

    remarks: Remarks
    files: list[str] = field(default_factory=list)

    def opened(self, path: FitsPath) -> FitsPath:
        """Note that a file is read."""
        if str(path.path) not in self.files:
            self.files.append(str(path.path))
        return path


def sibling(image: FitsPath, what: str) -> FitsPath | None:
    """A file of a Legacy Surveys' brick beside its image."""
    match = re.fullmatch(r"(.+-)image-([a-z])(\.fits(?:\.fz|\.gz)?)", image.path.name)
    if match is None or image.extension is not None:
        return None
    for name in (f"{match[1]}{what}-{match[2]}{match[3]}", f"{match[1]}{what}{match[3]}"):
        if (image.path.parent / name).is_file():
            return FitsPath(image.path.parent / name)
    return None


def merged_header(hdus: Any, hdu: Any) -> Any:
    """Cards of an extension, and of the primary header where it has none."""
    header = hdus[0].header.copy(strip=True)
    if hdu is not hdus[0]:
        header.update(hdu.header)
    return header


def read_plane(
    reading: Reading, path: FitsPath, roles: tuple[str, ...], plane: int | None, shape: tuple[int, int]
) -> tuple[npt.NDArray[Any], str | None, Any]:
    """Pixels, role and cards of what belongs to an image."""
    with open_fits(reading.opened(path)) as hdus:
        found = find_plane(hdus, path, (*roles, "image"))
        if found is None:
            raise FitsError(f"{path}: holds no image")
        hdu, role = found
        pixels = np.array(pixels_of(hdu, path, plane if len(hdu.shape) > 2 else None))
        if pixels.shape != shape:
            raise FitsError(f"{path}: has {pixels.shape} pixels; the image has {shape}")
        return pixels, role, hdu.header.copy()


def companion(hdus: Any, path: FitsPath, roles: tuple[str, ...]) -> str | None:
    """Number of the extension of an image's file that plays a role."""
    try:
        found = find_plane(hdus, path, roles)
    except FitsError:
        return None  # several without a name, which are not what is looked for
    if found is None or found[1] not in roles:
        return None
    return str(next(number for number, hdu in enumerate(hdus) if hdu is found[0]))
