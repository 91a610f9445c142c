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

"""The `factorized` deblender: scarlet-lite's model, many parents at once.

Each component of a source is a non-negative spectrum times a non-negative
morphology, seen through a narrow model PSF, that decreases monotonically from
the peak (Melchior et al. 2018, Astronomy and Computing 24, 129). The sum is
convolved with each band's difference kernel and fitted to the good pixels of
the parent's footprint.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from ..footprint import Parent
from ..scene import Array, Scene
from ..scene_model import ParentModel, SourceModel, difference_kernels
from .batch import Cutout, find_fault, make_batch, make_cutout
from .fit import Fit, fit_batch
from .initialize import choose_components
from .options import DeblendOptions

__all__ = ["fit_parents"]

_MIN_BOX_SIDE = 8

# Pixels in the stamp of a component, for the estimate of memory.
_TYPICAL_STAMP = 1000

IntArray = npt.NDArray[np.int64]


def _round_up(size: int) -> int:
    """The next of a coarse set of sizes, less than a third larger: parents of
    similar sizes share a batch.
    """
    step = max(2 ** (size.bit_length() - 3), 1)
    return -(-size // step) * step


def _size_class(cutout: Cutout) -> tuple[int, int]:
    """Largest height and width of the parents that share its batch."""
    height, width = (max(_round_up(side), _MIN_BOX_SIDE) for side in cutout.shape)
    return height, width


def _mbytes(cutout: Cutout, n_bands: int) -> float:
    """Working memory that a parent needs, in 2^20 bytes, roughly."""
    height, width = _size_class(cutout)
    # Data, model and their padded transforms; per component a stamp, its
    # indices and what it sees of each band.
    stamp = min(height * width, _TYPICAL_STAMP)
    floats = 20 * n_bands * height * width + (30 + 3 * n_bands) * stamp * len(cutout.components)
    return 4 * floats / 2**20


def _batches(cutouts: Iterable[Cutout], n_bands: int, mbytes: float) -> Iterator[list[Cutout]]:
    """Parents with boxes of the same shape that fit into memory together."""
    groups: dict[tuple[int, int], list[Cutout]] = defaultdict(list)
    for cutout in cutouts:
        groups[_size_class(cutout)].append(cutout)
    for group in groups.values():
        some: list[Cutout] = []
        room = mbytes
        for cutout in group:
            need = _mbytes(cutout, n_bands)
            if some and need > room:
                yield some
                some, room = [], mbytes
            some.append(cutout)
            room -= need
        yield some


def _source_model(peak_id: int, spectrum: Array, y: IntArray, x: IntArray, light: Array) -> SourceModel:
    """A component of unit sum, cut to where it has light."""
    first = y.min(), x.min()
    morphology = np.zeros((y.max() - first[0] + 1, x.max() - first[1] + 1), np.float32)
    total = light.sum(dtype=np.float64)
    morphology[y - first[0], x - first[1]] = light / total
    return SourceModel(
        peak_id, (spectrum * total).astype(np.float32), morphology, (int(first[0]), int(first[1]))
    )


def _parent_models(
    fit: Fit, cutouts: Sequence[Cutout], n_pixels: Sequence[int], shape: tuple[int, int], scene: Scene
) -> Iterator[tuple[int, ParentModel]]:
    """Each finished parent's place in the caller's sequence, and its model."""
    spectra = fit.spectra.cpu().numpy()
    # Values that have light, component by component.
    lit = (fit.morphologies > 0).nonzero()[:, 0]
    lit = lit[torch.argsort(fit.stamps.stamp[lit], stable=True)]
    pixel, light = fit.stamps.pixel[lit].cpu().numpy(), fit.morphologies[lit].cpu().numpy()
    y, x = pixel // shape[1] % shape[0], pixel % shape[1]
    ends = np.cumsum(np.bincount(fit.stamps.stamp[lit].cpu().numpy(), minlength=len(spectra)))
    starts = [0, *ends[:-1]]
    chi2, converged = fit.chi2.tolist(), fit.converged.tolist()
    component = 0
    for i, place in enumerate(fit.index.tolist()):
        cutout = cutouts[place]
        y0, x0 = (box.start + first for box, first in zip(cutout.box, scene.origin, strict=True))
        if math.isfinite(chi2[i]):
            model = ParentModel(
                cutout.parent.id,
                tuple(
                    _source_model(peak.id, spectra[k], y[part] + y0, x[part] + x0, light[part])
                    for k, (peak, _) in enumerate(cutout.components, start=component)
                    for part in (slice(starts[k], ends[k]),)
                ),
                chi2[i],
                n_pixels[place],
                fit.n_iterations,
                converged[i],
            )
        else:
            model = ParentModel(cutout.parent.id, (), failure=f"chi-square became {chi2[i]}")
        component += len(cutout.components)
        yield cutout.index, model


def fit_parents(
    scene: Scene,
    parents: Sequence[Parent],
    options: DeblendOptions,
    progress: Callable[[int], None],
) -> list[ParentModel]:
    """Fit each parent; `lsst.meas.residualdetect.deblend.deblend` has the
    details.
    """
    device = torch.device(options.device)
    weights = scene.weights(options.bad_planes)
    kernels = difference_kernels(scene.psfs, options.sigma_pix)
    models: dict[int, ParentModel] = {}
    cutouts: list[Cutout] = []
    for index, parent in enumerate(parents):
        cutout = make_cutout(index, parent, scene)
        failure = find_fault(cutout, scene, weights)
        if failure:
            models[index] = ParentModel(parent.id, (), failure=failure)
            progress(1)
            continue
        components = tuple(
            (peak, component)
            for peak in parent.peaks
            for component in choose_components(scene, weights, peak, options)
        )
        cutouts.append(replace(cutout, components=components))

    for some in _batches(cutouts, len(scene.bands), options.batch_mbytes):
        shape = max(cutout.shape[0] for cutout in some), max(cutout.shape[1] for cutout in some)
        batch = make_batch(scene, weights, some, shape, device)
        n_pixels = (batch.fit_weights > 0).sum((1, 2, 3)).tolist()

        def give_back(
            fit: Fit,
            some: list[Cutout] = some,
            n_pixels: list[int] = n_pixels,
            shape: tuple[int, int] = shape,
        ) -> None:
            models.update(_parent_models(fit, some, n_pixels, shape, scene))
            progress(len(fit.index))

        fit_batch(batch, kernels, options, give_back)
    return [models[index] for index in range(len(parents))]
