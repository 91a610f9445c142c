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


"""The deblending of photutils, as a peer to measure detectors beside."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import skimage  # noqa: F401  photutils asks for it only where there is something to divide
from astropy.convolution import convolve
from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources, make_2dgaussian_kernel
from photutils.utils.exceptions import NoDetectionsWarning

from ..candidates import Candidate
from ..detections import Footprint, Peak
from ..scene import Array, Scene
from .chi_image import chi_image

__all__ = ["PhotutilsDeblending"]


@dataclass(frozen=True)
class PhotutilsDeblending:
    """Objects of `photutils.segmentation.deblend_sources` on the chi image
    that have no peak yet.

    Multi-threshold and watershed deblending, with the steps of photutils'
    user guide: the image is smoothed by a Gaussian, segments above a threshold
    are detected in it, and divided. Smoothing, threshold and number of pixels
    are SExtractor's, the rest photutils' own. The score is the signal-to-noise
    ratio of an object's pixels.

    Parameters
    ----------
    threshold : `float`
        Significance, in the smoothed image, from which a pixel is detected.
    n_pixels : `int`
        Least number of connected pixels of an object.
    fwhm_pix : `float`
        Full width at half maximum of the Gaussian.
    contrast : `float`
        Least share of a segment's light that a part must have to be an object
        of its own.
    """

    threshold: float = 1.5
    n_pixels: int = 5
    fwhm_pix: float = 2.0
    contrast: float = 0.001

    @property
    def default_threshold(self) -> float:
        """Signal-to-noise ratio that ordinary detection asks for too."""
        return 5.0

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`; neither the model nor the peaks matter."""
        image = chi_image(scene)
        kernel = make_2dgaussian_kernel(self.fwhm_pix, size=3)
        smoothed = convolve(image, kernel, boundary="extend")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoDetectionsWarning)
            segments = detect_sources(smoothed, self.threshold, self.n_pixels)
        if segments is None:
            return []
        segments = deblend_sources(
            smoothed, segments, self.n_pixels, contrast=self.contrast, progress_bar=False
        )
        catalogue = SourceCatalog(image, segments, convolved_data=smoothed)
        return [
            Candidate(
                y=float(y) + scene.origin[0],
                x=float(x) + scene.origin[1],
                score=float(flux / math.sqrt(segment.area)),
                footprint=Footprint.from_mask(
                    segments.data[segment.slices] == segment.label,
                    (segment.slices[0].start + scene.origin[0], segment.slices[1].start + scene.origin[1]),
                ),
                bands=frozenset(scene.bands),
            )
            for segment, (x, y), flux in zip(
                segments.segments, catalogue.centroid, catalogue.segment_flux, strict=True
            )
            if np.isfinite(x + y)
        ]
