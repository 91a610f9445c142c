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

"""How far each pixel of a residual stands out in the eyes of the PSF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..noise import point_source_sums, significance
from ..psf_images import to_centered_shape
from ..scene import Array

__all__ = ["PSF_SIDE", "matched_psfs", "psf_significance"]

# Side in pixels of the PSFs that are matched: what lies beyond has some per
# mille of the weight, as a pixel's weight goes with the PSF's square.
PSF_SIDE = 25

# Where fewer of the PSF's weight is on good pixels there is nothing to match.
_LEAST_WEIGHT = 0.05


def matched_psfs(psfs: Array, bands: Sequence[str], canonical: Sequence[str]) -> Array:
    """PSFs as `psf_significance` takes them.

    Parameters
    ----------
    psfs : `numpy.ndarray`, (band, h, w)
        PSF of each band.
    bands : `~collections.abc.Sequence` [`str`]
        Names of these bands.
    canonical : `~collections.abc.Sequence` [`str`]
        Bands wanted, in the order wanted.

    Returns
    -------
    psfs : `numpy.ndarray`, (canonical band, `PSF_SIDE`, `PSF_SIDE`), float32
        Their middles, of unit sum before they were cut; 0 for a band that is
        not there.
    """
    matched = np.zeros((len(canonical), PSF_SIDE, PSF_SIDE), np.float32)
    for band, psf in zip(bands, psfs, strict=True):
        if band in canonical:
            total = psf.sum(dtype=np.float64)
            matched[canonical.index(band)] = to_centered_shape(psf, (PSF_SIDE, PSF_SIDE)) / total
    return matched


def psf_significance(residual: Array, psfs: Array) -> Array:
    """Signal-to-noise ratio of a point source at each pixel of a residual.

    The filter that is matched to the PSF where noise is white (e.g. Bosch et
    al. 2018, PASJ 70, S5, section 4.1), on pixels in units of their own noise:
    S = (p * r) / sqrt(p^2 * good), * being the correlation, so that S has unit
    variance wherever there are good pixels.

    Parameters
    ----------
    residual : `numpy.ndarray`, (band, y, x)
        Residual in units of the noise; exactly 0 at bad pixels, beyond the
        edges there are none.
    psfs : `numpy.ndarray`, (band, h, w)
        PSF of each band, h and w odd; a band whose PSF is 0 gives 0.

    Returns
    -------
    significance : `numpy.ndarray`, (band, y, x), float32
        S; 0 where a twentieth of the PSF's weight, or less, is on good pixels.
    """
    found = np.zeros(residual.shape, np.float32)
    for plane, pixels, psf in zip(found, residual, psfs, strict=True):
        good = pixels != 0
        if psf.any() and good.any():
            plane[:] = significance(*point_source_sums(pixels, good, psf, least_seen=_LEAST_WEIGHT))
    return found
