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
from ..detections import Footprint, Peak, positions_of
from ..neighbours import repeats
from ..network.covariates import covariates
from ..network.features import CANONICAL_BANDS, channels_in_box
from ..network.package import ModelPackage
from ..network.paste_mask import paste_mask
from ..network.sky import measure_sky, outside
from ..network.tiling import Network, Tile, detect_in_tile, make_tiles
from ..noise import n_bands_seen
from ..scene import Array, Positions, Scene
from ..threads import default_threads, in_parallel

__all__ = ["BAND_SNR", "DEFAULT_MIN_SCORE", "DEFAULT_TILE_SIZE", "MaskRcnn"]

_log = logging.getLogger(__name__)

DEFAULT_MIN_SCORE = 0.02

# A tile of so many pixels a side takes some 650 MiB in ONNX Runtime; smaller
# ones overlap more of the image, and of larger ones two are too many.
DEFAULT_TILE_SIZE = 960
_TILES_AT_ONCE = 2

# Two detections nearer than this are one source found twice. Pixels.
_SAME_SOURCE_PIX = 1.0

# Signal-to-noise ratio at which a band counts as having seen a candidate.
BAND_SNR = 3.0

# A network knows the sizes that it was trained on, and some around them.
_PIXEL_SCALE_TOLERANCE = 0.3


def _once(centres: Positions, scores: npt.NDArray[np.floating]) -> list[int]:
    """Indices of detections, surest first, without those that repeat a surer
    one.
    """
    order = np.lexsort((centres[:, 1], centres[:, 0], -scores))
    kept: list[int] = order[~repeats(centres[order], _SAME_SOURCE_PIX)].tolist()
    return kept


def _bands(in_sigma: Array, snr: float) -> tuple[frozenset[str], int]:
    """Bands in which pixels (6, n) in units of the noise, summed, stand out,
    and how many have seen anything there; bad pixels are 0.
    """
    n_good = (in_sigma != 0).sum(axis=1)
    there = n_good > 0
    summed = in_sigma.sum(axis=1, dtype=np.float64) / np.sqrt(np.maximum(n_good, 1))
    seen = there & (summed >= snr)
    bands = frozenset(band for band, is_seen in zip(CANONICAL_BANDS, seen.tolist(), strict=True) if is_seen)
    squares = np.square(in_sigma, dtype=np.float64).sum(axis=1)
    return bands, n_bands_seen(squares[there], n_good[there])


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
    min_score : `float`, optional
        What is surer not to be a source than this is not even a candidate.
    band_snr : `float`, optional
        Signal-to-noise ratio at which a band counts as having seen a
        candidate.
    tile_size : `int`, optional
        Largest side in pixels of the tiles that an image is looked at in;
        the package's own if that is smaller. Memory goes with its square.
    n_tiles : `int`, optional
        Tiles that are looked at at a time; if absent two, where there are
        threads for them.
    """

    def __init__(
        self,
        package: ModelPackage,
        network: Network,
        *,
        min_score: float = DEFAULT_MIN_SCORE,
        band_snr: float = BAND_SNR,
        tile_size: int = DEFAULT_TILE_SIZE,
        n_tiles: int | None = None,
    ) -> None:
        self.package = package
        self.network = network
        self.min_score = min_score
        self.band_snr = band_snr
        self.tile_size = min(tile_size // package.stride * package.stride, package.tile_size)
        self.n_tiles = n_tiles
        self._has_warned = False

    @property
    def default_threshold(self) -> float:
        """The package's."""
        return self.package.score_threshold

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`.

        Candidates come in the order of their scores, surest first.
        """
        self._check_bands(scene)
        known = positions_of(peaks)
        noise = self._noise(scene, model, known)
        tiles = make_tiles(scene.shape, self.tile_size, self.package.margin, self.package.stride)

        def look(tile: Tile) -> list[tuple[float, Candidate]]:
            return self._in_tile(scene, model, known, noise, tile)

        n_tiles = min(self.n_tiles or min(default_threads(), _TILES_AT_ONCE), len(tiles))
        # One tile at a time may have all threads there are.
        in_tiles = map(look, tiles) if n_tiles == 1 else in_parallel(look, tiles, n_tiles)
        found = [pair for in_tile in in_tiles for pair in in_tile]
        centres = positions_of(candidate for _, candidate in found)
        once = _once(centres, np.array([score for score, _ in found]))
        return sorted((found[index][1] for index in once), key=lambda candidate: -candidate.score)

    def _noise(self, scene: Scene, model: Array, known: Positions) -> npt.NDArray[np.float64] | None:
        """See `filtered_noise`; absent if the calibration does not use it.
        Warns, once, of a sky unlike those that the package was made for.
        """
        if not self.package.calibration.needs_covariates:
            self._check_pixel_scale(scene)
            return None
        noise, facts = measure_sky(scene, model, known)
        unlike = outside(facts, self.package.calibrated_on)
        if unlike and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s: %s; probabilities of model %s may be off",
                scene.name,
                "; ".join(unlike),
                self.package.name,
            )
        return noise

    def _in_tile(
        self,
        scene: Scene,
        model: Array,
        known: Positions,
        noise: npt.NDArray[np.float64] | None,
        tile: Tile,
    ) -> list[tuple[float, Candidate]]:
        """Candidates of a tile, with the network's own scores."""
        residual, expected, channels = channels_in_box(scene, model, known, tile.box, self.package.features)
        boxes, scores, masks = detect_in_tile(self.network, channels, tile)
        # Boxes are x first, and have their pixels' edges on integers.
        centres = boxes.reshape(-1, 2, 2).mean(axis=1)[:, ::-1] - 0.5 + scene.origin
        corner = (tile.box[0].start, tile.box[1].start)
        first = (corner[0] + scene.origin[0], corner[1] + scene.origin[1])
        nearest = nearest_pixel(centres, first)
        measured = None
        if noise is not None:
            measured = covariates(residual, expected, known - first, centres - first, scores, noise)
        probabilities = self.package.calibration.probability(scores, measured)
        boxes -= np.tile(corner[::-1], 2)
        found = []
        for index in np.flatnonzero(probabilities >= self.min_score).tolist():
            pixels, (rows, columns) = paste_mask(masks[index], boxes[index], residual.shape[1:])
            row, column = nearest[index].tolist()
            pixels[min(row, rows.stop - 1) - rows.start, min(column, columns.stop - 1) - columns.start] = True
            y, x = centres[index].tolist()
            bands, n_bands = _bands(residual[:, rows, columns][:, pixels], self.band_snr)
            candidate = Candidate(
                y=y,
                x=x,
                score=float(probabilities[index]),
                footprint=Footprint.from_mask(pixels, (first[0] + rows.start, first[1] + columns.start)),
                bands=bands,
                n_bands=n_bands,
            )
            found.append((float(scores[index]), candidate))
        return found

    def _check_bands(self, scene: Scene) -> None:
        unknown = [band for band in scene.bands if band not in CANONICAL_BANDS]
        if unknown:
            _log.warning(
                "%s: model %s knows no bands %s and does not look at them; it knows %s",
                scene.name,
                self.package.name,
                ", ".join(unknown),
                ", ".join(CANONICAL_BANDS),
            )

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
