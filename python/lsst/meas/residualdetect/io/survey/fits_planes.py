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


"""Finding the image, its noise, its mask and its PSF in FITS files of any
survey.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from ..fits_common import FitsError
from ..remarks import Remarks, reason_of

__all__ = [
    "NOISE_KINDS",
    "FitsPath",
    "companion",
    "find_plane",
    "merged_header",
    "open_fits",
    "pixels_of",
    "read_plane",
    "role_of",
]

# In the order in which one is preferred where a file has several: a weight
# may be relative.
NOISE_KINDS: tuple[str, ...] = ("variance", "invvar", "rms", "weight")

_ROLES = {
    "image": "SCI SCIENCE IMAGE IMG DATA INTENSITY",
    "variance": "VARIANCE VAR",
    "invvar": "INVVAR IVAR IVM INVERSE_VARIANCE",
    "rms": "RMS SIGMA ERR ERROR STD STDDEV UNCERT UNCERTAINTY NOISE",
    "weight": "WEIGHT WEIGHTS WGT WHT WT",
    "mask": "MASK MSK DQ MASKBITS BITMASK FLAG FLAGS",
    "psf": "PSF PSFIMAGE",
}
_ROLE_OF_NAME = {name: role for role, names in _ROLES.items() for name in names.split()}

# What astropy's CCDData writes in the card UTYPE of its UNCERT extension.
_CCDDATA = {
    "STDDEVUNCERTAINTY": "rms",
    "STD": "rms",
    "VARIANCEUNCERTAINTY": "variance",
    "VAR": "variance",
    "INVERSEVARIANCE": "invvar",
    "IVAR": "invvar",
}


@dataclass(frozen=True)
class FitsPath:
    """A FITS file and, maybe, one of its extensions.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    extension : `str`, optional
        Number or name of the extension; ``SCI,2`` is the second of that name.
    """

    path: Path
    extension: str | None = None

    @classmethod
    def parse(cls, text: Any) -> FitsPath:
        """From ``file.fits``, ``file.fits[1]`` or ``file.fits[SCI]``."""
        match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", str(text))
        if match and not Path(str(text)).exists():
            return cls(Path(match[1]), match[2].strip())
        return cls(Path(text))

    def __str__(self) -> str:
        return str(self.path) if self.extension is None else f"{self.path}[{self.extension}]"


@contextmanager
def open_fits(path: FitsPath) -> Iterator[fits.HDUList]:
    """Open a FITS file; compressed ones too (``.gz``, ``.fz``).

    Raises
    ------
    FitsError
        Raised with the file's name if it is missing, is no FITS file or is
        cut short, here or while it is used.
    """
    if not path.path.is_file():
        raise FitsError(f"{path.path}: no such file")
    try:
        with warnings.catch_warnings():
            # It would only be said, and the missing pixels be anything.
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            warnings.filterwarnings("error", "Error validating header", AstropyUserWarning)
            with fits.open(path.path) as hdus:
                yield hdus
    except ValueError as error:  # SceneError and FitsError, which know the file
        if isinstance(error, FitsError) or type(error) is not ValueError:
            raise
        raise FitsError(f"{path}: {reason_of(error)}") from error
    except (
        *(OSError, TypeError, KeyError, IndexError, EOFError),
        *(zlib.error, AstropyUserWarning, fits.VerifyError),
    ) as error:
        raise FitsError(f"{path}: {reason_of(error)}") from error


def _is_image(hdu: Any) -> bool:
    """Whether an HDU holds pixels; without reading them."""
    return bool(hdu.is_image and len(hdu.shape) >= 2 and 0 not in hdu.shape)


def role_of(hdu: Any) -> str | None:
    """What an extension says that it is.

    Parameters
    ----------
    hdu : `astropy.io.fits.ImageHDU`
        An extension with pixels.

    Returns
    -------
    role : `str` or `None`
        ``image``, one of `NOISE_KINDS`, ``mask``, ``psf``; `None` if its
        cards say nothing. From ``UTYPE`` (astropy's CCDData), ``EXTTYPE``
        (the stack), ``EXTNAME`` and ``IMTYPE`` (Legacy Surveys).
    """
    kind = _CCDDATA.get(str(hdu.header.get("UTYPE", "")).strip().upper())
    if kind:
        return kind
    for card in ("EXTTYPE", "EXTNAME", "IMTYPE"):
        name = str(hdu.header.get(card, "")).strip().upper()
        # SCI_1 and SCI,1 are as good as SCI.
        role = _ROLE_OF_NAME.get(name) or _ROLE_OF_NAME.get(re.sub(r"[-_ ,]?\d+$", "", name))
        if role:
            return role
    return None


def _names(hdus: fits.HDUList) -> str:
    return ", ".join(f"{number} {hdu.name or '(no name)'}" for number, hdu in enumerate(hdus))


def _which(hdus: fits.HDUList, path: FitsPath) -> str:
    return f"any of its images could be meant; name one as {path.path.name}[...]: {_names(hdus)}"


def find_plane(hdus: fits.HDUList, path: FitsPath, roles: tuple[str, ...]) -> tuple[Any, str | None] | None:
    """The extension that plays one of some roles.

    Parameters
    ----------
    hdus : `astropy.io.fits.HDUList`
        The open file.
    path : `FitsPath`
        Which file, and maybe which extension.
    roles : `tuple` [`str`, ...]
        What is wanted, the best first.

    Returns
    -------
    found : `tuple` or `None`
        The extension, and its role if it says one. If ``path`` names no
        extension: the first with the best role, else the only one with
        pixels that says no role. `None` if there is none.

    Raises
    ------
    FitsError
        Raised if the extension that is named is not there or holds no
        pixels, or if several could be meant.
    """
    if path.extension is not None:
        name, _, number = path.extension.partition(",")
        try:
            hdu = hdus[int(name) if name.isdigit() else (name, int(number or 1))]
        except (KeyError, IndexError, ValueError) as error:
            raise FitsError(f"{path}: no such extension; there are {_names(hdus)}") from error
        if not _is_image(hdu):
            raise FitsError(f"{path}: this extension holds no image")
        return hdu, role_of(hdu)
    images = [hdu for hdu in hdus if _is_image(hdu)]
    for role in roles:
        playing = [hdu for hdu in images if role_of(hdu) == role]
        if role == "image" and len(playing) > 1:
            raise FitsError(f"{path}: {_which(hdus, path)}")
        if playing:
            return playing[0], role
    unknown = [hdu for hdu in images if role_of(hdu) is None]
    # What is not the image of a file is what its name says, if anything.
    primary = [hdu for hdu in unknown if hdu is hdus[0]]
    if len(unknown) > 1 and not primary:
        raise FitsError(f"{path}: {_which(hdus, path)}")
    found = primary or unknown
    return (found[0], None) if found else None


def pixels_of(hdu: Any, path: FitsPath, plane: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """The pixels of an extension, or of a plane of a cube.

    Parameters
    ----------
    hdu : `astropy.io.fits.ImageHDU`
        An extension with pixels.
    path : `FitsPath`
        Its file, for messages.
    plane : `tuple` [`int`, `int`], optional
        Which plane, and how many there must be, if it is a cube.

    Returns
    -------
    pixels : `numpy.ndarray`, (y, x)
        As the file has them, but for the scaling that its cards ask for.

    Raises
    ------
    FitsError
        Raised if that is no plane.
    """
    shape = tuple(hdu.shape)
    while len(shape) > 2 and shape[0] == 1:  # radio images have axes for frequency and polarisation
        shape = shape[1:]
    if plane is None and len(shape) == 3:
        raise FitsError(
            f"{path}: a cube of {shape[0]} planes; say which bands they are (g,r,i={path.path.name})"
        )
    if len(shape) > 3 or (plane is not None and (len(shape) < 3 or plane[1] != shape[0])):
        planes = f"; {plane[1]} bands are given" if plane else ""
        raise FitsError(f"{path}: pixels of shape {shape} are no image of each band{planes}")
    data: npt.NDArray[Any] = np.asarray(hdu.data).reshape(shape)
    if data.dtype.kind not in "fiub":
        raise FitsError(f"{path}: pixels of type {data.dtype}; expected numbers")
    return data if plane is None else data[plane[0]]


def merged_header(hdus: Any, hdu: Any) -> Any:
    """Cards of an extension, and of the primary header where it has none."""
    header = hdus[0].header.copy(strip=True)
    if hdu is not hdus[0]:
        header.update(hdu.header)
    return header


def companion(hdus: Any, path: FitsPath, roles: tuple[str, ...]) -> str | None:
    """Number of the extension of an image's file that plays a role."""
    try:
        found = find_plane(hdus, path, roles)
    except FitsError:
        return None  # several without a name, which are not what is looked for
    if found is None or found[1] not in roles:
        return None
    return str(next(number for number, hdu in enumerate(hdus) if hdu is found[0]))


def read_plane(
    remarks: Remarks,
    path: FitsPath,
    roles: tuple[str, ...],
    plane: tuple[int, int] | None,
    shape: tuple[int, int],
) -> tuple[npt.NDArray[Any], str | None, Any]:
    """Pixels, role and cards of what belongs to an image."""
    remarks.reads(path.path)
    with open_fits(path) as hdus:
        found = find_plane(hdus, path, (*roles, "image"))
        if found is None:
            raise FitsError(f"{path}: holds no image")
        hdu, role = found
        pixels = np.array(pixels_of(hdu, path, plane if len(hdu.shape) > 2 else None))
        if pixels.shape != shape:
            raise FitsError(f"{path}: has {pixels.shape} pixels; the image has {shape}")
        return pixels, role, hdu.header.copy()
