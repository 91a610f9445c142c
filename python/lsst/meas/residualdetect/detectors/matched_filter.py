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

"""The classical baseline: point-source peaks of the residual."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lsst.pex.config import Config, Field, RangeField, registerConfigurable

from ..boxes import strips
from ..candidates import Candidate
from ..detections import Footprint, Peak
from ..noise import n_bands_seen, point_source_sums, significance
from ..scene import Array, Scene
from ..threads import in_parallel
from .registry import DETECTORS

__all__ = ["MatchedFilter", "MatchedFilterConfig"]


def _mask_around(snr: Array, y: int, x: int, half_size: int) -> tuple[npt.NDArray[np.bool_], tuple[int, int]]:
    """The connected pixels above half of a peak's height, and the position of
    the mask's first pixel.
    """
    top, left = max(y - half_size, 0), max(x - half_size, 0)
    stamp = snr[top : y + half_size + 1, left : x + half_size + 1]
    labels, _ = ndimage.label(stamp >= 0.5 * snr[y, x])
    return labels == labels[y - top, x - left], (top, left)


class MatchedFilterConfig(Config):
    """Options of `MatchedFilter`."""

    min_score = Field[float](doc="Peaks below this are not even candidates.", default=4.0)
    band_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio at which a band counts as having seen a candidate.",
        default=3.0,
        min=0.0,
    )


@registerConfigurable("matched_filter", DETECTORS)
class MatchedFilter:
    """Peaks of the residual, PSF-matched and weighted by noise in all bands.

    The score is the signal-to-noise ratio of a point source of flat spectrum
    (equal flux in all bands): the bands' sums are added before their ratio is
    taken, so that a missing source stands out by all of its light while a
    residual that is positive in one band and negative in the next cancels.

    Parameters
    ----------
    config : `MatchedFilterConfig`, optional
        The options.
    """

    ConfigClass = MatchedFilterConfig

    def __init__(self, config: MatchedFilterConfig | None = None) -> None:
        self.config = MatchedFilterConfig() if config is None else config

    @property
    def default_threshold(self) -> float:
        """Signal-to-noise ratio that ordinary detection asks for too."""
        return 5.0

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`; the peaks do not matter."""
        # Strip after strip: of a patch there is not memory for many cubes.
        by_band, snr = np.empty_like(scene.images), np.empty_like(scene.images[0])
        known = np.empty(scene.images.shape, bool)

        def look(strip: tuple[slice, slice, slice]) -> None:
            around, inner, rows = strip
            weights = scene.weights(box=(around, slice(None)))
            signal, norm = np.zeros((2, *weights.shape[1:]), scene.images.dtype)
            for band, psf in enumerate(scene.psfs):
                residual = scene.images[band, around] - model[band, around]
                sums = point_source_sums(residual, weights[band], psf)
                by_band[band, rows] = significance(*sums)[inner]
                known[band, rows] = sums[1][inner] > 0
                signal += sums[0]
                norm += sums[1]
            snr[rows] = significance(signal, norm)[inner]

        in_parallel(look, strips(len(snr), scene.psfs.shape[1] // 2))
        maxima = (snr == ndimage.maximum_filter(snr, size=3)) & (snr > self.config.min_score)
        half_size = max(scene.psfs.shape[1:]) // 2
        candidates = []
        for y, x in np.argwhere(maxima).tolist():
            mask, (top, left) = _mask_around(snr, y, x, half_size)
            candidates.append(
                Candidate(
                    y=float(y + scene.origin[0]),
                    x=float(x + scene.origin[1]),
                    score=float(snr[y, x]),
                    footprint=Footprint.from_mask(mask, (top + scene.origin[0], left + scene.origin[1])),
                    bands=frozenset(
                        band
                        for band, value in zip(scene.bands, by_band[:, y, x], strict=True)
                        if value >= self.config.band_snr
                    ),
                    n_bands=n_bands_seen(np.square(by_band[known[:, y, x], y, x])),
                )
            )
        return candidates
