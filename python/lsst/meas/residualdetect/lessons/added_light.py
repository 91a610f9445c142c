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

"""Sources that are added to real pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import galsim
import numpy as np
import numpy.typing as npt

from ..boxes import nearest_pixel
from ..scene import Array
from ..scene_model import SourceModel
from ..simulation.population import draw_galaxies, draw_redshifts
from ..simulation.simulation_options import BANDS
from ..simulation.stars import draw_stars
from .hosts import Host

__all__ = ["Light", "draw_light", "light_of_host"]

_SIDE = 61


@dataclass(frozen=True, eq=False)
class Light:
    """A source in the model PSF, that can be put anywhere.

    Parameters
    ----------
    components : `tuple` [`SourceModel`, ...]
        Its light, in coordinates in which it is centred on (0, 0).
    """

    components: tuple[SourceModel, ...]

    def at(self, y: int, x: int) -> tuple[SourceModel, ...]:
        """Components of the source centred on a pixel."""
        return tuple(
            replace(part, origin=(part.origin[0] + y, part.origin[1] + x)) for part in self.components
        )


def _turned(part: SourceModel, centre: tuple[int, int], quarter_turns: int) -> SourceModel:
    """A component about its source's centre, turned and put at (0, 0)."""
    top, left = part.origin[0] - centre[0], part.origin[1] - centre[1]
    height, width = part.morphology.shape
    for _ in range(quarter_turns):  # as np.rot90: (y, x) goes to (-x, y)
        top, left, height, width = -(left + width - 1), top, width, height
    return replace(part, morphology=np.rot90(part.morphology, quarter_turns).copy(), origin=(top, left))


def light_of_host(host: Host, number: int, quarter_turns: int) -> Light:
    """A source of a real blend as it was modelled, turned."""
    y, x = nearest_pixel(host.peaks[number]).tolist()
    return Light(tuple(_turned(part, (y, x), quarter_turns) for part in host.sources[number]))


def _draw(profile: galsim.GSObject, psf: galsim.GSObject) -> Array:
    image = galsim.ImageF(_SIDE, _SIDE, scale=1.0)
    galsim.Convolve(profile, psf).drawImage(image=image, method="no_pixel")
    return np.clip(image.array, 0, None)


def _simulated(bands: Sequence[str], scale: float, sigma_pix: float, rng: np.random.Generator) -> Light:
    mag_i = np.array([rng.uniform(20, 25.5)])
    psf = galsim.Gaussian(sigma=sigma_pix)
    parts: list[tuple[npt.NDArray[np.float64], galsim.GSObject]] = []
    if rng.random() < 0.3:
        parts.append((draw_stars(mag_i, rng).point_njy[0], galsim.DeltaFunction()))
    else:
        galaxy = draw_galaxies(mag_i, draw_redshifts(mag_i, rng), rng)
        for part, kind in ((galaxy.disk, galsim.Exponential), (galaxy.bulge, galsim.DeVaucouleurs)):
            if part.flux_njy[0].any():
                shape = kind(half_light_radius=max(float(part.radius_arcsec[0]) / scale, 0.05))
                sheared = shape.shear(q=float(part.axis_ratio[0]), beta=part.angle_rad[0] * galsim.radians)
                parts.append((part.flux_njy[0], sheared))
    columns = [BANDS.index(band) for band in bands]
    half = _SIDE // 2
    return Light(
        tuple(
            SourceModel(0, flux[columns].astype(np.float32), _draw(profile, psf), (-half, -half))
            for flux, profile in parts
        )
    )


def draw_light(
    hosts: Sequence[Host], bands: Sequence[str], scale: float, sigma_pix: float, rng: np.random.Generator
) -> Light:
    """Draw a source to add: half are modelled sources of real blends, the
    others simulated galaxies and stars.

    Parameters
    ----------
    hosts : `~collections.abc.Sequence` [`Host`]
        Blends to take sources from; those of other bands are passed over.
    bands : `~collections.abc.Sequence` [`str`]
        Bands wanted.
    scale : `float`
        Side of a pixel in arcsec.
    sigma_pix : `float`
        Width of the model PSF.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    light : `Light`
        Of any brightness: whoever adds it gives it the one wanted.
    """
    if hosts and rng.random() < 0.5:
        host = hosts[int(rng.integers(len(hosts)))]
        number = int(rng.integers(len(host.peaks)))
        light = light_of_host(host, number, int(rng.integers(4)))
        total = sum((part.flux for part in light.components), np.zeros(len(bands), np.float32))
        if tuple(host.scene.bands) == tuple(bands) and light.components and (total > 0).any():
            return light
    return _simulated(bands, scale, sigma_pix, rng)
