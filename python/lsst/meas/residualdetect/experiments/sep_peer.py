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


"""The deblending of SExtractor, as a peer to measure detectors beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import sep

from ..candidates import Candidate
from ..detections import Footprint, Peak
from ..scene import Array, Scene
from .chi_image import chi_image

__all__ = ["SepDeblending"]


@dataclass(frozen=True)
class SepDeblending:
    """Objects of `sep.extract` on the chi image that have no peak yet.

    What a user has who knows no residuals: multi-threshold deblending
    (Bertin & Arnouts 1996, A&AS 117, 393; Barbary 2016, JOSS 1, 58). The
    defaults are SExtractor's. The score is the signal-to-noise ratio of an
    object's pixels.

    Parameters
    ----------
    threshold : `float`
        Significance, in the filtered image, from which a pixel is detected.
    min_area : `int`
        Least number of pixels of an object.
    n_thresholds : `int`
        Deblending levels between the threshold and the maximum.
    contrast : `float`
        Least share of an object's light that a branch must have to be an
        object of its own.
    """

    threshold: float = 1.5
    min_area: int = 5
    n_thresholds: int = 32
    contrast: float = 0.005

    @property
    def default_threshold(self) -> float:
        """Signal-to-noise ratio that ordinary detection asks for too."""
        return 5.0

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`; neither the model nor the peaks matter."""
        objects, segments = sep.extract(
            chi_image(scene),
            self.threshold,
            err=1.0,
            mask=~(scene.weights() > 0).any(axis=0),
            minarea=self.min_area,
            deblend_nthresh=self.n_thresholds,
            deblend_cont=self.contrast,
            segmentation_map=True,
        )
        candidates = []
        for number, row in enumerate(objects, start=1):
            box = (slice(row["ymin"], row["ymax"] + 1), slice(row["xmin"], row["xmax"] + 1))
            corner = (int(row["ymin"]) + scene.origin[0], int(row["xmin"]) + scene.origin[1])
            candidates.append(
                Candidate(
                    y=float(row["y"]) + scene.origin[0],
                    x=float(row["x"]) + scene.origin[1],
                    score=float(row["flux"] / math.sqrt(row["npix"])),
                    footprint=Footprint.from_mask(segments[box] == number, corner),
                    bands=frozenset(scene.bands),
                )
            )
        return candidates
