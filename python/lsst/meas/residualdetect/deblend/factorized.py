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
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from ..detections import Parent
from ..psf_images import difference_kernels, gaussian_psf
from ..scene import Array, Scene
from ..scene_model import ParentModel, SourceModel
from ..threads import in_parallel
from .batch import Batch, make_batch
from .convolve import kernel_reach, padded_shape
from .cutouts import Cutout, Field, common_shape, make_cutouts, noise_units
from .fit import Fit, fit_batch
from .initialize import choose_components
from .options import DeblendOptions

__all__ = ["fit_parents", "make_batches", "model_psf", "working_mbytes"]

# A batch ends before its padded boxes have this many times the pixels that the
# parents' own would have, and these more: another batch would take less time.
_EMPTY_FACTOR = 1.2
_EMPTY_PIXELS = 20_000

# Half the side of the model PSF; beyond, float32 has no light left.
_MODEL_PSF_SIGMAS = 9

# Pixels in the stamp of a component, for the estimate of memory.
_TYPICAL_STAMP = 1000


def model_psf(options: DeblendOptions) -> Array:
    """A Gaussian sampled at pixel centres: (h, w), float32."""
    side = 2 * math.ceil(_MODEL_PSF_SIGMAS * options.sigma_pix) + 1
    return gaussian_psf(options.sigma_pix, (side, side)).astype(np.float32)


def _field(scene: Scene, options: DeblendOptions, model_psf: Array, units: npt.NDArray[np.float64]) -> Field:
    return Field(scene, options, difference_kernels(scene.psfs, model_psf), units)


def working_mbytes(cutouts: Sequence[Cutout]) -> float:
    """Working memory that parents need together, in 2^20 bytes, roughly."""
    # Data, model and their padded transforms; per component a stamp, its
    # indices and what it sees of each band.
    n_bands = len(cutouts[0].field.kernels)
    n_pixels = math.prod(common_shape(cutouts))
    n_components = sum(len(cutout.components) for cutout in cutouts)
    floats = 20 * n_bands * n_pixels * len(cutouts)
    floats += (30 + 3 * n_bands) * min(n_pixels, _TYPICAL_STAMP) * n_components
    return 4 * floats / 2**20


def make_batches(group: Sequence[Cutout], mbytes: float) -> Iterator[list[Cutout]]:
    """Parents of similar size that fit into memory together, the smallest
    first.
    """
    reach = max(kernel_reach(field.kernels) for field in {cutout.field for cutout in group})
    some: list[Cutout] = []
    own_pixels = 0
    for cutout in sorted(group, key=lambda cutout: (max(cutout.shape), min(cutout.shape))):
        needed = math.prod(padded_shape(cutout.shape, reach))
        together = [*some, cutout]
        pixels = len(together) * math.prod(padded_shape(common_shape(together), reach))
        most = _EMPTY_FACTOR * (own_pixels + needed) + _EMPTY_PIXELS
        if some and (pixels > most or working_mbytes(together) > mbytes):
            yield some
            together, own_pixels = [cutout], 0
        some = together
        own_pixels += needed
    yield some


def _parent_models(fit: Fit, cutouts: Sequence[Cutout], batch: Batch) -> Iterator[ParentModel]:
    """Models of the finished parents."""
    height, width = batch.shape
    spectra, light = fit.spectra.cpu().numpy(), fit.light.cpu().numpy()
    pixel, per_component = fit.pixel.cpu().numpy(), torch.bincount(fit.component, minlength=len(spectra))
    y, x = pixel // width % height, pixel % width
    ends = np.cumsum(per_component.cpu().numpy())
    starts = [0, *ends[:-1]]
    n_pixels = (batch.fit_weights[fit.index] > 0).sum((1, 2, 3)).tolist()
    component = 0
    for cutout, n, chi2, converged in zip(
        cutouts, n_pixels, fit.chi2.tolist(), fit.converged.tolist(), strict=True
    ):
        parent_id, origin = cutout.parent.id, cutout.field.scene.origin
        units = cutout.field.units
        y0, x0 = (box.start + first for box, first in zip(cutout.box, origin, strict=True))
        if math.isfinite(chi2):
            sources = tuple(
                SourceModel.from_pixels(peak.id, spectra[k] * units, y[part] + y0, x[part] + x0, light[part])
                for k, (peak, _) in enumerate(cutout.components, start=component)
                for part in (slice(starts[k], ends[k]),)
                if peak.id not in cutout.unmodelled
            )
            yield ParentModel(
                parent_id, sources, chi2, n, fit.n_iterations, converged, unmodelled=cutout.unmodelled
            )
        else:
            yield ParentModel(parent_id, (), failure=f"chi-square became {chi2}")
        component += len(cutout.components)


def fit_parents(
    blends: Sequence[tuple[Scene, Sequence[Parent]]],
    options: DeblendOptions,
    progress: Callable[[int], None],
) -> list[list[ParentModel]]:
    """Fit each parent; `lsst.meas.residualdetect.deblend.deblend_scenes` has
    the details.
    """
    device = torch.device(options.device)
    models: dict[tuple[int, int], ParentModel] = {}
    similar: dict[tuple[DeblendOptions, tuple[int, ...]], list[Cutout]] = defaultdict(list)
    for number, (scene, parents) in enumerate(blends):
        own = options.for_scene(scene)
        units, narrow = noise_units(scene), model_psf(own)
        make_field = partial(_field, options=own, model_psf=narrow, units=units)
        for cutout, failure in make_cutouts(number, scene, parents, make_field):
            if failure:
                models[cutout.index] = ParentModel(cutout.parent.id, (), failure=failure)
                progress(1)
            else:
                similar[own, scene.psfs.shape].append(replace(cutout, components=choose_components(cutout)))

    one_at_a_time = threading.Lock()

    def keep(some: Sequence[Cutout], found: Iterable[ParentModel]) -> None:
        new = {cutout.index: model for cutout, model in zip(some, found, strict=True)}
        with one_at_a_time:
            models.update(new)
            progress(len(new))

    def fit(some: Sequence[Cutout]) -> None:
        def give_back(fit: Fit) -> None:
            done = [some[place] for place in fit.index.tolist()]
            keep(done, _parent_models(fit, done, batch))

        shortage = ""
        try:
            batch = make_batch(some, device)
            fit_batch(batch, some[0].field.options, give_back)
        except (MemoryError, RuntimeError) as error:
            # Torch's allocators have errors of their own, not all of one type.
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            shortage = f"out of memory: {error}"
        if shortage:
            left = [cutout for cutout in some if cutout.index not in models]
            if len(left) == 1:
                keep(left, [ParentModel(left[0].parent.id, (), failure=shortage)])
            for half in (left[: len(left) // 2], left[len(left) // 2 :]) if len(left) > 1 else ():
                fit(half)

    batches = [some for group in similar.values() for some in make_batches(group, options.batch_mbytes)]
    # The largest first, so that no thread is left with one at the end. A GPU
    # needs no second thread.
    in_parallel(fit, reversed(batches), options.n_threads if device.type == "cpu" else 1)
    return [
        [models[number, place] for place in range(len(parents))] for number, (_, parents) in enumerate(blends)
    ]
