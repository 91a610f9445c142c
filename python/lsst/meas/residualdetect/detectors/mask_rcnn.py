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

"""From the network's boxes and masks to candidates."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..boxes import nearest_pixel
from ..candidates import Candidate
from ..detections import Footprint, Peak
from ..network.features import CANONICAL_BANDS, in_noise_units, network_input
from ..network.package import ModelPackage
from ..network.paste_mask import paste_mask
from ..network.significance import matched_psfs
from ..network.tiling import Network, detect_in_tiles
from ..scene import Array, Scene
from ..suppression import repeats

__all__ = ["MaskRcnn"]

_log = logging.getLogger(__name__)

# Two detections nearer than this are one source found twice. Pixels.
_SAME_SOURCE_PIX = 1.0

# Signal-to-noise ratio at which a band counts as having seen a candidate.
_BAND_SNR = 3.0

# A network knows the sizes that it was trained on, and some around them.
_PIXEL_SCALE_TOLERANCE = 0.3


def _once(centres: npt.NDArray[np.float64], scores: Array) -> list[int]:
    """Indices of detections, surest first, without those that repeat a surer
    one.
    """
    order = np.lexsort((centres[:, 1], centres[:, 0], -scores))
    kept: list[int] = order[~repeats(centres[order], _SAME_SOURCE_PIX)].tolist()
    return kept


def _footprint(
    mask: Array, box: npt.NDArray[np.float64], centre: tuple[float, float], scene: Scene
) -> Footprint:
    pixels, where = paste_mask(mask, box, scene.shape)
    first = tuple(side.start + start for side, start in zip(where, scene.origin, strict=True))
    row, column = nearest_pixel(centre, first).tolist()
    pixels[min(max(row, 0), pixels.shape[0] - 1), min(max(column, 0), pixels.shape[1] - 1)] = True
    return Footprint.from_mask(pixels, (first[0], first[1]))


def _bands(footprint: Footprint, residual: Array, bad: npt.NDArray[np.bool_], scene: Scene) -> frozenset[str]:
    """Bands in which the residual, summed over a footprint, stands out."""
    rows, columns = (
        slice(side.start - start, side.stop - start)
        for side, start in zip(footprint.bbox, scene.origin, strict=True)
    )
    mask = footprint.to_mask()
    seen = set()
    for index, band in enumerate(scene.bands):
        good = mask & ~bad[index, rows, columns]
        if band in CANONICAL_BANDS and good.any():
            in_sigma = residual[CANONICAL_BANDS.index(band), rows, columns][good]
            if in_sigma.sum(dtype=np.float64) >= _BAND_SNR * np.sqrt(in_sigma.size):
                seen.add(band)
    return frozenset(seen)


class MaskRcnn:
    """A Mask R-CNN (He et al. 2017, ICCV) on residual, model and known peaks.

    The score is the probability that a candidate is a source, as measured on
    simulated scenes.

    Parameters
    ----------
    package : `ModelPackage`
        What the network was made for.
    network : `Network`
        Runs it on a tile.
    """

    def __init__(self, package: ModelPackage, network: Network) -> None:
        self.package = package
        self.network = network
        self._has_warned = False

    @property
    def default_threshold(self) -> float:
        """The package's."""
        return self.package.score_threshold

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`.

        Candidates come in the order of their scores, surest first.
        """
        self._check_pixel_scale(scene)
        residual, expected = in_noise_units(scene, model)
        known = np.array([(peak.y, peak.x) for peak in peaks]).reshape(-1, 2) - scene.origin
        psfs = matched_psfs(scene.psfs, scene.bands, CANONICAL_BANDS)
        boxes, scores, masks = detect_in_tiles(
            self.network,
            network_input(residual, expected, known, self.package.features, psfs),
            tile_size=self.package.tile_size,
            margin=self.package.margin,
            stride=self.package.stride,
        )
        if not len(boxes):
            return []
        # Boxes are x first, and have their pixels' edges on integers.
        centres = boxes.reshape(-1, 2, 2).mean(axis=1)[:, ::-1] - 0.5
        probabilities = self.package.probability(scores)
        bad = scene.bad()
        candidates = []
        for index in _once(centres, scores):
            y, x = (centres[index] + scene.origin).tolist()
            footprint = _footprint(masks[index], boxes[index], (y, x), scene)
            candidates.append(
                Candidate(
                    y=y,
                    x=x,
                    score=float(probabilities[index]),
                    footprint=footprint,
                    bands=_bands(footprint, residual, bad, scene),
                )
            )
        return candidates

    def _check_pixel_scale(self, scene: Scene) -> None:
        expected = self.package.pixel_scale_arcsec
        if not self._has_warned and abs(scene.pixel_scale_arcsec / expected - 1) > _PIXEL_SCALE_TOLERANCE:
            self._has_warned = True
            _log.warning(
                "%s: a pixel is %g arcsec wide; model %s was trained on %g arcsec and may do worse",
                scene.name,
                scene.pixel_scale_arcsec,
                self.package.name,
                expected,
            )
