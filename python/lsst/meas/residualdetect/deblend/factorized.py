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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
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


def _round_up(size: int) -> int:
    """The next of a coarse set of sizes, less than a third larger: parents of
    similar sizes share a batch.
    """
    step = max(2 ** (size.bit_length() - 3), 1)
    return -(-size // step) * step


def _batch_key(cutout: Cutout) -> tuple[int, int, int]:
    """Height, width and number of slots of the batch that a parent joins."""
    height, width = (max(_round_up(side), _MIN_BOX_SIDE) for side in cutout.shape)
    return height, width, _round_up(len(cutout.components))


def _mbytes_per_parent(key: tuple[int, int, int], n_bands: int) -> float:
    """Working memory in 2^20 bytes, roughly."""
    height, width, n_slots = key
    # Data, model and their padded transforms; per component its morphologies,
    # one band's transforms, and stamps of up to four boxes with their indices.
    floats_per_pixel = 20 * n_bands + 60 * n_slots
    return 4 * floats_per_pixel * height * width / 2**20


def _source_models(
    cutout: Cutout, spectra: Array, morphologies: Array, scene: Scene
) -> Iterator[SourceModel]:
    """Components of unit sum, cut to where they have light."""
    for (peak, _), spectrum, morphology in zip(cutout.components, spectra, morphologies, strict=False):
        y, x = morphology.nonzero()
        rows, columns = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
        total = morphology.sum(dtype=np.float64)
        yield SourceModel(
            peak.id,
            (spectrum * total).astype(np.float32),
            (morphology[rows, columns] / total).astype(np.float32),
            (
                scene.origin[0] + cutout.box[0].start + int(rows.start),
                scene.origin[1] + cutout.box[1].start + int(columns.start),
            ),
        )


def _parent_models(
    fit: Fit, cutouts: Sequence[Cutout], n_pixels: Sequence[int], scene: Scene
) -> Iterator[tuple[int, ParentModel]]:
    """Each finished parent's place in the caller's sequence, and its model."""
    spectra, morphologies = fit.spectra.cpu().numpy(), fit.morphologies.cpu().numpy()
    chi2, converged = fit.chi2.tolist(), fit.converged.tolist()
    for i, place in enumerate(fit.index.tolist()):
        cutout = cutouts[place]
        if math.isfinite(chi2[i]):
            model = ParentModel(
                cutout.parent.id,
                tuple(_source_models(cutout, spectra[i], morphologies[i], scene)),
                chi2[i],
                n_pixels[place],
                fit.n_iterations,
                converged[i],
            )
        else:
            model = ParentModel(cutout.parent.id, (), failure=f"chi-square became {chi2[i]}")
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
    groups: dict[tuple[int, int, int], list[Cutout]] = defaultdict(list)
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
        cutout = replace(cutout, components=components)
        groups[_batch_key(cutout)].append(cutout)

    for key, cutouts in groups.items():
        size = max(int(options.batch_mbytes / _mbytes_per_parent(key, len(scene.bands))), 1)
        for first in range(0, len(cutouts), size):
            some = cutouts[first : first + size]
            batch = make_batch(scene, weights, some, (key[0], key[1]), key[2], device)
            n_pixels = (batch.fit_weights > 0).sum((1, 2, 3)).tolist()

            def give_back(fit: Fit, some: list[Cutout] = some, n_pixels: list[int] = n_pixels) -> None:
                models.update(_parent_models(fit, some, n_pixels, scene))
                progress(len(fit.index))

            fit_batch(batch, kernels, options, give_back)
    return [models[index] for index in range(len(parents))]
