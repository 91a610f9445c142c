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


"""One scene with truth."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from scipy import ndimage

from ..scene import MASK_PLANES, Array, Scene
from .catsim import draw_from_catalogue
from .conditions import draw_conditions
from .counts import BRIGHTEST_GALAXY, BRIGHTEST_STAR, draw_magnitudes, galaxy_counts, star_counts
from .placement import place_galaxies, place_stars
from .population import draw_galaxies, draw_redshifts
from .rendering import Stamp, render_sources
from .saturated_star import add_saturated_star
from .simulation_options import BANDS, SimulationOptions
from .sources import Sources, Values
from .stars import draw_stars

__all__ = ["Truth", "simulate_scene", "simulate_with_stamps"]

Truth = npt.NDArray[np.void]


def _draw_sky(
    options: SimulationOptions, rng: np.random.Generator, catalogue: Table | None
) -> tuple[Sources, Values]:
    """All sources of the field and their positions."""
    limit = options.mag_limit
    faintest = galaxy_counts(limit) - galaxy_counts(BRIGHTEST_GALAXY)
    positions, host = place_galaxies(float(options.density * faintest), options, rng)
    n = len(positions)
    if catalogue is None:
        mag_i = draw_magnitudes(n, BRIGHTEST_GALAXY, limit, rng)
        # A companion belongs to its host.
        galaxies = draw_galaxies(mag_i, draw_redshifts(mag_i, rng)[host], rng)
    else:
        galaxies = draw_from_catalogue(catalogue, n, limit, rng)
    per_arcmin2 = options.star_density * (star_counts(limit) - star_counts(BRIGHTEST_STAR))
    star_positions = place_stars(float(per_arcmin2), options, rng)
    stars = draw_stars(draw_magnitudes(len(star_positions), BRIGHTEST_STAR, limit, rng, stars=True), rng)
    return Sources.concatenate([galaxies, stars]), np.concatenate([positions, star_positions])


def _truth_table(sources: Sources, positions: Values, snr: Values, bands: tuple[str, ...]) -> Truth:
    columns = {
        "id": np.arange(1, len(sources) + 1),
        "y": positions[:, 0],
        "x": positions[:, 1],
        **{f"flux_{band}": sources.flux_njy[:, BANDS.index(band)] for band in bands},
        "snr": snr,
        "mag_i": sources.mag_i,
        "is_star": sources.is_star,
        "r_half_arcsec": sources.r_half_arcsec,
        "bulge_fraction": sources.bulge_fraction,
        "redshift": sources.redshift,
    }
    truth: Truth = Table(columns).as_array()
    return truth


def _draw_noise(options: SimulationOptions, rng: np.random.Generator) -> Array:
    """Noise of unit variance: (y, x), float32."""
    noise = rng.standard_normal(options.shape, dtype=np.float32)
    correlation = options.noise_correlation
    if correlation:
        # The kernel (a, 1, a) gives neighbours the correlation 2 a / (1 + 2 a^2).
        side = (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
        kernel = np.array([side, 1, side], np.float32) / math.sqrt(1 + 2 * side**2)
        for axis in (0, 1):
            noise = ndimage.convolve1d(noise, kernel, axis=axis, mode="wrap")
    return noise


def simulate_with_stamps(
    options: SimulationOptions, rng: np.random.Generator, name: str = "", catalogue: Table | None = None
) -> tuple[Scene, Truth, list[Stamp | None]]:
    """Simulate as `simulate_scene` does, and keep each source's own image.

    Returns
    -------
    scene, truth : `Scene`, `numpy.ndarray`
        As from `simulate_scene`.
    stamps : `list` [`Stamp` or `None`]
        Noiseless image of each source of the truth; `None` if none of its
        light reaches the scene.
    """
    conditions = draw_conditions(options, rng)
    sources, positions = _draw_sky(options, rng, catalogue)
    stamps = render_sources(sources, positions, conditions, options)

    signal = np.zeros((len(conditions), *options.shape), np.float32)
    for stamp in stamps:
        if stamp is not None:
            signal[:, stamp.rows, stamp.columns] += stamp.pixels
    sky = np.array([band.sky_variance for band in conditions], np.float32)[:, None, None]
    gain = np.array([band.electrons_per_njy for band in conditions], np.float32)[:, None, None]
    variance = sky + np.clip(signal, 0, None) / gain
    # Drawn for bands that are not wanted too, so that those wanted are the same.
    noise = {band: _draw_noise(options, rng) for band in options.survey_bands}
    full_well = np.array([band.saturation_njy for band in conditions], np.float32)[:, None, None]
    scene = Scene(
        images=np.minimum(
            signal + np.sqrt(variance) * np.stack([noise[band] for band in options.bands]), full_well
        ),
        variance=variance,
        psfs=np.stack([band.psf_image for band in conditions]),
        bands=options.bands,
        mask=(signal > full_well).astype(np.int32) << MASK_PLANES["SAT"],
        name=name,
        pixel_scale_arcsec=options.pixel_scale_arcsec,
    )
    weights: npt.NDArray[np.floating] = 1 / variance
    if options.saturated_stars:
        # Of a stream of its own, so that the rest of the scene stays the same.
        (own,) = rng.spawn(1)
        for _ in range(options.saturated_stars):
            scene = add_saturated_star(scene, own)
        weights = scene.weights()
    snr = np.array([0.0 if stamp is None else stamp.snr(weights) for stamp in stamps])
    return scene, _truth_table(sources, positions, snr, options.bands), stamps


def simulate_scene(
    options: SimulationOptions, rng: np.random.Generator, name: str = "", catalogue: Table | None = None
) -> tuple[Scene, Truth]:
    """Simulate the coadds of one patch of sky.

    Parameters
    ----------
    options : `SimulationOptions`
        Survey and population.
    rng : `numpy.random.Generator`
        Source of randomness.
    name : `str`, optional
        Name of the scene.
    catalogue : `astropy.table.Table`, optional
        Galaxies to draw from, as `read_catsim` returns them, placed like
        those of the default population, which is used if absent.

    Returns
    -------
    scene : `Scene`
        Images in nJy (AB zero point 31.4), background-subtracted; variance
        of sky and sources; the plane ``SAT`` where a pixel is saturated.
    truth : `numpy.ndarray`, (n,), structured
        Every source drawn, those far below the noise too, and those outside
        the image whose light may spill into it: their ``y`` and ``x`` lie up
        to ``margin_arcsec`` outside. Fields: ``id`` (from 1), ``y``, ``x``
        (centre, pixels), ``flux_<band>`` (total flux, nJy), ``snr`` (signal
        to noise of a filter matched to the source alone in all bands, the
        root of the sum of I^2 / variance over the scene's pixels with I its
        noiseless image; 0 if no light reaches the image), ``mag_i``,
        ``is_star``, ``r_half_arcsec`` (half-light radius before the PSF, the
        flux-weighted mean of bulge and disk), ``bulge_fraction`` (in i) and
        ``redshift`` (0 for stars).

    Raises
    ------
    SimulationError
        Raised if the catalogue has nothing to draw.

    Notes
    -----
    Among the objects of the default field that the ordinary detection finds
    and whose true i is brighter than 25, 21 % have within 1 arcsec a further
    true source with i < 27 and no peak of its own (15 % without clustering,
    31 % with ``density=2``), as against 14 % (Dawson et al. 2016, ApJ 816,
    11), 18 % at 23 < i < 24.5 (SITCOMTN-128) and 20 to 30 % (Troxel et al.
    2023, MNRAS 522, 2801) published for LSST.

    A source needs some 60 kB of memory until the scene is done. Scenes of
    one generator state in different bands show the same sky.
    """
    scene, truth, _ = simulate_with_stamps(options, rng, name, catalogue)
    return scene, truth
