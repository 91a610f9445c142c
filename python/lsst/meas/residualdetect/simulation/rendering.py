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


"""Sources as the telescope sees them, without noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np
import numpy.typing as npt
from scipy import fft

from ..boxes import nearest_pixel
from ..scene import Array
from .conditions import BandConditions, round_psf
from .simulation_options import BANDS, SimulationOptions
from .sources import Sources, Values, flux_njy
from .structured import library_number, structured_disk

__all__ = ["Stamp", "render_sources"]

# Sides of stamps in pixels, all quick to transform.
_SIDES = np.array([32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768])
# Shares of a source's light that may fall outside its stamp and is folded
# back into it, and the brightness (flux over the noise of a pixel) up to
# which each is harmless: what it adds to a pixel stays below 0.1 sigma.
_FOLDED = (2e-2, 5e-3, 1e-3, 2e-4)
_BRIGHTNESS = np.array([2e3, 8e3, 4e4])

# Fainter or smaller disks would not show their knots, and cost time.
_N_KNOTS = 15
_KNOTS_FROM_RADIUS_ARCSEC = 0.4
_KNOTS_TO_MAG = 24.0
_STRUCTURE_FROM_RADIUS_ARCSEC = 0.25
_STRUCTURE_TO_MAG = 25.0


@dataclass(frozen=True, eq=False)
class Stamp:
    """Noiseless image of one source, cut to the scene.

    Parameters
    ----------
    rows, columns : `slice`
        Where it lies in the scene.
    pixels : `numpy.ndarray`, (band, y, x), float32
        Its light.
    """

    rows: slice
    columns: slice
    pixels: Array

    def snr(self, weights: npt.NDArray[np.floating]) -> float:
        """Signal-to-noise ratio over all bands of a scene of which the
        inverse variances (band, y, x) are given.
        """
        light = np.square(self.pixels, dtype=np.float64) * weights[:, self.rows, self.columns]
        return float(np.sqrt(light.sum()))


@lru_cache(maxsize=16)
def _unit_extent(kind: str, folded: float) -> float:
    """Side of the square outside of which a profile of unit half-light
    radius has no more than a share of its light, by GalSim's reckoning.
    """
    profile = {"exponential": galsim.Exponential, "de_vaucouleurs": galsim.DeVaucouleurs}[kind]
    gsparams = galsim.GSParams(folding_threshold=folded)
    return float(2 * np.pi / profile(half_light_radius=1, gsparams=gsparams).stepk)


def _stamp_sides(
    sources: Sources, flux: Values, conditions: Sequence[BandConditions], options: SimulationOptions
) -> npt.NDArray[np.intp]:
    """Side of the stamp that each source needs, in pixels: (n,), int."""
    sigma = np.sqrt([band.sky_variance for band in conditions])
    level = np.searchsorted(_BRIGHTNESS, (flux / sigma).max(axis=1))
    extent = np.zeros(len(sources))
    fwhm = max(band.fwhm_arcsec for band in conditions)
    for number, folded in enumerate(_FOLDED):
        psf = 2 * np.pi / round_psf(options, fwhm, folded).stepk
        chosen = level == number
        squared = np.full(chosen.sum(), psf**2)
        for part, kind in ((sources.disk, "exponential"), (sources.bulge, "de_vaucouleurs")):
            major = part.radius_arcsec[chosen] / np.sqrt(part.axis_ratio[chosen])
            shines = part.flux_njy[chosen].any(axis=1)
            squared += np.where(shines, (_unit_extent(kind, folded) * major) ** 2, 0)
        extent[chosen] = np.sqrt(squared)
    return _SIDES[np.minimum(np.searchsorted(_SIDES, extent / options.pixel_scale_arcsec), len(_SIDES) - 1)]


def _shows(sources: Sources, index: int, radius_arcsec: float, mag: float) -> bool:
    """Whether the disk of a source is at least so large and so bright."""
    i = BANDS.index("i")
    return bool(
        sources.disk.radius_arcsec[index] > radius_arcsec and sources.disk.flux_njy[index, i] > flux_njy(mag)
    )


class _FourierPlane:
    """Fourier transforms of stamps of one size.

    GalSim's profiles are analytic in Fourier space, so a source is drawn in
    all bands with one evaluation of each of its components and one
    multiplication with each band's PSF. The PSF and the pixel leave nothing
    to alias beyond the stamp's Nyquist frequency.
    """

    def __init__(self, side: int, conditions: Sequence[BandConditions], scale: float) -> None:
        self.side = side
        self.step = 2 * np.pi / (side * scale)
        half = side // 2
        self.bounds = galsim.BoundsI(0, half, -half, half - 1)
        pixel = galsim.Pixel(scale)
        # The sign pattern moves the image's centre to pixel (half, half).
        centre = 1 - 2 * (np.add.outer(np.arange(side), np.arange(half + 1)) % 2)
        self.psfs = np.stack(
            [self.transform(galsim.Convolve(band.psf, pixel)) * centre for band in conditions]
        ).astype(np.complex64)

    def transform(self, profile: galsim.GSObject) -> npt.NDArray[np.complex64]:
        """Half of a profile's transform, zero frequency first."""
        image = galsim.ImageCF(self.bounds, scale=self.step)
        profile.drawKImage(image=image, recenter=False)
        return fft.ifftshift(image.array, axes=0)

    def draw(self, parts: Sequence[tuple[Values, galsim.GSObject]]) -> Array:
        """Sum of profiles with given fluxes in each band: (band, side, side)."""
        total = sum(
            flux.astype(np.float32)[:, None, None] * self.transform(profile) for flux, profile in parts
        )
        return fft.irfft2(total * self.psfs, s=(self.side, self.side))


