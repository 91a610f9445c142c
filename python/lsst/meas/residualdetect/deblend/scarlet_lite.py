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

What meas_extensions_scarlet's DeconvolveExposureTask and ScarletDeblendTask
do, with their calls and their settings: parents of several peaks are divided
where deconvolved coadds show a gap, and each part is initialised from those
and fitted on its own, one after another. Parents of one peak, which the stack
does not model at all, start from the coadds themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from lsst.scarlet import lite

from ..boxes import box_at, nearest_pixel
from ..detections import Footprint, Parent
from ..psf_images import difference_kernels
from ..scene import Array, Scene
from ..scene_model import ParentModel, SourceModel
from .cutouts import Cutout, Field, make_cutouts, noise_units
from .deconvolution import deconvolve, divide, label_footprints, noise_rms
from .options import DeblendOptions

__all__ = ["fit_parents", "model_psf"]

# ScarletDeblendConfig's values for what the options leave open. Areas are
# those of boxes.
_TOLERANCE = 1e-3
_MIN_ITERATIONS = 5
_RESIZE_EVERY = 3
_MAX_PEAKS = 600
_MAX_AREA = 2_000_000
_MAX_AREA_TIMES_PEAKS = 1_000_000_000
_MAX_AREA_TIMES_PEAKS_OF_SPECTRA = 1_000_000

# How a fit fails: no memory, no solution, numbers that are not finite, or
# something that the library refuses. It is this parent's failure alone;
# anything else is an error of the program.
_FAILURES = (MemoryError, ArithmeticError, ValueError, RuntimeError)

# Noise of a pixel, in the images' unit, with which the library fits as it does in
# nJy: Adam's floor of squared gradients, 1e-8, is in that unit. The stack fits
# in the images' unit, and the models are the same where this does.
_USUAL_NOISE = (1e-3, 1e3)

# Side of the largest morphology that the monotonicity operator knows without
# growing.
_MONOTONIC_SIDE = 101


def model_psf(options: DeblendOptions) -> Array:
    """A Gaussian integrated over pixels, as the stack's: (h, w), float32."""
    psf: Array = lite.utils.integrated_circular_gaussian(sigma=options.sigma_pix).astype(np.float32)
    return psf


class _Shared:
    """What the parents of one scene share, made when first asked for."""

    def __init__(self, scene: Scene, parents: Sequence[Parent], options: DeblendOptions) -> None:
        # One unit for all bands: the sum of deconvolved bands has their fluxes.
        noise = float(noise_units(scene).max())
        self.unit = 1.0 if _USUAL_NOISE[0] < noise < _USUAL_NOISE[1] else noise
        images, variance = scene.images / self.unit, scene.variance / self.unit**2
        self.scene = replace(scene, images=images, variance=variance)
        self.parents = parents
        self.options = options
        self.psf = model_psf(options)
        self.monotonicity = lite.operators.Monotonicity((_MONOTONIC_SIDE, _MONOTONIC_SIDE))

    def field(self, scene: Scene) -> Field:
        """What parents with the same PSFs share."""
        kernels = difference_kernels(scene.psfs, self.psf)
        return Field(scene, self.options, kernels, np.ones(len(scene.bands)))

    @cached_property
    def noise_rms(self) -> Array:
        """The whole scene's, as the stack takes it: (band,), float32."""
        return noise_rms(self.scene)

    @cached_property
    def deconvolved(self) -> tuple[Array, npt.NDArray[np.int32]]:
        """Sum of the deconvolved bands, and the labels of its footprints."""
        spans = np.concatenate([parent.footprint.spans for parent in self.parents])
        footprints = Footprint(spans).to_mask(box_at(self.scene.origin, self.scene.shape))
        images = deconvolve(self.scene, footprints, self.psf)
        peaks = [peak for parent in self.parents for peak in parent.peaks]
        return images.sum(axis=0), label_footprints(self.scene, images, footprints, peaks)

    def observe(self, cutout: Cutout, images: Array) -> lite.Observation:
        """A parent's pixels, without weight outside its footprint."""
        variance = self.scene.variance[:, *cutout.box]
        origin = tuple(s.start + first for s, first in zip(cutout.box, self.scene.origin, strict=True))
        return lite.Observation(
            images=images,
            # Where there is no data image and variance are both left out of a
            # source's signal-to-noise ratio.
            variance=np.where(np.isfinite(variance), variance, 0),
            weights=cutout.weights * cutout.footprint,
            psfs=cutout.field.scene.psfs,
            model_psf=self.psf[None],
            noise_rms=self.noise_rms,
            bands=self.scene.bands,
            bbox=lite.Box(cutout.shape, origin),
        )


