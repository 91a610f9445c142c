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


"""Options of the injection of companions, as a config."""

from __future__ import annotations

from lsst.pex.config import ChoiceField, Config, Field, ListField, RangeField

from ..injection.companion_options import CompanionOptions

__all__ = ["CompanionOptionsConfig"]


class CompanionOptionsConfig(Config):
    """What to inject beside which objects."""

    fraction = RangeField(
        dtype=float,
        doc="Of the peaks that are bright enough, this fraction gets a companion.",
        default=CompanionOptions.fraction,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
    )
    separation_fwhm = ListField[float](
        doc="Range of distances from the host, in units of the PSF's full width at half maximum.",
        default=list(CompanionOptions.separation_fwhm),
        length=2,
    )
    brightness = ChoiceField[str](
        doc="What is drawn of a companion's brightness.",
        default=CompanionOptions.brightness,
        allowed={
            "delta_mag": "Magnitudes fainter than the host, uniform in the range of delta_mag.",
            "snr": "Signal-to-noise ratio over all bands, log-uniform in the range of snr.",
        },
    )
    delta_mag = ListField[float](
        doc="Range of magnitudes fainter than the host in the reference band.",
        default=list(CompanionOptions.delta_mag),
        length=2,
    )
    snr = ListField[float](
        doc="Range of signal-to-noise ratios over all bands.",
        default=list(CompanionOptions.snr),
        length=2,
    )
    min_snr = RangeField(
        dtype=float,
        doc="Companions of a lower expected signal-to-noise ratio are drawn anew.",
        default=CompanionOptions.min_snr,
        min=0.0,
    )
    reference_band = Field[str](
        doc="Band of the magnitude difference.", default=CompanionOptions.reference_band
    )
    min_host_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio in the reference band from which a peak may be a host.",
        default=CompanionOptions.min_host_snr,
        min=0.0,
        inclusiveMin=False,
    )
    min_donor_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio over all bands, and half of it in the reference band, from which an "
        "object may give a companion its colours.",
        default=CompanionOptions.min_donor_snr,
        min=0.0,
        inclusiveMin=False,
    )
    isolation_fwhm = RangeField(
        dtype=float,
        doc="Companions are no nearer to each other than this. Full widths of the PSF at half maximum.",
        default=CompanionOptions.isolation_fwhm,
        min=0.0,
    )
    star_fraction = RangeField(
        dtype=float,
        doc="Share of companions that are points.",
        default=CompanionOptions.star_fraction,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
    )
    half_light_radius_arcsec = ListField[float](
        doc="Range of the others' half-light radii, log-uniform. Arcsec.",
        default=list(CompanionOptions.half_light_radius_arcsec),
        length=2,
    )
    sersic_indices = ListField[float](
        doc="Their Sersic indices, one as likely as another.",
        default=list(CompanionOptions.sersic_indices),
        minLength=1,
    )
    min_axis_ratio = RangeField(
        dtype=float,
        doc="Their axis ratios are uniform from here to 1.",
        default=CompanionOptions.min_axis_ratio,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
        inclusiveMin=False,
    )
    n_tries = RangeField(
        dtype=int,
        doc="A host beside which no companion fits in so many tries gets none.",
        default=CompanionOptions.n_tries,
        min=1,
    )

    def options(self) -> CompanionOptions:
        """The same as the core's options."""
        low_high = {
            name: (getattr(self, name)[0], getattr(self, name)[1])
            for name in ("separation_fwhm", "delta_mag", "snr", "half_light_radius_arcsec")
        }
        return CompanionOptions(
            fraction=self.fraction,
            brightness=self.brightness,
            min_snr=self.min_snr,
            reference_band=self.reference_band,
            min_host_snr=self.min_host_snr,
            min_donor_snr=self.min_donor_snr,
            isolation_fwhm=self.isolation_fwhm,
            star_fraction=self.star_fraction,
            sersic_indices=tuple(self.sersic_indices),
            min_axis_ratio=self.min_axis_ratio,
            n_tries=self.n_tries,
            **low_high,
        )

    def validate(self) -> None:
        """Refuse values that do not go together."""
        super().validate()
        self.options()
