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

"""A temporary background on small scales, such as a bright star's halo."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import Akima1DInterpolator, CubicSpline, PPoly

from ..boxes import strips
from ..scene import Array

__all__ = ["local_background"]

Floats = npt.NDArray[np.float64]

_CLIP_SIGMA, _CLIP_ROUNDS = 3.0, 3
_SIGMA_OF_QUARTILES = 0.741  # standard deviation over interquartile range


def _clipped_mean(values: Floats) -> float:
    """Mean without what is far off: first from the median, then from the
    mean, as afw's MEANCLIP.
    """
    first, centre, third = np.percentile(values, (25, 50, 75))
    sigma = _SIGMA_OF_QUARTILES * (third - first)
    for _ in range(_CLIP_ROUNDS):
        kept = values[np.abs(values - centre) <= _CLIP_SIGMA * sigma]
        if not kept.size:
            break
        centre, sigma = kept.mean(), kept.std()
    return float(centre)


def _along(centres: Floats, values: Floats, size: int) -> Floats:
    """Values between, and quadratically beyond, the centres of bins: (size, n)
    from (bin, n).
    """
    if len(centres) == 1:
        return np.repeat(values, size, axis=0)
    if len(centres) == 2:
        slope = (values[1] - values[0]) / (centres[1] - centres[0])
        return values[0] + slope * (np.arange(size) - centres[0])[:, None]
    # An Akima spline of fewer than five points is none.
    spline: PPoly = (
        CubicSpline(centres, values, bc_type="natural")
        if len(centres) < 5
        else Akima1DInterpolator(centres, values)
    )
    at = np.clip(np.arange(size), centres[0], centres[-1])
    beyond = (np.arange(size) - at)[:, None]
    result: Floats = spline(at) + beyond * (spline(at, 1) + beyond / 2 * spline(at, 2))
    return result


def local_background(image: Array, good: npt.NDArray[np.bool_], bin_size: int) -> Array:
    """Clipped means of bins, with a spline between their centres.

    That of the stack's SubtractBackgroundTask with the options of
    SourceDetectionTask's ``tempLocalBackground``: ``algorithm`` AKIMA_SPLINE,
    ``statisticsProperty`` MEANCLIP, ``undersampleStyle`` REDUCE_INTERP_ORDER,
    no ``useApprox``; the pixels of sources are not left out.

    Parameters
    ----------
    image : `numpy.ndarray`, (y, x), float
        Pixels.
    good : `numpy.ndarray`, (y, x), bool
        Pixels to use.
    bin_size : `int`
        Side of a bin in pixels, about: an image of n pixels has
        n // ``bin_size`` + 1 bins.

    Returns
    -------
    background : `numpy.ndarray`, (y, x)
        In image units, of the image's type; 0 if no pixel is good.
    """
    if not good.any():
        return np.zeros_like(image)
    edges = [size * np.arange(n + 1) // n for size in image.shape for n in (size // bin_size + 1,)]
    means = np.full((len(edges[0]) - 1, len(edges[1]) - 1), np.nan)
    for (row, column), _ in np.ndenumerate(means):
        part = (slice(*edges[0][row : row + 2]), slice(*edges[1][column : column + 2]))
        pixels = image[part][good[part]].astype(np.float64)
        if pixels.size:
            means[row, column] = _clipped_mean(pixels)
    # Bins without a good pixel are as the nearest one with some.
    nearest = ndimage.distance_transform_edt(np.isnan(means), return_distances=False, return_indices=True)
    means = means[tuple(nearest)]
    centres = [(side[:-1] + side[1:] - 1) / 2 for side in edges]
    values = _along(centres[0], means, image.shape[0])
    background = np.empty_like(image)
    for _, _, rows in strips(len(image), 0):
        background[rows] = _along(centres[1], values[rows].T, image.shape[1]).T
    return background
