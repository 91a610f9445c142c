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


"""Catalogues and segmentation maps of sources that are known already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from scipy import ndimage

from ...scene import Array, Positions
from ..fits_common import FitsError
from ..plausible_peaks import inverted
from ..remarks import Remarks, reason_of
from .fits_planes import FitsPath, find_plane, open_fits, pixels_of
from .sky_wcs import SkyWcs

__all__ = ["peaks_of_labels", "positions_of", "read_footprints", "read_known"]

# Names of columns, in small letters, and from which number they count pixels.
_PIXELS: Sequence[tuple[str, str, int]] = (
    ("x_image", "y_image", 1),  # SExtractor
    ("xwin_image", "ywin_image", 1),
    ("xpeak_image", "ypeak_image", 1),
    ("xcentroid", "ycentroid", 0),  # photutils
    ("x_centroid", "y_centroid", 0),
    ("x_peak", "y_peak", 0),
    ("xcenter", "ycenter", 0),
    ("x", "y", 0),
)
_SKY: Sequence[tuple[str, str]] = (
    ("ra", "dec"),
    ("coord_ra", "coord_dec"),
    ("alpha_j2000", "delta_j2000"),
    ("alphawin_j2000", "deltawin_j2000"),
    ("raj2000", "dej2000"),
    ("ra_icrs", "de_icrs"),
    ("ramean", "decmean"),
    ("right_ascension", "declination"),
    ("i_ra", "i_dec"),
)
_IDS = ("id", "objectid", "object_id", "objid", "source_id", "number", "label")

# Labels fall into pieces where masks cut them, but not into so many.
_MAX_PIECES = 2

# A catalogue whose pixels and sky positions disagree by more was made of
# another image.
_MAX_DISAGREEMENT_PIX = 1.0


def _column(table: Any, name: str) -> Any:
    names = table.colnames if isinstance(table, Table) else table.columns.names
    for own in names:
        if own.lower() == name:
            return table[own]
    return None


def _numbers(column: Any) -> npt.NDArray[np.float64]:
    """Values as floats, NaN where they are masked."""
    return np.asarray(np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan), np.float64)


def _pixels(table: Any) -> tuple[Positions, Positions] | None:
    for x_name, y_name, first in _PIXELS:
        x, y = _column(table, x_name), _column(table, y_name)
        if x is not None and y is not None:
            return _numbers(y) - first, _numbers(x) - first
    return None


def _sky(table: Any, what: str) -> Any:
    for ra_name, dec_name in _SKY:
        ra, dec = _column(table, ra_name), _column(table, dec_name)
        if ra is None or dec is None:
            continue
        unit = getattr(ra, "unit", None) or u.deg
        try:
            ra, dec = (_numbers(getattr(angle, "value", angle)) for angle in (ra, dec))
            degrees = [(angle * u.Unit(unit)).to_value(u.deg) for angle in (ra, dec)]
            finite = np.isfinite(degrees).all(axis=0)
            if (np.abs(degrees[1][finite]) > 90).any():
                raise ValueError(f"declinations up to {np.abs(degrees[1][finite]).max():g} degrees")
            # SkyCoord takes no NaN in declination's range check; they stay NaN.
            return SkyCoord(degrees[0] * u.deg, degrees[1] * u.deg, frame="icrs")
        except ValueError as error:
            raise FitsError(f"{what}: columns {ra_name}, {dec_name} are no sky positions: {error}") from error
    return None


def positions_of(
    table: Any, wcs: SkyWcs | None, what: str, remarks: Remarks | None = None
) -> tuple[Positions, Positions]:
    """Pixels (y, x), counted from 0, of the rows of a table.

    Parameters
    ----------
    table : `astropy.table.Table` or `astropy.io.fits.FITS_rec`
        With sky positions (``ra``, ``dec`` and what surveys call them, in
        degrees unless the column has a unit), which are used where there is
        a WCS; or with pixels: SExtractor's ``X_IMAGE`` counts from 1, and
        ``x``, ``y`` and photutils' names from 0.
    wcs : `SkyWcs`, optional
        Of the image.
    what : `str`
        The file, for messages.
    remarks : `Remarks`, optional
        Is told where the two disagree.

    Raises
    ------
    FitsError
        Raised if the table has neither, or only sky positions and there is
        no WCS.
    """
    pixels, sky = _pixels(table), _sky(table, what)
    if sky is not None and wcs is not None:
        y, x = wcs.pixels(sky)
        if pixels is not None and remarks is not None and len(y):
            apart = np.nanmedian(np.hypot(pixels[0] - y, pixels[1] - x))
            if apart > _MAX_DISAGREEMENT_PIX:
                remarks.note(
                    f"{what}: its pixels and its sky positions are {apart:.3g} pixels apart; "
                    "it was made of another image, and the sky positions are used"
                )
        return y, x
    if pixels is not None:
        return pixels
    names = table.colnames if isinstance(table, Table) else table.columns.names
    if sky is not None:
        raise FitsError(f"{what}: has sky positions, but the image has no WCS to place them")
    raise FitsError(f"{what}: has no positions (x, y or ra, dec); its columns are {', '.join(names)}")


def _read_table(path: Path) -> Table:
    try:
        return Table.read(path)
    except FileNotFoundError as error:
        raise FitsError(f"{path}: no such file") from error
    except Exception as error:  # every format has its own errors
        try:
            return Table.read(path, format="ascii")
        except Exception:
            raise FitsError(f"{path}: no table that astropy reads: {reason_of(error)}") from error


def read_known(
    path: Path, shape: tuple[int, int], wcs: SkyWcs | None, remarks: Remarks
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """The sources of a catalogue that lie in an image.

    Parameters
    ----------
    path : `~pathlib.Path`
        Any table that astropy reads; see `positions_of` for its columns.
    shape : `tuple` [`int`, `int`]
        Height and width of the image.
    wcs : `SkyWcs`, optional
        Of the image.
    remarks : `Remarks`
        Is told how many sources are left out.

    Returns
    -------
    peaks : `numpy.ndarray`, (n, 2), float64
        Pixels (y, x), from 0.
    ids : `numpy.ndarray`, (n,), str
        The catalogue's names of the sources, else their rows.

    Raises
    ------
    FitsError
        Raised if it cannot be read, or no source lies in the image.
    """
    table = _read_table(path)
    if not len(table):
        raise FitsError(f"{path}: the table has no rows")
    y, x = positions_of(table, wcs, str(path), remarks)
    finite = np.isfinite(y) & np.isfinite(x)
    if not finite.all():
        remarks.doubt(f"{path}: {(~finite).sum()} of {len(y)} sources have no position and are left out")
    with np.errstate(invalid="ignore"):
        inside = (y > -0.5) & (x > -0.5) & (y < shape[0] - 0.5) & (x < shape[1] - 0.5)
    if not inside.any():
        raise FitsError(
            f"{path}: none of {len(y)} sources lies in the image of {shape[0]} x {shape[1]} pixels"
        )
    if (finite & ~inside).any():
        remarks.note(f"{path}: {(finite & ~inside).sum()} of {len(y)} sources lie outside the image")
    ids = next((column for name in _IDS if (column := _column(table, name)) is not None), None)
    names = np.arange(1, len(y) + 1) if ids is None else np.asarray(ids)
    return np.stack([y[inside], x[inside]], axis=1), names[inside].astype(np.str_)


def peaks_of_labels(
    labels: npt.NDArray[np.int32], images: Array, variance: Array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """The brightest pixel of each segment, and the segment's number.

    Parameters
    ----------
    labels : `numpy.ndarray`, (y, x), int32
        A segmentation map.
    images, variance : `numpy.ndarray`, (band, y, x), float32
        The pixels.

    Returns
    -------
    peaks : `numpy.ndarray`, (n, 2), float64
        Pixels (y, x) where the bands together are most significant, smoothed
        over a pixel.
    ids : `numpy.ndarray`, (n,), str
        Labels.
    """
    significance = (images / np.sqrt(variance)).sum(axis=0)
    numbers = np.unique(labels[labels > 0])
    places = ndimage.maximum_position(ndimage.gaussian_filter(significance, 1.0), labels, numbers)
    return np.array(places, np.float64).reshape(-1, 2), numbers.astype(np.str_)


def read_footprints(
    path: FitsPath,
    images: Array,
    pixels: npt.NDArray[np.integer] | None,
    remarks: Remarks,
) -> npt.NDArray[np.int32]:
    """A segmentation map as SExtractor and photutils write it.

    Parameters
    ----------
    path : `FitsPath`
        Image of labels; 0 where there is no source.
    images : `numpy.ndarray`, (band, y, x), float32
        The pixels, by which inverted maps are recognised.
    pixels : `numpy.ndarray`, (n, 2), int, optional
        Array indices (y, x) of known sources, likewise.
    remarks : `Remarks`
        Is told of a mask in place of a map, if the labels are all that is
        known.

    Returns
    -------
    footprints : `numpy.ndarray`, (y, x), int32
        Labels as in the file, 0 = none.

    Raises
    ------
    FitsError
        Raised if the map has another shape than the images, labels that are
        no integers, negative ones or none at all, or is inverted.
    """
    with open_fits(path) as hdus:
        found = find_plane(hdus, path, ("image", "mask"))
        if found is None:
            raise FitsError(f"{path}: holds no image of labels")
        labels = np.array(pixels_of(found[0], path))
    if labels.shape != images.shape[1:]:
        raise FitsError(f"{path}: footprints have shape {labels.shape}, but images have {images.shape[1:]}")
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise FitsError(f"{path}: footprints have labels that are no integers")
    if labels.min() < 0:
        raise FitsError(f"{path}: footprints have the label {labels.min()}; expected 0 or more")
    if not labels.any():
        raise FitsError(f"{path}: no pixel has a label; expected at least one footprint")
    reason = inverted(labels, images, pixels)
    if reason:
        raise FitsError(f"{path}: {reason}")
    if labels.max() > np.iinfo(np.int32).max:
        raise FitsError(f"{path}: footprints have the label {labels.max()}; expected 32 bits")
    n_labels, n_pieces = len(np.unique(labels[labels > 0])), ndimage.label(labels > 0)[1]
    if pixels is None and n_pieces > _MAX_PIECES * n_labels:
        remarks.doubt(
            f"{path}: {n_labels} labels are in {n_pieces} pieces, and each stands for one known source; "
            "likely a mask in place of a segmentation map"
        )
    return labels.astype(np.int32)
