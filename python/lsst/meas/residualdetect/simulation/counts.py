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


"""How many galaxies and stars there are at each magnitude."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BRIGHTEST_GALAXY", "BRIGHTEST_STAR", "draw_magnitudes", "galaxy_counts", "star_counts"]

# Brighter objects are rare, and masked by every survey with a wide margin.
BRIGHTEST_GALAXY: float = 17.5
BRIGHTEST_STAR: float = 15.0

_KNEE = 20.5
_STAR_SLOPE = 0.13


def galaxy_counts(mag: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Galaxies brighter than an i magnitude, per square arcminute.

    46 * 10^(0.31 (i - 25)) is the fit to the CFHTLS Deep counts at
    20.5 < i < 25.5 in the LSST Science Book (arXiv:0912.0201), eq. 3.7; it
    is continued to fainter magnitudes, and with the Euclidean slope of 0.6
    to brighter ones (Yasuda et al. 2001, AJ 122, 1104).
    """
    mag = np.asarray(mag, dtype=float)
    knee = 46 * 10 ** (0.31 * (_KNEE - 25))
    return np.where(mag < _KNEE, knee * 10 ** (0.6 * (mag - _KNEE)), 46 * 10 ** (0.31 * (mag - 25)))


def star_counts(mag: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Stars brighter than an i magnitude, relative to those with i < 25.

    A power law through the rounded counts of the TRILEGAL model at high
    Galactic latitude (Girardi et al. 2005, A&A 436, 895; Dal Tio et al.
    2022, ApJS 262, 22): about 0.3 per square arcminute with i < 18 and 2 to
    4 with i < 25.
    """
    return 10 ** (_STAR_SLOPE * (np.asarray(mag, dtype=float) - 25))


def draw_magnitudes(
    n: int, bright: float, faint: float, rng: np.random.Generator, *, stars: bool = False
) -> npt.NDArray[np.float64]:
    """Draw i magnitudes between two limits from the counts: (n,), float64."""
    grid = np.linspace(bright, faint, 1001)
    counts = star_counts(grid) if stars else galaxy_counts(grid)
    return np.interp(rng.uniform(counts[0], counts[-1], n), counts, grid)
