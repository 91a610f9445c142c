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


"""How well the fluxes of deblended sources are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..boxes import Box, overlap, shape_of
from ..scene import Array, Scene
from ..scene_model import ParentModel, SceneModel, SourceModel, render, seen_box

__all__ = ["flux_errors", "peak_profile"]

# Sources that are as good as one in the pixels share their flux anyhow; their
# errors are this many times larger than alone, not infinite.
_MAX_INFLATION = 1e4


def peak_profile(components: Sequence[SourceModel], kernels: Array, scene: Scene) -> tuple[Box, Array]:
    """Image of a peak of unit flux in each band.

    Parameters
    ----------
    components : `~collections.abc.Sequence` [`SourceModel`]
        All that model it.
    kernels : `numpy.ndarray`, (band, h, w)
        Difference kernels.
    scene : `Scene`
        Gives the pixel grid.

    Returns
    -------
    box : `Box`
        The scene's pixels that it covers, as array indices.
    profile : `numpy.ndarray`, (band, y, x), float32
        The image there; it lacks what falls off the scene.
    """
    fluxes = np.array([component.flux for component in components], np.float64)
    total = fluxes.sum(axis=0)
    # A band without light: the shape is that of the other bands.
    fluxes[:, total <= 0] = fluxes.sum(axis=1, keepdims=True)
    if not (fluxes.sum(axis=0) > 0).all():
        fluxes[:] = 1
    shares = fluxes / fluxes.sum(axis=0)
    sources = tuple(
        replace(component, spectrum=(share / component.morphology.sum()).astype(np.float32))
        for component, share in zip(components, shares, strict=True)
        if component.morphology.sum() > 0
    )
    box, origin = seen_box(components, kernels, scene)
    return box, render(sources, kernels, shape_of(box), origin)


def _errors(parent: ParentModel, kernels: Array, scene: Scene) -> dict[int, npt.NDArray[np.float64]]:
    peaks: dict[int, list[SourceModel]] = {}
    for source in parent.sources:
        peaks.setdefault(source.peak_id, []).append(source)
    profiles = [peak_profile(components, kernels, scene) for components in peaks.values()]
    weighted = [profile * scene.weights(box=box) for box, profile in profiles]
    n = len(profiles)
    information = np.zeros((len(scene.bands), n, n))
    for i in range(n):
        for j in range(i, n):
            in_one, in_other = overlap(profiles[i][0], profiles[j][0])
            product = weighted[i][:, *in_one] * profiles[j][1][:, *in_other]
            information[:, i, j] = information[:, j, i] = product.sum(axis=(1, 2), dtype=np.float64)
    alone = np.einsum("bii->bi", information)
    seen = alone > 0
    scale = np.where(seen, np.sqrt(np.where(seen, alone, 1)), 1)
    # Of unit diagonal, for fluxes of all sizes; what is not seen stays apart.
    correlation = information / (scale[:, :, None] * scale[:, None, :])
    correlation[:, range(n), range(n)] = 1
    values, vectors = np.linalg.eigh(correlation)
    inflation = (vectors**2 / np.maximum(values, _MAX_INFLATION**-2)[:, None, :]).sum(axis=2)
    errors = np.where(seen, np.sqrt(inflation) / scale, np.nan)
    return dict(zip(peaks, errors.T, strict=True))


def flux_errors(
    scene: Scene,
    model: SceneModel,
    peak_ids: Sequence[int] | npt.NDArray[np.integer],
) -> npt.NDArray[np.float64]:
    """Standard deviation of each peak's deblended flux.

    Of the fluxes of all sources of a parent fitted together, their shapes
    held: the diagonal of the inverse Fisher matrix, whose elements are
    ``sum(p_i p_j / variance)`` over good pixels, ``p`` the image of a source
    of unit flux. Neighbours whose light cannot be told apart have large
    errors. What the shapes, the background and the noise's correlation add
    is not in it.

    Parameters
    ----------
    scene : `Scene`
        Gives noise and bad pixels; in the bands of ``model``.
    model : `SceneModel`
        Deblended sources.
    peak_ids : `~collections.abc.Sequence` [`int`]
        Ids of peaks.

    Returns
    -------
    errors : `numpy.ndarray`, (n, band), float64
        In image units; NaN where there is no model, or no good pixel.
    """
    wanted = {int(peak_id) for peak_id in peak_ids}
    by_peak: dict[int, npt.NDArray[np.float64]] = {}
    for kernels, parents in model.by_kernels(scene):
        for parent in parents:
            if any(source.peak_id in wanted for source in parent.sources):
                by_peak |= _errors(parent, kernels, scene)
    unknown = np.full(len(model.bands), np.nan)
    rows = [by_peak.get(int(peak_id), unknown) for peak_id in peak_ids]
    return np.array(rows, np.float64).reshape(len(peak_ids), len(model.bands))
