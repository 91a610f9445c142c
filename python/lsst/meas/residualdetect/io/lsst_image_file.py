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

"""Files of lsst.images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from astropy.io import fits

from ..scene import SceneError
from .fits_common import FitsError
from .lsst_image import LsstImage, noise_box, require_lsst_images, unpack
from .remarks import Remarks, reason_of

__all__ = ["band_of_lsst_image", "is_lsst_image_file", "read_lsst_image"]

_SCHEMA = re.compile(r"https?://images\.lsst\.io/schemas/\w+-[\d.]+")

# Its other encodings, which nothing else here reads.
_OTHER_ENDINGS = (".json", ".sdf", ".h5")


def is_lsst_image_file(path: Path) -> bool:
    """Whether a file says that lsst.images wrote it: by its card
    ``DATAMODL``, or by an ending that only lsst.images has.
    """
    if path.suffix.lower() in _OTHER_ENDINGS:
        return True
    # What cannot be read is told by whoever reads it next.
    with suppress(OSError, ValueError):
        return bool(_SCHEMA.match(str(fits.getheader(path).get("DATAMODL", ""))))
    return False


def _component(reader: Any, name: str, **kwargs: Any) -> Any:
    """A part of a file, `None` if its kind has no such part."""
    from lsst.images.serialization import InvalidComponentError

    try:
        return reader.get_component(name, **kwargs)
    except InvalidComponentError:
        return None


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A reader of a file; what goes wrong with it names the file."""
    try:
        require_lsst_images(f"{path}: reading this file")
    except ImportError as error:
        raise FitsError(str(error)) from error
    from lsst.images.serialization import ArchiveReadError, open_archive

    if not path.is_file():
        raise FitsError(f"{path}: no such file")
    compressed = path.suffix.lower() == ".gz"
    try:
        # Not by name, in which ? and % would not mean themselves.
        with path.open("rb") as stream, open_archive(str(path) if compressed else stream) as reader:
            yield reader
    except (FitsError, SceneError):
        raise
    except (ArchiveReadError, ImportError, OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise FitsError(f"{path}: {reason_of(error)}") from error


def band_of_lsst_image(path: Path) -> str | None:
    """The band that a file says it is of, without reading its pixels; with
    `read_lsst_image`'s errors.
    """
    with _open(path) as reader:
        return getattr(reader.get_tree(), "band", None)


def read_lsst_image(path: Path, remarks: Remarks) -> LsstImage:
    """Read a coadd that lsst.images wrote, in FITS or another encoding.

    Only what is needed is read, one part after the other.

    Parameters
    ----------
    path : `~pathlib.Path`
        File of a `lsst.images.cells.CellCoadd`, a `lsst.images.MaskedImage`
        or what is derived of it.
    remarks : `Remarks`
        Is told what is done and what is likely wrong.

    Returns
    -------
    image : `LsstImage`
        Its parts.

    Raises
    ------
    FitsError
        Raised with the file's name if it cannot be read, or lsst.images is
        not installed.
    """
    with _open(path) as reader:
        from lsst.images import MaskedImage

        remarks.reads(path)
        image = _component(reader, "masked_image")
        if image is None:
            image = reader.read()
        if not isinstance(image, MaskedImage):
            raise FitsError(f"{path}: holds a {type(image).__name__}, which has no mask and variance")
        realizations = _component(reader, "noise_realizations", bbox=noise_box(image.bbox))
        return unpack(
            image,
            remarks,
            str(path),
            psf=_component(reader, "psf"),
            backgrounds=_component(reader, "backgrounds"),
            realizations=realizations or (),
            band=getattr(reader.get_tree(), "band", None),
        )
