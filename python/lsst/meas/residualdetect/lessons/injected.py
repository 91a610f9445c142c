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

"""Sources put beside real ones, so that something is known of real pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..truth.known_scenes import KnownScene
from .hosts import Host
from .lesson import LessonOptions, draw_lesson

__all__ = ["SourceInjection", "injected"]


@dataclass(frozen=True)
class SourceInjection:
    """What is put beside the known sources of a scene.

    Parameters
    ----------
    number : `int`
        Most sources; a scene gets from one to so many, each a turned source
        of the same scene as it was modelled, or a simulated galaxy or star.
    snr : `tuple` [`float`, `float`]
        Least and greatest signal-to-noise ratio, all bands; log-uniform.
    distance : `tuple` [`float`, `float`]
        Least and greatest distance from a known peak in arcsec; log-uniform.
        None is nearer than the least to any source.

    Raises
    ------
    ValueError
        Raised if these are not positive, or the least is the greater.
    """

    number: int = 3
    snr: tuple[float, float] = (8.0, 200.0)
    distance: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"number is {self.number}; expected at least 1")
        for name in ("snr", "distance"):
            low, high = getattr(self, name)
            if not 0 < low <= high < np.inf:
                raise ValueError(f"{name} is {low} to {high}; expected 0 < least <= greatest")


def injected(host: Host, injection: SourceInjection, rng: np.random.Generator) -> KnownScene:
    """A real scene with sources added that the deblender is not told of.

    Parameters
    ----------
    host : `Host`
        The scene.
    injection : `SourceInjection`
        What to add.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    injected : `KnownScene`
        The truth has the known sources, with the fluxes that the deblender
        gave them before anything was added, and those added. The noise is as
        it was: the light added brings none of its own.
    """
    scale = host.scene.pixel_scale_arcsec
    near, far = injection.distance
    options = LessonOptions(
        untouched=0.0,
        one_withheld=0.0,
        some_withheld=0.0,
        max_added=injection.number,
        separation_pix=(near / scale, far / scale),
        snr=injection.snr,
        told=0.0,
        blurred=0.0,
        noisier=0.0,
        psf_error=0.0,
        surroundings=0.0,
    )
    lesson = draw_lesson(host, [host], options, rng)
    return KnownScene(lesson.scene, lesson.detections, lesson.truth)
