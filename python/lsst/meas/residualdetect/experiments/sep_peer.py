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

import numpy as np
import sep

from ..candidates import Candidate
from ..detections import Footprint, Peak
from ..scene import Array, Scene

__all__ = ["SepDeblending", "chi_image"]


def chi_image(scene: Scene) -> Array:
    """All bands in one image, in units of its noise.

    The root of the sum of squared significances (Szalay et al. 1999, AJ 117,
    68), less its mean and over its standard deviation where there is but
    noise: those of a chi distribution with a degree of freedom for each band
    that has data.

    Parameters
    ----------
    scene : `Scene`
        Coadds.

    Returns
    -------
    chi : `numpy.ndarray`, (y, x), float32
        0 where no band has data.
    """
    weights = scene.weights()
    n = (weights > 0).sum(axis=0)
    chi = np.sqrt((np.square(scene.images, dtype=np.float64) * weights).sum(axis=0))
    mean, sigma = np.zeros(len(scene.bands) + 1), np.ones(len(scene.bands) + 1)
    for k in range(1, len(mean)):
        mean[k] = math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
        sigma[k] = math.sqrt(k - mean[k] ** 2)
    image: Array = np.where(n > 0, (chi - mean[n]) / sigma[n], 0).astype(np.float32)
    return image


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
