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

"""What is no source, though it looks like one at times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..scene import Scene
from ..simulation.log_uniform import log_uniform

__all__ = ["ARTEFACTS", "add_artefacts"]

Field = npt.NDArray[np.float64]
_Shape = tuple[int, int]


def _sign(rng: np.random.Generator, negative: float) -> float:
    return -1.0 if rng.random() < negative else 1.0


def _place(shape: _Shape, rng: np.random.Generator) -> tuple[Field, Field]:
    """Coordinates of all pixels about a random one."""
    y, x = np.indices(shape).astype(float)
    return y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])


def _trail(shape: _Shape, rng: np.random.Generator) -> Field:
    """A satellite's or an aircraft's: straight, as wide as the PSF or wider."""
    y, x = _place(shape, rng)
    angle = rng.uniform(0, np.pi)
    across = y * np.cos(angle) - x * np.sin(angle)
    return log_uniform((0.7, 60), rng) * np.exp(-0.5 * np.square(across / rng.uniform(1.3, 5)))


def _ghost(shape: _Shape, rng: np.random.Generator) -> Field:
    """A reflection: a disk, or a ring, of even brightness."""
    radius = np.hypot(*_place(shape, rng))
    outer = rng.uniform(12, 90)
    soft = rng.uniform(0.5, 6)
    disk = 1 / (1 + np.exp(np.clip((radius - outer) / soft, -50, 50)))
    if rng.random() < 0.6:
        hole = outer * rng.uniform(0.2, 0.8)
        disk = disk / (1 + np.exp(np.clip((hole - radius) / soft, -50, 50)))
    return log_uniform((0.2, 5), rng) * disk


def _step(shape: _Shape, rng: np.random.Generator) -> Field:
    """An edge of a chip or of a visit: on one side the background is off."""
    y, x = _place(shape, rng)
    side = y > 0
    if rng.random() < 0.3:
        side = side & (x > 0)
    elif rng.random() < 0.5:
        side = x > 0
    return np.asarray(_sign(rng, 0.5) * log_uniform((0.2, 3), rng) * side, np.float64)


def _slope(shape: _Shape, rng: np.random.Generator) -> Field:
    """A background that was subtracted with too coarse, or too fine, a mesh."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(10, 40), mode="wrap")
    return np.asarray(log_uniform((0.15, 1.2), rng) * smooth / smooth.std())


def _cosmic_rays(shape: _Shape, rng: np.random.Generator) -> Field:
    """Remnants, sharper than any source."""
    image = np.zeros(shape)
    for _ in range(int(rng.integers(1, 12))):
        y, x = _place(shape, rng)
        angle, length = rng.uniform(0, np.pi), log_uniform((0.7, 12), rng)
        along, across = (
            x * np.cos(angle) + y * np.sin(angle),
            y * np.cos(angle) - x * np.sin(angle),
        )
        width = rng.uniform(0.4, 0.9)
        near = np.exp(-0.5 * np.square(across / width)) * (np.abs(along) <= length / 2 + width)
        image += log_uniform((4, 200), rng) * near
    return image


def _columns(shape: _Shape, rng: np.random.Generator) -> Field:
    """Bad columns, or rows, or part of one, that nobody has masked."""
    image = np.zeros(shape)
    for _ in range(int(rng.integers(1, 4))):
        first, width = int(rng.integers(shape[1])), int(rng.integers(1, 3))
        begins = int(rng.integers(shape[0])) if rng.random() < 0.5 else 0
        image[begins:, first : first + width] += _sign(rng, 0.4) * log_uniform((0.7, 40), rng)
    return image.T.copy() if shape[0] == shape[1] and rng.random() < 0.3 else image


ARTEFACTS: Mapping[str, Callable[[_Shape, np.random.Generator], Field]] = {
    "trail": _trail,
    "ghost": _ghost,
    "step": _step,
    "slope": _slope,
    "cosmic_rays": _cosmic_rays,
    "columns": _columns,
}
"""Each gives an image, in standard deviations of the background's noise, for
a shape and a generator."""


def _star_light(scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Spikes and halo of the brightest pixel, which no PSF image holds:
    (band, y, x), in image units.
    """
    good = ~scene.bad(("NO_DATA", "BAD"))
    pixels = np.where(good, scene.images, 0)
    peak = np.unravel_index(int(np.argmax(pixels.sum(axis=0))), scene.shape)
    y, x = np.indices(scene.shape).astype(float) - np.array(peak, float)[:, None, None]
    turn, width = rng.uniform(0, np.pi / 2), rng.uniform(0.8, 2.0)
    light = np.zeros(scene.shape)
    reach = rng.uniform(10, 60)
    for angle in (turn, turn + np.pi / 2):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        light += np.exp(-0.5 * np.square(across / width) - np.abs(along) / reach)
    halo = rng.uniform(0, 1) / (1 + np.square(np.hypot(y, x) / rng.uniform(5, 20))) ** 1.5
    strength = log_uniform((1e-3, 3e-2), rng) * np.exp(rng.normal(0, 0.3, len(scene.bands)))
    tops = np.clip(pixels[:, peak[0], peak[1]], 0, None)
    return np.asarray((strength * tops)[:, None, None] * (light + halo))


def add_artefacts(scene: Scene, rng: np.random.Generator) -> Scene:
    """Add what is no source: most of it in one band, or in two.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scene : `Scene`
        The same with trails, ghosts, steps and slopes of the background,
        cosmic rays, bad columns, and spikes and a halo of its brightest
        star; one to three of these. The variance knows nothing of it.
    """
    images = scene.images.astype(np.float64)
    variance = np.where(np.isfinite(scene.variance), scene.variance, np.nan)
    sigma = np.sqrt(np.nan_to_num(np.nanmedian(variance, axis=(1, 2))))
    kinds = (*ARTEFACTS, "star")
    for kind in rng.choice(kinds, int(rng.integers(1, 4))):
        if kind == "star":
            images += _star_light(scene, rng)
            continue
        n = len(scene.bands)
        bands = rng.permutation(n)[: int(rng.choice((1, min(2, n), n), p=(0.65, 0.2, 0.15)))]
        image = ARTEFACTS[str(kind)](scene.shape, rng)
        # Not as strong in the one band as in the other.
        images[bands] += (sigma[bands] * rng.uniform(0.4, 1, len(bands)))[:, None, None] * image
    return replace(scene, images=images.astype(np.float32))
