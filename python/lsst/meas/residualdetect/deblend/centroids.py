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


"""Where deblended sources are, to a part of a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..boxes import nearest_pixel
from ..scene import Array, Positions, Scene
from ..scene_model import SceneModel
from .flux_errors import peak_profile

__all__ = ["centroids"]

# What is farther away than this is not the source that was looked for.
_MAX_STEP_PIX = 2


def _vertex(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Place (y, x) of the top of the quadratic through a 3 x 3 square's
    middle and its neighbours, from the middle.
    """
    gradient = 0.5 * np.array([values[2, 1] - values[0, 1], values[1, 2] - values[1, 0]])
    of_y = values[2, 1] - 2 * values[1, 1] + values[0, 1]
    of_x = values[1, 2] - 2 * values[1, 1] + values[1, 0]
    cross = 0.25 * (values[2, 2] - values[2, 0] - values[0, 2] + values[0, 0])
    determinant = of_y * of_x - cross**2
    if not (of_y < 0 and determinant > 0):
        return np.zeros(2)
    step = -np.array([of_x * gradient[0] - cross * gradient[1], of_y * gradient[1] - cross * gradient[0]])
    return np.clip(step / determinant, -1, 1)


def _best_place(
    light: Array,
    scene: Scene,
    position: Positions,
    fluxes: npt.NDArray[np.float64],
) -> Positions:
    """Place (y, x) where the PSF fits best, near a position."""
    middle = nearest_pixel(position, scene.origin)
    reach, half = _MAX_STEP_PIX + 1, np.array(scene.psfs.shape[1:]) // 2
    first = middle - half - reach
    shape = 2 * (half + reach) + 1
    low, high = np.clip(first, 0, scene.shape), np.clip(first + shape, 0, scene.shape)
    inside = (slice(low[0], high[0]), slice(low[1], high[1]))
    margins = [(0, 0), *zip(low - first, first + shape - high, strict=True)]
    weights = np.pad(scene.weights(box=inside).astype(np.float64), margins)
    seen = np.pad(light[:, *inside].astype(np.float64), margins) * weights
    expected = scene.psfs * fluxes[:, None, None]
    squared = expected**2
    fit = np.zeros((2 * reach + 1, 2 * reach + 1))
    for dy, dx in np.ndindex(*fit.shape):
        under = (slice(None), slice(dy, dy + expected.shape[1]), slice(dx, dx + expected.shape[2]))
        norm = np.vdot(weights[under], squared)
        fit[dy, dx] = np.vdot(seen[under], expected) / np.sqrt(norm) if norm > 0 else 0
    best = np.array(np.unravel_index(fit[1:-1, 1:-1].argmax(), np.subtract(fit.shape, 2))) + 1
    if not (fit[tuple(best)] > 0 and np.abs(best - reach).max() < _MAX_STEP_PIX):
        return position
    around = fit[best[0] - 1 : best[0] + 2, best[1] - 1 : best[1] + 2]
    place: Positions = middle + scene.origin + best - reach + _vertex(around)
    return place


def centroids(
    scene: Scene,
    model: SceneModel,
    peak_ids: Sequence[int] | npt.NDArray[np.integer],
    positions: Positions,
) -> Positions:
    """Centroids of sources in the light that the models of others leave.

    Where the PSF, weighted by the inverse variance and by the source's flux
    in each band, fits best: the top of a quadratic through the values at the
    best pixel and its neighbours. For a point source that is its most likely
    place.

    Parameters
    ----------
    scene : `Scene`
        The coadds, in the bands of ``model``.
    model : `SceneModel`
        Deblended sources, others too.
    peak_ids : `~collections.abc.Sequence` [`int`]
        Ids of peaks.
    positions : `numpy.ndarray`, (n, 2), float64
        Where they are, to two pixels: (y, x) in patch coordinates.

    Returns
    -------
    positions : `numpy.ndarray`, (n, 2), float64
        As given for a source that has no model, is off its place or has no
        flux.
    """
    found = np.array(positions, np.float64).reshape(-1, 2)
    if not len(found):
        return found
    components = model.by_peak(scene)
    residual = scene.images - model.image(scene)
    fluxes = np.maximum(np.nan_to_num(model.peak_fluxes(peak_ids)), 0)
    for row, peak_id in enumerate(peak_ids):
        kernels, own = components.get(int(peak_id), (np.zeros(0, np.float32), []))
        if own and fluxes[row].any():
            box, profile = peak_profile(own, kernels, scene)
            light = residual[:, *box] + profile * model.peak_fluxes([int(peak_id)])[0][:, None, None]
            kept = residual[:, *box].copy()
            residual[:, *box] = light
            found[row] = _best_place(residual, scene.at(*found[row]), found[row], fluxes[row])
            residual[:, *box] = kept
    return found
