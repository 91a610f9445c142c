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

"""A star so bright that its light reaches farther than any PSF image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..mask_bits import set_bit
from ..scene import Scene
from .log_uniform import log_uniform

__all__ = ["add_saturated_star"]

Field = npt.NDArray[np.float64]

# All brightnesses in standard deviations of the background's noise.
_HALO_AT_20_PIX = (0.5, 60.0)
_HALO_SLOPE = (1.8, 3.5)
_SPIKE_OVER_HALO = (2.0, 30.0)
_SATURATES_AT = (150.0, 600.0)
# Variance of a pixel's light over the light: one over the noise of the sky in electrons.
_SHOT_NOISE = (1e-3, 1e-2)


def _wrinkles(shape: tuple[int, int], angle: Field, rng: np.random.Generator) -> Field:
    """How much brighter or fainter than a smooth halo: spokes and speckles."""
    field = np.ones(shape)
    for _ in range(int(rng.integers(2, 7))):
        field += rng.uniform(0.01, 0.12) * np.cos(
            int(rng.integers(1, 13)) * angle + rng.uniform(0, 2 * np.pi)
        )
    speckles = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(1.5, 10), mode="wrap")
    return np.asarray(np.clip(field + rng.uniform(0.02, 0.2) * speckles / speckles.std(), 0.1, None))


def add_saturated_star(scene: Scene, rng: np.random.Generator) -> Scene:
    """Add a star of which core and spikes saturate, and the halo, wrinkled as
    halos are, covers whatever is near.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scene : `Scene`
        The same with the star's light and its shot noise, which the variance
        knows of, and with ``SAT`` set where it saturates in a band.
    """
    height, width = scene.shape
    centre = rng.uniform(-0.1, 1.1, 2) * (height, width)
    y, x = np.indices(scene.shape).astype(float) - centre[:, None, None]
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    halo = (np.maximum(radius, 2.0) / 20) ** -rng.uniform(*_HALO_SLOPE)
    wrinkled = halo * _wrinkles(scene.shape, angle, rng)
    turn, thick = rng.uniform(0, np.pi), rng.uniform(0.8, 3.0)
    n_arms, strength = int(rng.choice((2, 2, 3))), log_uniform(_SPIKE_OVER_HALO, rng)
    for arm in range(n_arms):
        direction = turn + np.pi * arm / n_arms
        across = y * np.cos(direction) - x * np.sin(direction)
        wrinkled = wrinkled + strength * halo * np.exp(-0.5 * np.square(across / thick))

    sigma = np.sqrt(np.nanmedian(np.where(np.isfinite(scene.variance), scene.variance, np.nan), axis=(1, 2)))
    level, shot = log_uniform(_HALO_AT_20_PIX, rng), log_uniform(_SHOT_NOISE, rng)
    limit = log_uniform(_SATURATES_AT, rng)
    light = np.empty(scene.images.shape)
    for plane in light:  # the optics are the same, the seeing and the star's colour are not
        own = ndimage.gaussian_filter(wrinkled, rng.uniform(0, 1.5), mode="nearest")
        plane[...] = level * np.exp(rng.normal(0, 0.4)) * own
    noise = np.sqrt(shot * light) * rng.standard_normal(light.shape)
    full = light > limit
    unit = sigma[:, None, None]
    return replace(
        scene,
        images=(scene.images + unit * np.where(full, limit, light + noise)).astype(np.float32),
        variance=(scene.variance + np.square(unit) * shot * light).astype(np.float32),
        mask=set_bit(scene.mask, scene.mask_planes["SAT"], full),
    )
