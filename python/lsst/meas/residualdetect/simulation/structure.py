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

"""Disks with structure, drawn face-on: arms, bars, rings, knots, dust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scene import Array

__all__ = ["PIXELS_PER_RADIUS", "SIDE", "DiskImage", "draw_disk"]

# Side of an image in pixels, and pixels for one half-light radius of the smooth
# disk: 0.04 arcsec each for a disk of 0.5 arcsec, as HST sees them.
SIDE = 96
PIXELS_PER_RADIUS = 12.0

_SCALE_LENGTHS_PER_RADIUS = 1.678347  # of an exponential disk

Field = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DiskImage:
    """A disk seen face-on.

    Parameters
    ----------
    old, young : `numpy.ndarray`, (`SIDE`, `SIDE`), float32
        Light of the smooth disk, bar and halo, and that of arms, rings and
        knots; each of unit sum and not negative. The galaxy's nucleus is in
        the middle of the image.
    young_share : `float`
        Share of the young light in i; more in bluer bands, see
        `young_shares`.
    """

    old: Array
    young: Array
    young_share: float


def _fractal(rng: np.random.Generator) -> Field:
    """Noise of zero mean and unit variance whose amplitude falls as a power
    of the frequency, as the light of gas and young stars does.
    """
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    field = np.fft.irfft2(white * frequency**-1.4, s=(SIDE, SIDE))
    return np.asarray(field / field.std())


def _arms(radius: Field, angle: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Logarithmic spirals, and the dust on their inner edges, from 0 to 1."""
    number = int(rng.choice((1, 2, 2, 2, 3, 4)))
    pitch = np.deg2rad(rng.uniform(8, 35)) * rng.choice((-1, 1))
    phase = angle - np.log(np.maximum(radius, 0.05)) / np.tan(pitch) + rng.uniform(0, 2 * np.pi)
    sharpness = rng.uniform(1.5, 8)
    arms = np.exp(sharpness * (np.cos(number * phase) - 1))
    dust = np.exp(2 * sharpness * (np.cos(number * phase + 0.7 * np.sign(pitch)) - 1))
    begins = 1 / (1 + np.exp(-(radius - rng.uniform(0.1, 0.6)) / 0.08))
    return arms * begins, dust * begins


def _bar(y: Field, x: Field, rng: np.random.Generator) -> Field:
    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    length = rng.uniform(0.4, 1.1)
    return np.exp(-((np.abs(along) / length) ** 3) - (np.abs(across) / (0.25 * length)) ** 2)


def _knots(y: Field, x: Field, where: Field, rng: np.random.Generator) -> Field:
    """Star-forming regions, drawn from the light of the young disk."""
    n = int(rng.integers(4, 35))
    places = rng.choice(where.size, n, p=(where / where.sum()).ravel())
    light = np.zeros_like(x)
    for place in places:
        size = rng.uniform(0.04, 0.14)
        away = np.square(y - y.flat[place]) + np.square(x - x.flat[place])
        light += rng.pareto(1.5) * np.exp(-0.5 * away / size**2) / size**2
    return np.asarray(light / light.sum())


def _tail(y: Field, x: Field, radius: Field, angle: Field, rng: np.random.Generator) -> Field:
    """One broad arm that leaves the disk on one side."""
    towards = rng.uniform(-np.pi, np.pi)
    bend = rng.uniform(-0.6, 0.6)
    off = np.angle(np.exp(1j * (angle - towards - bend * radius)))
    return (
        np.exp(-0.5 * (off / rng.uniform(0.2, 0.5)) ** 2) * np.exp(-radius / rng.uniform(1.0, 2.0)) * radius
    )


def draw_disk(rng: np.random.Generator) -> DiskImage:
    """Draw a disk with some of: spiral arms, a bar, a ring, knots, dust, a
    tidal tail, a halo.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    disk : `DiskImage`
        Its light.
    """
    y, x = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) / PIXELS_PER_RADIUS
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    # Nothing may be left at the edge of the image.
    ends = np.clip((SIDE / 2 / PIXELS_PER_RADIUS - radius) / 0.8, 0, 1)
    disk = np.exp(-_SCALE_LENGTHS_PER_RADIUS * radius) * ends

    dust = np.zeros_like(disk)
    young = 0.15 * disk
    kind = rng.choice(("spiral", "spiral", "ring", "clumpy", "irregular"))
    spread = np.exp(-_SCALE_LENGTHS_PER_RADIUS * radius / rng.uniform(1.1, 1.6)) * ends
    if kind == "spiral":
        arms, dust = _arms(radius, angle, rng)
        young = young + spread * arms
    elif kind == "ring":
        ring = np.exp(-0.5 * ((radius - rng.uniform(0.5, 1.5)) / rng.uniform(0.08, 0.25)) ** 2)
        young = young + ring * rng.uniform(0.3, 1.0) * ends
    else:
        young = young + spread
    young = young * np.exp(rng.uniform(0.2, 0.8 if kind != "irregular" else 1.5) * _fractal(rng))
    if rng.random() < 0.3:
        young = young / young.sum() + rng.uniform(0.1, 0.4) * (
            (tail := _tail(y, x, radius, angle, rng) * ends) / tail.sum()
        )
    knots = rng.uniform(0.2, 0.7) if kind == "clumpy" else rng.uniform(0, 0.35)
    young = (1 - knots) * young / young.sum() + knots * _knots(y, x, young, rng)

    old = disk / disk.sum()
    if rng.random() < 0.35:
        bar = _bar(y, x, rng)
        old = old + rng.uniform(0.05, 0.3) * bar / bar.sum()
    if rng.random() < 0.4:
        halo = np.exp(-radius / rng.uniform(1.0, 2.5)) * ends
        old = old + rng.uniform(0.05, 0.25) * halo / halo.sum()
    if rng.random() < 0.3:  # a lane along the major axis, as in disks seen edge-on
        dust = np.maximum(dust, np.exp(-0.5 * ((y - rng.uniform(-0.1, 0.1)) / 0.12) ** 2) * (radius < 1.5))
    light = 1 - rng.uniform(0.2, 0.8) * dust
    old, young = (np.clip(part * light, 0, None) for part in (old, young))
    return DiskImage(
        (old / old.sum()).astype(np.float32),
        (young / young.sum()).astype(np.float32),
        float(rng.uniform(0.15, 0.65)),
    )
