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


"""What to inject beside which objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CompanionOptions"]

_RANGES = ("separation_fwhm", "delta_mag", "snr", "half_light_radius_arcsec")


@dataclass(frozen=True, kw_only=True)
class CompanionOptions:
    """What to inject beside which objects.

    Parameters
    ----------
    fraction : `float`
        Of the peaks that are bright enough, this fraction gets a companion.
    separation_fwhm : `tuple` [`float`, `float`]
        Range of distances from the host, in units of the PSF's full width at
        half maximum (median over bands).
    brightness : `str`
        ``"delta_mag"``: magnitudes fainter than the host in the reference
        band, uniform in ``delta_mag``. ``"snr"``: signal-to-noise ratio over
        all bands, log-uniform in ``snr``, whatever the host.
    delta_mag : `tuple` [`float`, `float`]
        Range of magnitudes fainter than the host in the reference band.
    snr : `tuple` [`float`, `float`]
        Range of signal-to-noise ratios over all bands.
    min_snr : `float`
        Companions of a lower expected signal-to-noise ratio are drawn anew.
    reference_band : `str`
        Band of ``delta_mag``, to which colours refer.
    min_host_snr : `float`
        Signal-to-noise ratio in the reference band from which a peak may be
        a host.
    min_donor_snr : `float`
        Signal-to-noise ratio over all bands, and half of it in the reference
        band, from which an object may give a companion its colours.
    isolation_fwhm : `float`
        Companions are no nearer to each other than this.
    star_fraction : `float`
        Share of companions that are points.
    half_light_radius_arcsec : `tuple` [`float`, `float`]
        Range of half-light radii of the others, log-uniform.
    sersic_indices : `tuple` [`float`, ...]
        Their Sersic indices, one as likely as another.
    min_axis_ratio : `float`
        Their axis ratios are uniform from here to 1.
    n_tries : `int`
        A host beside which no companion fits in so many tries gets none.

    Raises
    ------
    ValueError
        Raised if a value is out of range.
    """

    fraction: float = 0.1
    separation_fwhm: tuple[float, float] = (0.5, 2.0)
    brightness: Literal["delta_mag", "snr"] = "delta_mag"
    delta_mag: tuple[float, float] = (0.0, 3.0)
    snr: tuple[float, float] = (8.0, 100.0)
    min_snr: float = 8.0
    reference_band: str = "i"
    min_host_snr: float = 10.0
    min_donor_snr: float = 20.0
    isolation_fwhm: float = 4.0
    star_fraction: float = 0.1
    half_light_radius_arcsec: tuple[float, float] = (0.1, 0.5)
    sersic_indices: tuple[float, ...] = (1.0, 4.0)
    min_axis_ratio: float = 0.3
    n_tries: int = 20

    def __post_init__(self) -> None:
        for name in _RANGES:
            values = getattr(self, name)
            if len(values) != 2 or not values[0] <= values[1]:
                raise ValueError(f"{name} is {values}; expected two numbers, the smaller one first")
            if name != "delta_mag" and not values[0] > 0:
                raise ValueError(f"{name} is {values}; expected positive numbers")
        for name in ("fraction", "star_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1")
        for name in ("min_host_snr", "min_donor_snr", "n_tries"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("min_snr", "isolation_fwhm"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not 0 < self.min_axis_ratio <= 1:
            raise ValueError(f"min_axis_ratio is {self.min_axis_ratio}; expected a number above 0, up to 1")
        if self.brightness not in ("delta_mag", "snr"):
            raise ValueError(f"brightness is {self.brightness!r}; expected 'delta_mag' or 'snr'")
        # GalSim draws Sersic profiles of these indices.
        if not self.sersic_indices or not all(0.3 < n < 6.2 for n in self.sersic_indices):
            raise ValueError(f"sersic_indices are {self.sersic_indices}; expected numbers from 0.3 to 6.2")