def _find_excess(part: Cutout) -> str:
    """Why the stack would not try to fit it; empty if it would."""
    area, n_peaks = part.shape[0] * part.shape[1], len(part.parent.peaks)
    what = f"{n_peaks} peaks in {part.shape[0]} x {part.shape[1]} pixels"
    if area > _MAX_AREA:
        return f"too large: {what}, more than {_MAX_AREA} pixels"
    if area * n_peaks > _MAX_AREA_TIMES_PEAKS:
        return f"too large: {what}, a product of more than {_MAX_AREA_TIMES_PEAKS}"
    if n_peaks > _MAX_PEAKS:
        return f"too many peaks: {what}, more than {_MAX_PEAKS} peaks"
    return ""


def _fit(part: Cutout, shared: _Shared, detect: Array | None) -> lite.Blend:
    """Fit one blend, its sources initialised from ``detect`` (y, x), or from
    the coadds.
    """
    options = shared.options
    images = shared.scene.images[:, *part.box]
    if detect is None:
        images = np.where(part.weights > 0, images, 0)
    observation = shared.observe(part, images)
    initialization = lite.initialization.FactorizedInitialization(
        observation,
        [tuple(nearest_pixel((peak.y, peak.x)).tolist()) for peak in part.parent.peaks],
        detect,
        min_snr=options.min_snr,
        monotonicity=shared.monotonicity,
        bg_thresh=options.background_threshold,
        initial_bg_thresh=options.background_threshold,
        max_components=options.max_components,
    )
    blend = lite.Blend(initialization.sources, observation)
    if len(part.parent.peaks) * part.shape[0] * part.shape[1] < _MAX_AREA_TIMES_PEAKS_OF_SPECTRA:
        # Without it the fit begins with worse spectra, that is all.
        with suppress(np.linalg.LinAlgError):
            blend.fit_spectra()
    blend.parameterize(
        partial(lite.component.default_adaprox_parameterization, noise_rms=observation.noise_rms / 10)
    )
    blend.fit(
        options.max_iterations,
        e_rel=options.tolerance or _TOLERANCE,
        min_iter=_MIN_ITERATIONS,
        resize=_RESIZE_EVERY,
    )
    return blend


def _source_models(blend: lite.Blend, parent: Parent, unit: float) -> Iterator[SourceModel]:
    for peak, source in zip(parent.peaks, blend.sources, strict=True):
        for component in source.components:
            y, x = component.morph.nonzero()
            if len(y):
                y0, x0 = component.bbox.origin
                light = component.morph[y, x]
                yield SourceModel.from_pixels(peak.id, component.spectrum * unit, y + y0, x + x0, light)


def _fit_parent(cutout: Cutout, shared: _Shared) -> ParentModel:
    parent, options = cutout.parent, shared.options
    parts, detect = [cutout], None
    if len(parent.peaks) > 1:
        detect, labels = shared.deconvolved
        parts = divide(cutout, labels)
    # A parent is modelled as a whole or not at all: what a part without a
    # model leaves in the residual would look like sources that were missed.
    for excess in map(_find_excess, parts):
        if excess:
            return ParentModel(parent.id, (), failure=excess)
    blends = [_fit(part, shared, None if detect is None else detect[part.box]) for part in parts]

    observation = shared.observe(cutout, shared.scene.images[:, *cutout.box])
    model = lite.Image.from_box(observation.bbox, observation.bands, observation.dtype)
    for blend in blends:
        model.insert(blend.get_model())
    residual = observation.images.data - observation.convolve(model).data
    chi2 = float((observation.weights.data * residual**2).sum(dtype=np.float64))
    if not np.isfinite(chi2):
        return ParentModel(parent.id, (), failure=f"chi-square became {chi2}")
    return ParentModel(
        parent.id,
        tuple(
            source
            for blend, part in zip(blends, parts, strict=True)
            for source in _source_models(blend, part.parent, shared.unit)
            if source.peak_id not in cutout.unmodelled
        ),
        chi2,
        int((observation.weights.data > 0).sum()),
        sum(blend.it for blend in blends),
        all(blend.it < options.max_iterations for blend in blends),
        unmodelled=cutout.unmodelled,
    )


def fit_parents(
    blends: Sequence[tuple[Scene, Sequence[Parent]]],
    options: DeblendOptions,
    progress: Callable[[int], None],
) -> list[list[ParentModel]]:
    """Fit each parent; `lsst.meas.residualdetect.deblend.deblend_scenes` has
    the details. The iterations of a parent's parts are summed.
    """
    models: list[list[ParentModel]] = []
    for number, (scene, parents) in enumerate(blends):
        shared = _Shared(scene, parents, options.for_scene(scene))
        models.append([])
        for cutout, failure in make_cutouts(number, shared.scene, parents, shared.field):
            parent = cutout.parent
            if failure:
                model = ParentModel(parent.id, (), failure=failure)
            else:
                try:
                    model = _fit_parent(cutout, shared)
                except _FAILURES as error:
                    model = ParentModel(parent.id, (), failure=f"{type(error).__name__}: {error}")
            models[-1].append(model)
            progress(1)
    return models
