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


"""What to simulate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from surveycodex import get_survey
from surveycodex.survey import Survey

from ..io.band_names import CANONICAL_NAMES
from .counts import galaxy_counts

__all__ = ["BANDS", "ZERO_POINT", "SimulationError", "SimulationOptions"]

# Fluxes of every source are drawn in all of these, so that a scene in fewer
# bands shows the same sky.
BANDS = CANONICAL_NAMES

# AB magnitude of a flux of 1 nJy.
ZERO_POINT: float = 31.4


class SimulationError(ValueError):
    """Options or a catalogue that cannot be simulated; the message names the
    option, or the file and column, and what was expected.
    """


@dataclass(frozen=True)
class SimulationOptions:
    """Options of `simulate_scene`; the defaults are a high-latitude field of
    LSST's ten-year coadds.

    Parameters
    ----------
    bands : `tuple` [`str`]
        Bands of the scene, some of ugrizy, in the order wanted.
    shape : `tuple` [`int`, `int`]
        Height and width in pixels.
    survey : `str`
        Survey that surveycodex knows, for pixel scale, seeing, sky, zero
        points and exposure times: LSST, HSC, DES, CFHTLS, SDSS, PanSTARRS.
        Colours are those in LSST's filters whatever the survey.
    exposure_factor : `float`
        Exposure time in units of the survey's full depth: 0.1 is one year of
        LSST.
    depth_scatter : `float`
        Standard deviation of ln(exposure time) from band to band.
    density : `float`
        Factor of the galaxy counts.
    mag_limit : `float`
        Faintest i magnitude drawn, galaxies and stars.
    clustering : `float`
        Galaxy angular correlation at 1 arcsec, w = ``clustering`` *
        (theta / arcsec)^-0.8, for ``density=1``; see `place_galaxies`.
    clustering_radius_arcsec : `float`
        Separation beyond which galaxies are uncorrelated.
    star_density : `float`
        Stars with i < 25 per square arcminute.
    seeing_scatter : `float`
        Standard deviation of ln(seeing), drawn once for the scene and again
        for each band.
    psf_profile : `str`
        ``"kolmogorov"`` or ``"moffat"``.
    moffat_beta : `float`
        Exponent of the Moffat profile.
    psf_ellipticity : `float`
        Standard deviation of each component of the PSF's reduced shear,
        drawn once for the scene and, half as large, for each band.
    psf_size : `int`
        Side of the PSF images in pixels, odd.
    margin_arcsec : `float`
        Sources are placed up to this far outside the image.
    saturation_mag : `float`
        A point source of this magnitude just saturates its brightest pixel
        (LSST: about 15.8 in gri, Ivezic et al. 2019, ApJ 873, 111).
    noise_correlation : `float`
        Correlation of the noise of adjacent pixels, as resampling leaves it
        in coadds; the variance of a pixel is the same.
    knot_fraction : `float`
        Share of the light of large bright disks that comes from unresolved
        knots, as in real star-forming galaxies.
    structured_fraction : `float`
        Share of the disks larger than 0.25 arcsec and brighter than 25 in i
        that have arms, bars, rings, knots, dust or tidal tails, bluer than
        the rest; see `draw_disk`. These have no further knots.
    saturated_stars : `int`
        Stars of which the light reaches farther than any PSF image; see
        `add_saturated_star`.

    Raises
    ------
    SimulationError
        Raised if an option is out of range, or the survey lacks a band.
    """

    bands: tuple[str, ...] = BANDS
    shape: tuple[int, int] = (300, 300)
    survey: str = "LSST"
    exposure_factor: float = 1.0
    depth_scatter: float = 0.0
    density: float = 1.0
    mag_limit: float = 28.0
    clustering: float = 0.2
    clustering_radius_arcsec: float = 5.0
    star_density: float = 2.5
    seeing_scatter: float = 0.05
    psf_profile: str = "kolmogorov"
    moffat_beta: float = 3.0
    psf_ellipticity: float = 0.02
    psf_size: int = 41
    margin_arcsec: float = 5.0
    saturation_mag: float = 15.8
    noise_correlation: float = 0.0
    knot_fraction: float = 0.0
    structured_fraction: float = 0.0
    saturated_stars: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("exposure_factor", 1e-4, 1e4),
            ("depth_scatter", 0, 3),
            ("density", 0, 100),
            ("mag_limit", 18.5, 30),
            ("clustering", 0, math.inf),
            ("clustering_radius_arcsec", 0.1, 60),
            ("star_density", 0, 1000),
            ("seeing_scatter", 0, 1),
            ("moffat_beta", 1.5, 100),
            ("psf_ellipticity", 0, 0.2),
            ("margin_arcsec", 0, 60),
            ("saturation_mag", 5, 30),
            ("noise_correlation", 0, 0.5),
            ("knot_fraction", 0, 1),
            ("structured_fraction", 0, 1),
            ("saturated_stars", 0, 10),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # also true for NaN
                raise SimulationError(f"{name} is {value}; expected {low} to {high}")
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise SimulationError(f"shape is {self.shape}; expected (height, width) in pixels")
        if self.psf_profile not in ("kolmogorov", "moffat"):
            raise SimulationError(f"psf_profile is {self.psf_profile!r}; expected 'kolmogorov' or 'moffat'")
        if self.psf_size < 3 or self.psf_size % 2 == 0:
            raise SimulationError(f"psf_size is {self.psf_size}; expected an odd number of pixels from 3 up")
        known = self.survey_bands
        if not self.bands or len(set(self.bands)) != len(self.bands) or not set(self.bands) <= set(known):
            raise SimulationError(
                f"bands are {list(self.bands)}; expected different ones of {list(known)} for {self.survey}"
            )
        if self.companion_fraction > 0.5:
            raise SimulationError(
                f"clustering {self.clustering} within {self.clustering_radius_arcsec} arcsec down to "
                f"i={self.mag_limit} makes {self.companion_fraction:.0%} of the galaxies companions; "
                "expected at most 50%"
            )

    @property
    def survey_data(self) -> Survey:
        """What surveycodex knows of the survey."""
        try:
            return get_survey(self.survey)
        except ValueError as error:
            raise SimulationError(f"survey is {self.survey!r}: {error}") from None

    @property
    def survey_bands(self) -> tuple[str, ...]:
        """Those of ugrizy that the survey has."""
        return tuple(band for band in BANDS if band in self.survey_data.available_filters)

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of a pixel."""
        return float(self.survey_data.pixel_scale.to_value("arcsec"))

    @property
    def companion_fraction(self) -> float:
        """Share of the galaxies that are placed beside another one.

        It makes the pairs that ``clustering`` asks for at ``density=1``, and
        is kept at other densities: a denser field is more systems in
        projection, each like those of the default field, so that w falls as
        1 / density.
        """
        per_arcsec2 = galaxy_counts(self.mag_limit) / 3600
        return float(math.pi * per_arcsec2 * self.clustering * self.clustering_radius_arcsec**1.2 / 1.2)
