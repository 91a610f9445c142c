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

"""What varies from one training scene to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..simulation import SimulationOptions
from ..simulation.log_uniform import log_uniform

__all__ = ["TileOptions", "Variation", "draw_variation"]

# Sets of bands beside the survey's own, with grizy and gri the most common.
_BAND_SETS = ("grizy", "grizy", "gri", "gri", "griz", "riz", "ugri", "izy")

# Share of the scenes with PSFs that are off the centre.
_OFF_CENTRE = 0.2


@dataclass(frozen=True)
class TileOptions:
    """Ranges from which training scenes are drawn.

    Parameters
    ----------
    size : `int`
        Side of a tile in pixels.
    surveys : `tuple` [`str`, ...]
        Surveys to draw from, alike often; see `SimulationOptions`.
    engines : `tuple` [`str`, ...]
        Deblenders to draw from, alike often.
    density : `tuple` [`float`, `float`]
        Lowest and highest factor of the galaxy counts; log-uniform.
    exposure : `tuple` [`float`, `float`]
        Shortest and longest exposure in units of the full survey's: from one
        visit to all; 40 % of the scenes have the longest, as many are
        log-uniform from a tenth of the longest, the others from the shortest.
    depth_scatter : `float`
        In half of the scenes ln(exposure) scatters by this from band to band.
    star_density : `tuple` [`float`, `float`]
        Fewest and most stars (i < 25) per square arcminute; log-uniform.
    max_noise_correlation : `float`
        Half of the scenes have noise correlated by up to this.
    max_knot_fraction : `float`
        Half of the scenes have disks with up to this share of light in knots.
    structured : `float`
        Share of the scenes in which 30 to 100 % of the large bright galaxies
        have structure; see `SimulationOptions`.
    psf_error : `float`
        Standard deviation of the relative error of the PSF's size that the
        deblender is given, and of twice each component of the shear error,
        in half of the scenes.
    psf_offset_pix : `float`
        In a fifth of the scenes these PSFs are off the centre by up to this.
    artefacts : `float`
        Share of the scenes with what is no source; see `add_artefacts`.
    saturated : `float`
        Share of the scenes with a star too bright for any PSF image; see
        `SimulationOptions`.
    fewer_bands : `float`
        Share of the scenes without some of the survey's bands.
    masked : `float`
        Share of the scenes with bad columns, rows and blots.
    informed : `float`
        Share of the scenes in which the deblender is told of some, or all,
        of the sources that ordinary detection does not find: what a second
        iteration sees, and what has nothing left to be found.
    forgetful : `float`
        Share of the other scenes in which the deblender is not told of some
        of the sources that detection finds: without these the network never
        sees the residual of a bright missing source.
    """

    size: int = 256
    surveys: tuple[str, ...] = ("LSST",)
    engines: tuple[str, ...] = ("factorized",)
    density: tuple[float, float] = (0.5, 4.0)
    exposure: tuple[float, float] = (0.005, 1.0)
    depth_scatter: float = 0.7
    star_density: tuple[float, float] = (1.0, 15.0)
    max_noise_correlation: float = 0.5
    max_knot_fraction: float = 0.3
    structured: float = 0.5
    psf_error: float = 0.025
    psf_offset_pix: float = 0.3
    artefacts: float = 0.35
    saturated: float = 0.08
    fewer_bands: float = 0.2
    masked: float = 0.3
    informed: float = 0.2
    forgetful: float = 0.2

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ValueError(f"size is {self.size} pixels; expected at least 64")
        for name in ("surveys", "engines"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; expected at least one name")
        for name in ("density", "exposure", "star_density"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {low} to {high}; expected 0 < lowest <= highest")
        for name in (
            *("fewer_bands", "masked", "informed", "forgetful", "psf_error"),
            *("structured", "artefacts", "saturated"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")


@dataclass(frozen=True)
class Variation:
    """One scene's share of `TileOptions`.

    Parameters
    ----------
    simulation : `SimulationOptions`
        What to simulate.
    engine : `str`
        Deblender.
    psf_size_error : `float`
        Relative error of the PSF's size.
    psf_shear_error : `tuple` [`float`, `float`]
        Error of the two components of its shear.
    psf_offset_pix : `tuple` [`float`, `float`]
        How far it is off the centre, in y and x.
    masked : `bool`
        Whether to mask pixels.
    artefacts : `bool`
        Whether to add what is no source.
    told : `float`
        Share of the sources without a peak that the deblender is told of.
    forgotten : `float`
        Share of the sources with a peak that it is not told of.
    """

    simulation: SimulationOptions
    engine: str = "factorized"
    psf_size_error: float = 0.0
    psf_shear_error: tuple[float, float] = (0.0, 0.0)
    psf_offset_pix: tuple[float, float] = (0.0, 0.0)
    masked: bool = False
    artefacts: bool = False
    told: float = 0.0
    forgotten: float = 0.0


def _exposure(limits: tuple[float, float], rng: np.random.Generator) -> float:
    shortest, longest = limits
    chance = rng.random()
    if chance < 0.4:
        return longest
    return log_uniform((max(shortest, longest / 10) if chance < 0.8 else shortest, longest), rng)


def draw_variation(options: TileOptions, rng: np.random.Generator) -> Variation:
    """Draw what one scene is like.

    Parameters
    ----------
    options : `TileOptions`
        Ranges.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    variation : `Variation`
        Conditions of the scene.
    """
    survey = str(rng.choice(options.surveys))
    simulation = SimulationOptions(bands=("i",), survey=survey)
    bands = simulation.survey_bands
    if rng.random() < options.fewer_bands:
        wanted = str(rng.choice(_BAND_SETS))
        bands = tuple(band for band in bands if band in wanted)
    psf_error = options.psf_error if rng.random() < 0.5 else 0.0
    shear_error = rng.normal(0, psf_error / 2, 2)
    informed = rng.random() < options.informed
    forgetful = not informed and rng.random() < options.forgetful
    simulation = replace(
        simulation,
        bands=bands,
        shape=(options.size, options.size),
        density=log_uniform(options.density, rng),
        exposure_factor=_exposure(options.exposure, rng),
        depth_scatter=options.depth_scatter if rng.random() < 0.5 else 0.0,
        star_density=log_uniform(options.star_density, rng),
        seeing_scatter=0.08,
        psf_ellipticity=0.03,
        psf_profile="moffat" if rng.random() < 0.3 else "kolmogorov",
        noise_correlation=rng.uniform(0, options.max_noise_correlation) if rng.random() < 0.5 else 0.0,
        knot_fraction=rng.uniform(0, options.max_knot_fraction) if rng.random() < 0.5 else 0.0,
        structured_fraction=rng.uniform(0.3, 1.0) if rng.random() < options.structured else 0.0,
        # Of a stream of its own, so that seeds give the scenes that they gave.
        saturated_stars=int(rng.spawn(1)[0].random() < options.saturated),
    )
    offset = np.zeros(2)
    if rng.random() < _OFF_CENTRE:
        offset = rng.uniform(-options.psf_offset_pix, options.psf_offset_pix, 2)
    return Variation(
        simulation=simulation,
        engine=str(rng.choice(options.engines)),
        psf_size_error=float(rng.normal(0, psf_error)),
        psf_shear_error=(float(shear_error[0]), float(shear_error[1])),
        psf_offset_pix=(float(offset[0]), float(offset[1])),
        masked=bool(rng.random() < options.masked),
        artefacts=bool(rng.random() < options.artefacts),
        # A quarter of the informed scenes have nothing left to be found.
        told=min(1.0, float(rng.uniform(0, 4 / 3))) if informed else 0.0,
        forgotten=float(rng.uniform(0.02, 0.3)) if forgetful else 0.0,
    )
