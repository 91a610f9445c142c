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


"""Variances from whatever a survey says of its noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.stats import sigma_clip

from ..fits_common import FitsError
from ..remarks import Remarks
from .fits_planes import NOISE_KINDS

__all__ = ["blank_scatter", "noise_kind", "to_variance"]

# A weight is taken as an inverse variance if it agrees with the pixels'
# scatter to this factor in sigma; coadds' pixels are correlated, and a
# crowded image has few blank ones.
_WEIGHT_AGREES = 1.5

_ENOUGH_PIXELS = 1_000_000


def noise_kind(text: str, what: str) -> str:
    """One of `NOISE_KINDS`, as a user writes it.

    Raises
    ------
    FitsError
        Raised if it is none.
    """
    kind = {"ivar": "invvar", "var": "variance", "sigma": "rms", "error": "rms", "err": "rms"}.get(text, text)
    if kind not in NOISE_KINDS:
        raise FitsError(f"{what}: noise of kind {text!r}; expected one of {', '.join(NOISE_KINDS)}")
    return kind


def blank_scatter(pixels: npt.NDArray[np.floating]) -> float:
    """Standard deviation of pixels without sources.

    Parameters
    ----------
    pixels : `numpy.ndarray`
        Pixels; what is not finite is left out.

    Returns
    -------
    sigma : `float`
        From the median absolute deviation after clipping at 3 sigma; NaN if
        there are no pixels.
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return float("nan")
    # A million pixels tell it to a thousandth. An odd step samples all
    # columns.
    finite = finite[:: finite.size // _ENOUGH_PIXELS | 1]
    kept = sigma_clip(finite, sigma=3, maxiters=10, stdfunc="mad_std", masked=False)
    return float(1.4826 * np.median(np.abs(kept - np.median(kept))))


def to_variance(
    noise: npt.NDArray[Any] | float,
    kind: str,
    image: npt.NDArray[np.float32],
    factor: float,
    remarks: Remarks,
    what: str,
) -> npt.NDArray[np.float32]:
    """Variances of pixels.

    Parameters
    ----------
    noise : `numpy.ndarray`, (y, x), or `float`
        What the survey gives, in the units that the image has in its file.
    kind : `str`
        ``variance``, ``rms``, ``invvar``, or ``weight``: an inverse variance
        up to a factor, which is taken from the scatter of blank pixels
        unless it is near 1.
    image : `numpy.ndarray`, (y, x), float32
        The pixels, times ``factor``.
    factor : `float`
        What takes the file's units to those of the result.
    remarks : `Remarks`
        Is told of a weight's factor, and of values that no noise has.
    what : `str`
        The file, for messages.

    Returns
    -------
    variance : `numpy.ndarray`, (y, x), float32
        Infinite where the noise says that there is no information: weight
        zero, or a variance that is zero, negative or not finite.

    Raises
    ------
    FitsError
        Raised if no pixel has a usable noise.
    """
    # float64: squares of fluxes in jansky are near the end of float32.
    values = np.broadcast_to(np.asarray(noise, np.float64), image.shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        negative = int((values < 0).sum())
        usable = np.isfinite(values) & (values > 0)
        if kind == "rms":
            values = np.square(values)
        elif kind != "variance":
            values = np.reciprocal(values)
        variance = (values * factor**2).astype(np.float32)
        usable &= np.isfinite(variance) & (variance > 0)
    if negative:
        remarks.doubt(f"{what}: {negative} pixels of the {kind} are negative; those pixels are left out")
    if not usable.any():
        raise FitsError(f"{what}: the {kind} has no pixel that is positive and finite")
    variance = np.where(usable, variance, np.float32(np.inf))
    if kind == "weight":
        seen = blank_scatter((image / np.sqrt(variance))[usable])
        if np.isfinite(seen) and seen > 0 and not 1 / _WEIGHT_AGREES < seen < _WEIGHT_AGREES:
            remarks.note(
                f"{what}: as an inverse variance the weight is off the scatter of blank pixels by "
                f"{seen**2:.4g}; the variance is scaled by that factor"
            )
            variance *= np.float32(seen**2)
    return variance
