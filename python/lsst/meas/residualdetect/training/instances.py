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

"""Truth of a tile as the network is to learn it: boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..boxes import is_inside, nearest_pixel
from ..detections import Detections
from ..scene import Scene
from ..simulation.rendering import Stamp
from ..truth.evaluation import EvaluationOptions, TruthClass
from ..truth.taxonomy import classify_truth

__all__ = ["INSTANCE_DTYPE", "MASK_SIDE", "find_instances", "undetected"]

MASK_SIDE = 32

INSTANCE_DTYPE = np.dtype(
    [
        ("tile", "i4"),
        ("y", "f4"),
        ("x", "f4"),
        ("snr", "f4"),
        ("half_size", "f4"),
        ("mask_y", "i4"),
        ("mask_x", "i4"),
        ("mask", "u1", (MASK_SIDE * MASK_SIDE // 8,)),
    ]
)

# Where a source stands out: this many standard deviations of a pixel's noise
# in all bands together, or this share of its own brightest pixel.
_MASK_SIGMAS = 0.5
_MASK_OF_PEAK = 0.1

_HALF_SIZES_PIX = (4.5, 12.0)


def undetected(
    scene: Scene,
    detections: Detections,
    positions: npt.NDArray[np.float64],
    snr: npt.NDArray[np.float64],
    *,
    min_snr: float,
) -> npt.NDArray[np.intp]:
    """Indices of true sources on the scene that have no peak of their own.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    detections : `Detections`
        Peaks the deblender is told of.
    positions : `numpy.ndarray`, (n, 2)
        True positions (y, x) in patch coordinates, on the scene or off it.
    snr : `numpy.ndarray`, (n,)
        Signal-to-noise ratios.
    min_snr : `float`
        Sources fainter than this do not count.

    Returns
    -------
    indices : `numpy.ndarray`, (m,), int
        Unrecognised, partially deblended and missed sources, by the same
        matching as in the evaluation.
    """
    inside = np.flatnonzero(is_inside(nearest_pixel(positions, scene.origin), scene.shape))
    options = EvaluationOptions(min_snr=min_snr, faint_snr=min(min_snr, EvaluationOptions.faint_snr))
    labels = classify_truth(detections, scene, positions[inside], snr[inside], options)
    wanted = ~np.isin(labels.name, [TruthClass.MATCHED, TruthClass.FAINT])
    return inside[wanted]


def _stands_out(stamp: Stamp, scene: Scene) -> npt.NDArray[np.bool_]:
    weights = scene.weights(box=(stamp.rows, stamp.columns))
    snr = np.sqrt((stamp.pixels**2 * weights).sum(axis=0))
    return snr >= max(_MASK_SIGMAS, _MASK_OF_PEAK * snr.max(initial=0))


def find_instances(
    scene: Scene,
    positions: npt.NDArray[np.float64],
    snr: npt.NDArray[np.float64],
    stamps: Sequence[Stamp | None],
    wanted: npt.NDArray[np.intp],
) -> npt.NDArray[np.void]:
    """Boxes and masks of sources.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    positions, snr : `numpy.ndarray`, (n, 2) and (n,)
        True positions (y, x) and signal-to-noise ratios.
    stamps : `~collections.abc.Sequence` [`Stamp` or `None`]
        Noiseless image of each source.
    wanted : `numpy.ndarray`, (m,), int
        Which sources.

    Returns
    -------
    instances : `numpy.ndarray`, (k,), structured
        ``y``, ``x`` and ``snr``; ``half_size``, half of the side of the
        square box around the centre that holds the mask, within limits;
        ``mask_y``, ``mask_x`` and ``mask``, the first pixel of a window of
        32 x 32 pixels and its bits, true where the source stands out of the
        noise. A source whose centre is masked in all bands is left out.
    """
    rows = []
    seen: npt.NDArray[np.bool_] = scene.weights().max(axis=0) > 0
    for index in wanted:
        stamp = stamps[index]
        centre = nearest_pixel(positions[index])
        if stamp is None or not seen[centre[0], centre[1]]:
            continue
        first = centre - MASK_SIDE // 2
        mask = np.zeros((MASK_SIDE, MASK_SIDE), bool)
        y, x = np.nonzero(_stands_out(stamp, scene))
        y, x = y + stamp.rows.start - first[0], x + stamp.columns.start - first[1]
        inside = (y >= 0) & (y < MASK_SIDE) & (x >= 0) & (x < MASK_SIDE)
        mask[y[inside], x[inside]] = True
        mask[MASK_SIDE // 2, MASK_SIDE // 2] = True
        # Root of the area over pi, as single pixels of noise must not decide.
        half_size = np.clip(1.2 * np.sqrt(mask.sum() / np.pi) + 0.5, *_HALF_SIZES_PIX)
        rows.append((0, *positions[index], snr[index], half_size, *first, np.packbits(mask)))
    return np.array(rows, INSTANCE_DTYPE)
