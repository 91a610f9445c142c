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

"""The `scarlet_lite` deblender: the stack's own, lsst.scarlet.lite.

Each parent is set up, initialised and fitted with the calls and the settings
of meas_extensions_scarlet's ScarletDeblendTask, one after another. One thing
differs: sources start from the coadds, not from deconvolved ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from lsst.scarlet import lite

from ..footprint import Parent
from ..scene import Array, Scene
from ..scene_model import ParentModel, SourceModel
from .batch import Cutout, footprint_mask, make_cutouts
from .options import DeblendOptions

__all__ = ["fit_parents", "model_psf"]

# ScarletDeblendConfig's values for what the options leave open.
_TOLERANCE = 1e-3
_MIN_ITERATIONS = 5
_RESIZE_EVERY = 3

# Side of the largest morphology that the monotonicity operator knows without
# growing.
_MONOTONIC_SIDE = 101


def model_psf(options: DeblendOptions) -> Array:
    """A Gaussian integrated over pixels, as the stack's: (h, w), float32."""
    psf: Array = lite.utils.integrated_circular_gaussian(sigma=options.sigma_pix).astype(np.float32)
    return psf


def _observe(cutout: Cutout, psf: Array) -> lite.Observation:
    scene = cutout.field.scene
    here = (slice(None), *cutout.box)
    origin = tuple(extent.start + first for extent, first in zip(cutout.box, scene.origin, strict=True))
    return lite.Observation(
        images=np.where(cutout.weights > 0, scene.images[here], 0),
        variance=scene.variance[here],
        weights=cutout.weights * footprint_mask(cutout),
        psfs=scene.psfs,
        model_psf=psf[None],
        bands=scene.bands,
        bbox=lite.Box(cutout.shape, origin),
    )


def _source_models(blend: lite.Blend, parent: Parent) -> Iterator[SourceModel]:
    for peak, source in zip(parent.peaks, blend.sources, strict=True):
        for component in source.components:
            y, x = component.morph.nonzero()
            if len(y):
                y0, x0 = component.bbox.origin
                light = component.morph[y, x]
                yield SourceModel.from_pixels(peak.id, component.spectrum, y + y0, x + x0, light)


def _fit(
    parent: Parent,
    observation: lite.Observation,
    monotonicity: lite.operators.Monotonicity,
    options: DeblendOptions,
) -> ParentModel:
    initialization = lite.initialization.FactorizedInitialization(
        observation,
        [(round(peak.y), round(peak.x)) for peak in parent.peaks],
        min_snr=options.min_snr,
        monotonicity=monotonicity,
        bg_thresh=options.background_threshold,
        initial_bg_thresh=options.background_threshold,
        max_components=options.max_components,
    )
    blend = lite.Blend(initialization.sources, observation)
    blend.fit_spectra()
    blend.parameterize(
        partial(lite.component.default_adaprox_parameterization, noise_rms=observation.noise_rms / 10)
    )
    n_iterations, _ = blend.fit(
        options.max_iterations,
        e_rel=options.tolerance or _TOLERANCE,
        min_iter=_MIN_ITERATIONS,
        resize=_RESIZE_EVERY,
    )
    residual = observation.images.data - blend.get_model(convolve=True).data
    chi2 = float((observation.weights.data * residual**2).sum(dtype=np.float64))
    if not np.isfinite(chi2):
        return ParentModel(parent.id, (), failure=f"chi-square became {chi2}")
    return ParentModel(
        parent.id,
        tuple(_source_models(blend, parent)),
        chi2,
        int((observation.weights.data > 0).sum()),
        n_iterations,
        n_iterations < options.max_iterations,
    )


def fit_parents(
    blends: Sequence[tuple[Scene, Sequence[Parent]]],
    options: DeblendOptions,
    progress: Callable[[int], None],
) -> list[list[ParentModel]]:
    """Fit each parent; `lsst.meas.residualdetect.deblend.deblend_scenes` has
    the details.
    """
    monotonicity = lite.operators.Monotonicity((_MONOTONIC_SIDE, _MONOTONIC_SIDE))
    models: list[list[ParentModel]] = [[] for _ in blends]
    for cutout, failure in make_cutouts(blends, options, model_psf(options)):
        parent = cutout.parent
        if failure:
            model = ParentModel(parent.id, (), failure=failure)
        else:
            try:
                model = _fit(parent, _observe(cutout, model_psf(options)), monotonicity, options)
            # Whatever goes wrong inside is this parent's failure alone.
            except Exception as error:
                model = ParentModel(parent.id, (), failure=f"{type(error).__name__}: {error}")
        models[cutout.index[0]].append(model)
        progress(1)
    return models
