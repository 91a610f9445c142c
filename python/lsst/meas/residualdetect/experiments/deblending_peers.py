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

"""The deblending of SExtractor and of photutils, as peers to measure detectors
beside.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..boxes import Box
from ..candidates import Candidate
from ..detections import Footprint, Peak
from ..scene import Array, Scene

__all__ = ["PhotutilsDeblending", "SepDeblending", "chi_image"]


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


def _candidates(
    scene: Scene,
    segments: npt.NDArray[np.integer],
    boxes: Sequence[Box],
    y: npt.NDArray[np.floating],
    x: npt.NDArray[np.floating],
    score: npt.NDArray[np.floating],
) -> list[Candidate]:
    """Candidates of an image of segments, numbered from 1, with the box, centre
    and score of each.
    """
    found = []
    for number, (box, *place, own_score) in enumerate(zip(boxes, y, x, score, strict=True), start=1):
        if not np.isfinite(place).all():
            continue
        (y_middle, x_middle), mask = np.add(place, scene.origin).tolist(), segments[box] == number
        corner = int(box[0].start) + scene.origin[0], int(box[1].start) + scene.origin[1]
        found.append(
            Candidate(
                y=y_middle,
                x=x_middle,
                score=float(own_score),
                footprint=Footprint.from_mask(mask, corner),
                bands=frozenset(scene.bands),
            )
        )
    return found


class _Deblending:
    @property
    def default_threshold(self) -> float:
        """Signal-to-noise ratio that ordinary detection asks for too."""
        return 5.0


@dataclass(frozen=True)
class SepDeblending(_Deblending):
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

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`; neither the model nor the peaks matter."""
        import sep

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
        boxes = [
            (slice(row["ymin"], row["ymax"] + 1), slice(row["xmin"], row["xmax"] + 1)) for row in objects
        ]
        score = objects["flux"] / np.sqrt(objects["npix"])
        return _candidates(scene, segments, boxes, objects["y"], objects["x"], score)


@dataclass(frozen=True)
class PhotutilsDeblending(_Deblending):
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

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`; neither the model nor the peaks matter."""
        import skimage  # noqa: F401  photutils asks for it only where there is something to divide
        from astropy.convolution import convolve
        from photutils import segmentation
        from photutils.utils.exceptions import NoDetectionsWarning

        image = chi_image(scene)
        kernel = segmentation.make_2dgaussian_kernel(self.fwhm_pix, size=3)
        smoothed = convolve(image, kernel, boundary="extend")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NoDetectionsWarning)
            segments = segmentation.detect_sources(smoothed, self.threshold, self.n_pixels)
        if segments is None:
            return []
        segments = segmentation.deblend_sources(
            smoothed, segments, self.n_pixels, contrast=self.contrast, progress_bar=False
        )
        catalogue = segmentation.SourceCatalog(image, segments, convolved_data=smoothed)
        x, y = catalogue.centroid.T
        boxes = [segment.slices for segment in segments.segments]
        score = catalogue.segment_flux / np.sqrt(segments.areas)
        return _candidates(scene, segments.data, boxes, y, x, score)
