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


"""The default galaxy population."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from .colours import N_TYPES, flux_ratios
from .simulation_options import BANDS
from .sources import Component, Sources, flux_njy

__all__ = ["draw_galaxies", "draw_redshifts"]

Values = npt.NDArray[np.float64]

# Half-light radius of an exponential disk in scale lengths.
_EXPONENTIAL_HALF_LIGHT = 1.678347
# Miller et al. (2013): share of bulge-dominated galaxies, and width of the
# bulge-to-total ratio of the others.
_BULGE_DOMINATED = 0.1
_BULGE_TO_TOTAL_WIDTH = 0.1
# Graham & Worley (2008, MNRAS 388, 1708): the bulges of spirals have
# half-light radii of 0.2 to 0.3 scale lengths.
_BULGE_SCALE_LENGTHS = 0.25
# Template spectra do not show all the variety there is.
_COLOUR_SCATTER_MAG = 0.05


def draw_redshifts(mag_i: Values, rng: np.random.Generator) -> Values:
    """Draw redshifts of galaxies of given i magnitudes.

    The LSST Science Book (arXiv:0912.0201), beside its eq. 3.7, has for all
    galaxies brighter than i the distribution z^2 exp(-z / z0), with
    z0 = 0.0417 i - 0.744 (after Coil et al. 2004, ApJ 617, 765). Its
    derivative, with counts that go as 10^(0.31 i), is the distribution at i:
    a mixture of gamma distributions of shape 3 and 4.

    Parameters
    ----------
    mag_i : `numpy.ndarray`, (n,)
        Total i magnitudes; below 20 the relation at 20 is used.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    redshift : `numpy.ndarray`, (n,), float64
        Redshifts.
    """
    scale = 0.0417 * np.maximum(mag_i, 20) - 0.744
    fourth = np.minimum(3 * 0.0417 / (0.31 * np.log(10) * scale), 1)
    shape = np.where(rng.random(len(mag_i)) < fourth, 4, 3)
    return rng.gamma(shape, scale)


def _draw_scale_lengths(mag_i: Values, rng: np.random.Generator) -> Values:
    """Scale lengths of disks along the major axis in arcsec.

    Miller et al. (2013, MNRAS 429, 2858), appendix B: p(r) goes as
    r exp(-(r / a)^(4/3)) with mean ln r = -1.145 - 0.269 (i - 23), from HST
    images (Simard et al. 2002, ApJS 142, 1).
    """
    mean_log = -1.145 - 0.269 * (mag_i - 23)
    # (r / a)^(4/3) is gamma distributed with shape 3/2.
    return np.exp(mean_log) * (rng.gamma(1.5, size=len(mag_i)) / np.exp(digamma(1.5))) ** 0.75


def _draw_axis_ratios(n: int, rng: np.random.Generator, *, bulges: bool) -> Values:
    """Axis ratios (1 - e) / (1 + e), with e drawn from the distributions of
    Miller et al. (2013, MNRAS 429, 2858), appendix B.
    """
    e = np.linspace(0, 0.804, 1001)
    if bulges:
        density = e * np.exp(-2.368 * e - 6.691 * e**2)
    else:
        density = e * (1 - np.exp((e - 0.804) / 0.2539)) / ((1 + e) * np.hypot(e, 0.0256))
    cumulative = np.cumsum(density)
    drawn = np.interp(rng.uniform(cumulative[0], cumulative[-1], n), cumulative, e)
    return (1 - drawn) / (1 + drawn)


def draw_galaxies(mag_i: Values, redshift: Values, rng: np.random.Generator) -> Sources:
    """Draw what galaxies look like.

    Sizes, axis ratios and bulge fractions follow Miller et al. (2013, MNRAS
    429, 2858): 10 % of the galaxies are pure de Vaucouleurs spheroids, the
    others disks with a small bulge. Disks have spectra from Sbc to younger
    than Im, bluer when fainter; bulges have that of an elliptical up to z =
    1 and of their disk beyond z = 2, where passive galaxies are few (Muzzin
    et al. 2013, ApJ 777, 18).

    Parameters
    ----------
    mag_i, redshift : `numpy.ndarray`, (n,)
        Total i magnitudes and redshifts.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    galaxies : `Sources`
        The galaxies, in the same order.
    """
    n = len(mag_i)
    spheroid = rng.random(n) < _BULGE_DOMINATED
    bulge_fraction = np.minimum(np.abs(rng.normal(0, _BULGE_TO_TOTAL_WIDTH, n)), 1)
    bulge_fraction[spheroid] = 1

    young = np.clip(rng.normal(2 + 0.2 * (mag_i - 22), 0.6), 1, N_TYPES - 1)
    disk_ratios = flux_ratios(young, redshift)
    old = np.clip(2 - redshift, 0, 1)[:, None]
    bulge_ratios = old * flux_ratios(np.zeros(n), redshift) + (1 - old) * disk_ratios
    scatter = 10 ** (0.4 * rng.normal(0, _COLOUR_SCATTER_MAG, (n, len(BANDS))))
    scatter[:, BANDS.index("i")] = 1
    flux_i = flux_njy(mag_i)

    scale_length = _draw_scale_lengths(mag_i, rng)
    disk_q = _draw_axis_ratios(n, rng, bulges=False)
    bulge_q = np.where(spheroid, _draw_axis_ratios(n, rng, bulges=True), np.sqrt(disk_q))
    bulge_scale_lengths = np.where(spheroid, _EXPONENTIAL_HALF_LIGHT, _BULGE_SCALE_LENGTHS)
    angle = rng.uniform(0, np.pi, n)
    return Sources(
        disk=Component(
            ((1 - bulge_fraction) * flux_i)[:, None] * disk_ratios * scatter,
            _EXPONENTIAL_HALF_LIGHT * scale_length * np.sqrt(disk_q),
            disk_q,
            angle,
        ),
        bulge=Component(
            (bulge_fraction * flux_i)[:, None] * bulge_ratios * scatter,
            bulge_scale_lengths * scale_length * np.sqrt(bulge_q),
            bulge_q,
            angle,
        ),
        point_njy=np.zeros((n, len(BANDS))),
        redshift=redshift,
        is_star=np.zeros(n, dtype=bool),
    )