def _knots(radius_arcsec: float, seed: int) -> galsim.GSObject:
    """Points of equal light, spread like an exponential disk."""
    return galsim.RandomKnots(_N_KNOTS, half_light_radius=radius_arcsec, rng=galsim.BaseDeviate(seed))


def _structured(
    sources: Sources, index: int, columns: Sequence[int], number: int
) -> tuple[list[tuple[Values, galsim.GSObject]], tuple[float, float]]:
    """Old and young light of a disk of the library, and how far the nucleus
    is from the centre of the galaxy's light, in arcsec.
    """
    disk = structured_disk(number)
    part, shares = sources.disk, disk.shares[list(columns)]
    flux, radius = part.flux_njy[index, columns], float(part.radius_arcsec[index])
    shear = galsim.Shear(q=float(part.axis_ratio[index]), beta=part.angle_rad[index] * galsim.radians)
    shapes = (profile.dilate(radius).shear(shear) for profile in (disk.old, disk.young))
    share = float(sources.disk.flux_njy[index, BANDS.index("i")] / sources.flux_njy[index, BANDS.index("i")])
    x, y = shear.getMatrix() @ np.array(disk.centre) * radius * share
    fluxes = (flux * (1 - shares), flux * shares)
    return list(zip(fluxes, shapes, strict=True)), (-float(x), -float(y))


def _profiles(
    sources: Sources, index: int, columns: Sequence[int], shift: Values, options: SimulationOptions
) -> list[tuple[Values, galsim.GSObject]]:
    """Flux in each band and profile, of unit flux, of a source's components."""
    parts: list[tuple[Values, galsim.GSObject]] = []
    nucleus = (0.0, 0.0)
    for part, profile in ((sources.disk, galsim.Exponential), (sources.bulge, galsim.DeVaucouleurs)):
        if not part.flux_njy[index].any():
            continue
        if part is sources.disk and _shows(sources, index, _STRUCTURE_FROM_RADIUS_ARCSEC, _STRUCTURE_TO_MAG):
            number = library_number(float(part.angle_rad[index]), options.structured_fraction)
            if number is not None:
                parts, nucleus = _structured(sources, index, columns, number)
                continue
        shape = profile(half_light_radius=part.radius_arcsec[index])
        knotted = options.knot_fraction
        if (
            knotted
            and part is sources.disk
            and _shows(sources, index, _KNOTS_FROM_RADIUS_ARCSEC, _KNOTS_TO_MAG)
        ):
            # Any seed will do that is the disk's own.
            knots = _knots(part.radius_arcsec[index], int(1e6 * part.angle_rad[index]) + 1)
            shape = (1 - knotted) * shape + knotted * knots
        shape = shape.shear(q=part.axis_ratio[index], beta=part.angle_rad[index] * galsim.radians)
        parts.append((part.flux_njy[index, columns], shape))
    if sources.point_njy[index].any():
        parts.append((sources.point_njy[index, columns], galsim.DeltaFunction()))
    x, y = shift[1] + nucleus[0], shift[0] + nucleus[1]
    return [(flux, profile.shift(x, y)) for flux, profile in parts]


def render_sources(
    sources: Sources,
    positions: Values,
    conditions: Sequence[BandConditions],
    options: SimulationOptions,
) -> list[Stamp | None]:
    """Draw each source in all bands, convolved with the PSF and the pixel.

    Parameters
    ----------
    sources : `Sources`
        n sources.
    positions : `numpy.ndarray`, (n, 2)
        Their centres, y and x in pixels, in the image or outside.
    conditions : `~collections.abc.Sequence` [`BandConditions`]
        PSF of each band; the noise decides how far out a source is drawn.
    options : `SimulationOptions`
        Shape of the image and kind of PSF.

    Returns
    -------
    stamps : `list` [`Stamp` or `None`]
        One for each source, in nJy; `None` for a source none of whose light
        reaches the image.
    """
    columns = [BANDS.index(band.band) for band in conditions]
    scale = options.pixel_scale_arcsec
    sides = _stamp_sides(sources, sources.flux_njy[:, columns], conditions, options)
    planes = {side: _FourierPlane(int(side), conditions, scale) for side in np.unique(sides)}
    stamps: list[Stamp | None] = []
    for index, (position, side) in enumerate(zip(positions, sides, strict=True)):
        nearest = nearest_pixel(position)
        first = nearest - side // 2
        low, high = np.maximum(first, 0), np.minimum(first + side, options.shape)
        if (low >= high).any():
            stamps.append(None)
            continue
        parts = _profiles(sources, index, columns, (position - nearest) * scale, options)
        pixels = planes[side].draw(parts)
        rows, cols = map(slice, low, high)
        inside = tuple(map(slice, low - first, high - first))
        stamps.append(Stamp(rows, cols, pixels[:, *inside]))
    return stamps
