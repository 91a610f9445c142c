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


"""Where sources are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .simulation_options import SimulationOptions

__all__ = ["place_galaxies", "place_stars"]

Positions = npt.NDArray[np.float64]

# Slope of the angular correlation function of galaxies, w = A theta^-0.8;
# A at 1 arcsec of 0.2 is 0.008 at 1 arcmin, as observed near i = 25 (e.g.
# McCracken et al. 2007, ApJS 172, 314).
_CORRELATION_SLOPE = 0.8


def _uniform(
    per_arcmin2: float, options: SimulationOptions, margin_arcsec: float, rng: np.random.Generator
) -> Positions:
    """Poisson points over the image and a margin: (n, 2), y and x in pixels."""
    scale = options.pixel_scale_arcsec
    margin = margin_arcsec / scale
    # Pixel centres are integers, so the image begins half a pixel before 0.
    low, high = np.full(2, -0.5 - margin), np.array(options.shape) - 0.5 + margin
    n = rng.poisson(per_arcmin2 * np.prod(high - low) * (scale / 60) ** 2)
    return rng.uniform(low, high, (n, 2))


def _inside(positions: Positions, options: SimulationOptions) -> npt.NDArray[np.bool_]:
    margin = options.margin_arcsec / options.pixel_scale_arcsec
    low, high = -0.5 - margin, np.array(options.shape) - 0.5 + margin
    return np.asarray(((positions >= low) & (positions < high)).all(axis=1))


def place_galaxies(
    per_arcmin2: float, options: SimulationOptions, rng: np.random.Generator
) -> tuple[Positions, npt.NDArray[np.intp]]:
    """Place galaxies, some of them in close pairs.

    A Poisson field of galaxies, a share of which has one companion each, at
    a separation with density theta^-0.8 per unit area out to
    ``clustering_radius_arcsec``. Pairs of one field and its companions have
    then exactly the angular correlation w = A theta^-0.8 within that radius.

    Parameters
    ----------
    per_arcmin2 : `float`
        Mean number of galaxies per square arcminute, companions included.
    options : `SimulationOptions`
        Image, margin and clustering.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    positions : `numpy.ndarray`, (n, 2), float64
        y and x in pixels, over the image and its margin.
    host : `numpy.ndarray`, (n,), int
        Index of the galaxy that a companion was placed beside; a galaxy that
        is nobody's companion, or whose host is beyond the margin, has its
        own index.
    """
    fraction = options.companion_fraction
    # Hosts beyond the margin have companions within it.
    reach = options.clustering_radius_arcsec if fraction else 0
    hosts = _uniform(per_arcmin2 * (1 - fraction), options, options.margin_arcsec + reach, rng)
    with_companion = np.flatnonzero(rng.random(len(hosts)) < fraction / (1 - fraction))
    n = len(with_companion)
    separation = options.clustering_radius_arcsec * rng.random(n) ** (1 / (2 - _CORRELATION_SLOPE))
    angle = rng.uniform(0, 2 * np.pi, n)
    offset = (separation / options.pixel_scale_arcsec)[:, None] * np.stack(
        [np.sin(angle), np.cos(angle)], axis=1
    )
    positions = np.concatenate([hosts, hosts[with_companion] + offset])
    host = np.concatenate([np.arange(len(hosts)), with_companion])

    inside = _inside(positions, options)
    renumbered = np.cumsum(inside) - 1
    kept = np.flatnonzero(inside)
    host = np.where(inside[host[kept]], renumbered[host[kept]], np.arange(len(kept)))
    return positions[kept], host


def place_stars(per_arcmin2: float, options: SimulationOptions, rng: np.random.Generator) -> Positions:
    """Place stars at random: (n, 2), y and x in pixels, over the image and
    its margin.
    """
    return _uniform(per_arcmin2, options, options.margin_arcsec, rng)
