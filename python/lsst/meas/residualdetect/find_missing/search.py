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

"""The way from a scene, its catalogue and its model to new peaks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..candidates import DEFAULT_MIN_DISTANCE_PIX, ranked
from ..deblend import DeblendOptions, check_engine
from ..deblend.singles import SKY_OBJECT, Unmodelled, model_singles
from ..detections import Detections
from ..detectors import Detector
from ..scene import DEFAULT_BAD_PLANES, Array, Scene, SceneError
from ..scene_model import SceneModel
from .missing import Missing

__all__ = ["FindMissingOptions", "find_missing"]

# What is seen in one band alone is most often an artefact, but of two bands
# one may be too shallow to show a source at all.
_MIN_BANDS, _BANDS_FOR_MIN = 2, 3


@dataclass(frozen=True)
class FindMissingOptions:
    """How candidates become peaks.

    Parameters
    ----------
    score_threshold : `float`, optional
        Score from which a candidate becomes a peak; the detector's own if
        absent.
    min_bands : `int`, optional
        Bands that must have seen a candidate for it to become a peak; see
        `n_bands_seen`. If absent 2 where the scene has three bands or more,
        else 1.
    min_distance_pix : `float`
        Candidates nearer than this to a peak are taken for a flaw of that
        peak's model.
    bad_planes : `tuple` [`str`]
        Mask planes whose pixels say nothing.
    singles : `~lsst.meas.residualdetect.deblend.DeblendOptions`
        How to model single-peak parents that have no model.
    singles_engine : `str`
        With which deblender.

    Raises
    ------
    ValueError
        Raised if a value makes no sense.
    """

    score_threshold: float | None = None
    min_bands: int | None = None
    min_distance_pix: float = DEFAULT_MIN_DISTANCE_PIX
    bad_planes: tuple[str, ...] = DEFAULT_BAD_PLANES
    singles: DeblendOptions = field(default_factory=DeblendOptions)
    singles_engine: str = "factorized"

    def __post_init__(self) -> None:
        if not isinstance(self.bad_planes, tuple):
            raise ValueError(f"bad_planes is {self.bad_planes!r}; expected a tuple of plane names")
        if self.score_threshold is not None and np.isnan(self.score_threshold):
            raise ValueError("score_threshold is not a number")
        for name in ("min_bands", "min_distance_pix"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value}; it must not be negative")
        check_engine(self.singles_engine)


def _check_image(scene: Scene, image: Array) -> Array:
    if image.shape != scene.images.shape:
        raise SceneError(
            f"scene {scene.name!r}: the model's image has shape {image.shape}; expected {scene.images.shape}"
        )
    bad = [band for band, pixels in zip(scene.bands, image, strict=True) if not np.isfinite(pixels).all()]
    if bad:
        raise SceneError(f"scene {scene.name!r}: the model's image is not finite in bands {bad}")
    return image


def _usable(model: SceneModel) -> SceneModel:
    """A model in which parents with light that is not finite have failed."""
    parents = tuple(
        parent
        if all(
            np.isfinite(source.spectrum).all() and np.isfinite(source.morphology).all()
            for source in parent.sources
        )
        else replace(parent, sources=(), failure="its model is not finite")
        for parent in model
    )
    return replace(model, parents=parents)


def _modelled(
    scene: Scene, detections: Detections, model: SceneModel | Array, options: FindMissingOptions
) -> tuple[Array, Unmodelled]:
    """Image of the model of all sources, and what it does not model."""
    if isinstance(model, SceneModel):
        model = _usable(model.select_bands(scene.bands))
        unmodelled = model_singles(scene, detections, model, options.singles, engine=options.singles_engine)
        image = model.image(scene)
        if unmodelled.singles.sources:
            image += unmodelled.singles.image(scene)
    else:
        # Nobody can tell which sources an image lacks.
        left_alone = {parent.id: SKY_OBJECT for parent in detections if parent.is_sky}
        unmodelled = Unmodelled(SceneModel(scene.bands, scene.psfs, scene.psfs[0], ()), left_alone)
        image = model
    return _check_image(scene, image), unmodelled


def find_missing(
    scene: Scene,
    detections: Detections,
    model: SceneModel | Array,
    detector: Detector,
    options: FindMissingOptions | None = None,
) -> Missing:
    """Find sources that a model lacks, and add them to its catalogue.

    Parents of one peak that the model lacks are modelled first. Other
    parents without a model, and sky objects, are left alone: nothing is
    looked for in them, for their residual is the source itself.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    detections : `Detections`
        The catalogue that was deblended.
    model : `SceneModel` or `numpy.ndarray`, (band, y, x), float32
        Its deblended sources; or an image of them all, convolved to each
        band's PSF, of which everything is taken to be modelled.
    detector : `Detector`
        How to look.
    options : `FindMissingOptions`, optional
        How candidates become peaks; the defaults if absent.

    Returns
    -------
    missing : `Missing`
        The new catalogue, the candidates, and what was done and not done.
        Without a source that has a model there is no residual, and no
        candidate.

    Raises
    ------
    SceneError
        Raised if the model does not fit the scene.
    """
    options = options or FindMissingOptions()
    image, unmodelled = _modelled(scene, detections, model, options)
    bad = scene.bad(options.bad_planes)
    usable = int((~bad).any(axis=(1, 2)).sum())
    bad |= unmodelled.hidden(detections, scene, image)
    min_bands = options.min_bands
    if min_bands is None:
        min_bands = _MIN_BANDS if usable >= _BANDS_FOR_MIN else 1
    threshold = options.score_threshold
    nothing = Missing(
        scene=scene.with_bad(bad),
        before=detections,
        detections=detections,
        candidates=(),
        placements=(),
        model_image=image,
        left_alone=unmodelled.left_alone,
        unmodelled_peaks=unmodelled.peaks,
        n_singles=sum(not fit.failure for fit in unmodelled.singles),
        iteration=1 + max((peak.iteration for peak in detections.peaks), default=0),
        score_threshold=detector.default_threshold if threshold is None else threshold,
        min_bands=min_bands,
        min_distance_pix=options.min_distance_pix,
    )
    if not nothing.has_model:
        return nothing
    found = detector.detect(nothing.scene, image, detections.peaks)
    candidates = tuple(found[index] for index in ranked(found))
    return replace(nothing, candidates=candidates).at_threshold(nothing.score_threshold)
