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

"""A detector that knows the truth: what any detector could at best achieve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..boxes import is_inside, nearest_pixel
from ..candidates import Candidate
from ..detections import Detections, Footprint, Peak, places_of
from ..scene import Array, Scene
from ..truth.evaluation import EvaluationOptions, TruthClass
from ..truth.taxonomy import classify_truth

__all__ = ["Oracle", "chi2_gain"]

_MASK_RADIUS_PIX = 4

# Below what is counted: no detector is to fit the data better than this one by
# also finding some of the faint.
_MIN_SNR = 5.0


@dataclass(frozen=True, eq=False)
class Oracle:
    """Gives the true centres of all sources without a peak, from a
    signal-to-noise ratio of 5 up.

    Parameters
    ----------
    truth : `numpy.ndarray`, structured
        True sources with ``y``, ``x`` and ``snr``.
    detections : `Detections`
        The catalogue that lacks some of them.
    """

    truth: npt.NDArray[np.void]
    detections: Detections

    @property
    def default_threshold(self) -> float:
        """Everything is taken."""
        return 0.0

    def detect(self, scene: Scene, model: Array, peaks: Sequence[Peak]) -> list[Candidate]:
        """See `Detector.detect`; the score is the true signal-to-noise
        ratio.
        """
        options = EvaluationOptions(min_snr=_MIN_SNR)
        positions = places_of(self.truth)
        on = np.flatnonzero(is_inside(nearest_pixel(positions, scene.origin), scene.shape))
        labels = classify_truth(self.detections, scene, positions[on], self.truth["snr"][on], options)
        wanted = on[~np.isin(labels.name, [TruthClass.MATCHED, TruthClass.FAINT])]
        reach = np.arange(-_MASK_RADIUS_PIX, _MASK_RADIUS_PIX + 1)
        disc = np.hypot(*np.meshgrid(reach, reach)) <= _MASK_RADIUS_PIX
        return [
            Candidate(
                y=y,
                x=x,
                score=snr,
                footprint=Footprint.from_mask(
                    disc, tuple((nearest_pixel((y, x)) - _MASK_RADIUS_PIX).tolist())
                ),
                bands=frozenset(scene.bands),
            )
            for y, x, snr in zip(
                *positions[wanted].T.tolist(), self.truth["snr"][wanted].tolist(), strict=True
            )
        ]


def chi2_gain(
    scene: Scene, before: Array, after: Array, positions: npt.NDArray[np.float64], radius_pix: float
) -> npt.NDArray[np.float64]:
    """How much better one model fits than another around some places.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    before, after : `numpy.ndarray`, (band, y, x)
        Images of the models.
    positions : `numpy.ndarray`, (n, 2)
        Places (y, x) in patch coordinates.
    radius_pix : `float`
        Pixels within this distance count.

    Returns
    -------
    gain : `numpy.ndarray`, (n,), float64
        Chi-square of the first model less that of the second.
    """
    weights = scene.weights()
    change = (weights * ((scene.images - before) ** 2 - (scene.images - after) ** 2)).sum(axis=0, dtype=float)
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]]
    reach = int(np.ceil(radius_pix))
    gains = np.zeros(len(positions))
    for index, (row, column) in enumerate(positions - scene.origin):
        box = tuple(slice(max(at - reach, 0), at + reach + 1) for at in nearest_pixel((row, column)).tolist())
        near = np.hypot(y[box] - row, x[box] - column) <= radius_pix
        gains[index] = change[box][near].sum()
    return gains
