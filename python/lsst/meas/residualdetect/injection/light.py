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


"""What the light of injected companions does to a coadd."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from ..boxes import nearest_pixel
from ..scene import Array
from ..truth.matching import Floats

__all__ = ["add_source_noise", "companion_snr", "variance_per_flux"]

# Pixels this bright, in units of their noise, tell how variance goes with
# flux; in fainter ones noise drowns the relation.
_BRIGHT_SNR = 10.0

# A source's light is summed up to this distance.
_REACH_PIX = 20.0


def variance_per_flux(image: Array, variance: Array, good: npt.NDArray[np.bool_]) -> float:
    """How much variance a unit of flux brings with it.

    From pixels far above the noise, beside the median variance, which is the
    sky's.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (y, x)
        A coadd.
    good : `numpy.ndarray`, (y, x), bool
        Pixels to use.

    Returns
    -------
    slope : `float`
        Variance over flux; 0 if the coadd does not show any.
    """
    good = good & np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    if not good.any():
        return 0.0
    sky = np.median(variance[good])
    bright = good & (image > _BRIGHT_SNR * np.sqrt(sky))
    flux = image[bright].astype(np.float64)
    if not len(flux):
        return 0.0
    return max(float((flux * (variance[bright] - sky)).sum() / np.square(flux).sum()), 0.0)


def add_source_noise(
    image: Array, variance: Array, light: Array, slope: float, rng: np.random.Generator
) -> None:
    """Give injected light the noise that real light has, in place.

    Gaussian, and independent from pixel to pixel, from band to band and from
    object to object; only that of the injected light, as the sky's is in the
    coadd already.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (y, x)
        The coadd with the light in it; changed.
    light : `numpy.ndarray`, (y, x)
        The light injected, without noise.
    slope : `float`
        Variance for a unit of flux; see `variance_per_flux`.
    rng : `numpy.random.Generator`
        Source of randomness.
    """
    added = slope * np.clip(light, 0, None)
    lit = added > 0
    variance[lit] += added[lit]
    image[lit] += np.sqrt(added[lit]) * rng.standard_normal(int(lit.sum()), dtype=np.float32)


def companion_snr(
    light: Array,
    variance: Array,
    good: npt.NDArray[np.bool_],
    positions: Floats,
    origin: tuple[int, int],
) -> Floats:
    """Signal-to-noise ratios of injected sources in one band.

    Of a filter matched to the source alone, the root of the sum of
    light^2 / variance, as for simulated sources; up to 20 pixels from it, or
    half way to the next.

    Parameters
    ----------
    light, variance : `numpy.ndarray`, (y, x)
        The light injected, without noise, and the variance with it.
    good : `numpy.ndarray`, (y, x), bool
        Pixels to use.
    positions : `numpy.ndarray`, (n, 2)
        Positions (y, x) in patch coordinates.
    origin : `tuple` [`int`, `int`]
        Patch coordinates (y, x) of the first pixel.

    Returns
    -------
    snr : `numpy.ndarray`, (n,), float64
        0 for a source off the image, or one that was not injected.
    """
    snr = np.zeros(len(positions))
    usable = good & np.isfinite(variance) & (variance > 0)
    nearest = np.full(len(positions), np.inf)
    if len(positions) > 1:
        nearest = KDTree(positions).query(positions, k=2)[0][:, 1]
    for index, (y, x) in enumerate((positions - origin).tolist()):
        radius = min(_REACH_PIX, nearest[index] / 2)
        first, last = nearest_pixel([[y - radius, x - radius], [y + radius, x + radius]])
        box = tuple(map(slice, np.maximum(first, 0), np.maximum(last + 1, 0)))
        rows, columns = np.ogrid[box]
        use = usable[box]
        use = use & ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)[: use.shape[0], : use.shape[1]]
        snr[index] = math.sqrt((np.square(light[box][use], dtype=np.float64) / variance[box][use]).sum())
    return snr
