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

"""Deblending: from coadds, footprints and peaks to a model of each source.

Engines are registered by name and imported when first asked for, so that one
with a missing dependency harms nobody else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np

from ..detections import Parent
from ..scene import Scene
from ..scene_model import SceneModel
from ..threads import one_thread
from .options import DeblendError, DeblendOptions

__all__ = ["DeblendError", "DeblendOptions", "check_engine", "deblend", "deblend_scenes", "engine_names"]

# A module of this package with two functions: model_psf(options), the image of
# its model PSF, and fit_parents(blends, options, progress), which returns a
# list of ParentModels for each scene.
_ENGINES: Mapping[str, str] = {"factorized": ".factorized", "scarlet_lite": ".scarlet_lite"}

_LOG = logging.getLogger(__name__)

_DEFAULT_OPTIONS = DeblendOptions()


def engine_names() -> tuple[str, ...]:
    """Names that `deblend` knows, in alphabetical order."""
    return tuple(sorted(_ENGINES))


def check_engine(engine: str) -> None:
    """Refuse an engine that cannot be used here.

    Raises
    ------
    DeblendError
        Raised if the engine is unknown, or needs what is not installed.
    """
    if engine not in _ENGINES:
        raise DeblendError(f"unknown deblender {engine!r}; known: {', '.join(engine_names())}")
    try:
        import_module(_ENGINES[engine], __name__)
    except ImportError as error:
        raise DeblendError(f"deblender {engine!r} cannot be used here: {error}") from error


def deblend(
    scene: Scene,
    parents: Sequence[Parent],
    options: DeblendOptions = _DEFAULT_OPTIONS,
    *,
    engine: str = "factorized",
    progress: Callable[[int], None] | None = None,
) -> SceneModel:
    """Model every source of a scene.

    Parents are fitted independently of each other, each to the pixels of its
    own footprint.

    Parameters
    ----------
    scene : `Scene`
        The coadds.
    parents : `~collections.abc.Sequence` [`Parent`]
        Footprints with peaks, in the scene's patch coordinates.
    options : `DeblendOptions`, optional
        What can be tuned.
    engine : `str`, optional
        Which deblender; one of `engine_names`.
    progress : `~collections.abc.Callable`, optional
        Called with the number of parents just finished, whenever some are;
        by one thread at a time, but not always the same.

    Returns
    -------
    model : `SceneModel`
        One `ParentModel` for each parent, in the order given. A parent that
        cannot be fitted has no sources, and says why in ``failure``.

    Raises
    ------
    DeblendError
        Raised if the engine is unknown, or needs what is not installed.
    """
    (model,) = deblend_scenes([(scene, parents)], options, engine=engine, progress=progress)
    return model


def deblend_scenes(
    blends: Sequence[tuple[Scene, Sequence[Parent]]],
    options: DeblendOptions = _DEFAULT_OPTIONS,
    *,
    engine: str = "factorized",
    progress: Callable[[int], None] | None = None,
) -> list[SceneModel]:
    """Model every source of several scenes, as `deblend` does of one.

    Parents of different scenes are fitted together where that is faster: for
    many small scenes, such as cutouts, this takes much less time than one
    after another.

    Parameters
    ----------
    blends : `~collections.abc.Sequence` [`tuple` [`Scene`, \
            `~collections.abc.Sequence` [`Parent`]]]
        Scenes with their parents.
    options, engine, progress
        As for `deblend`.

    Returns
    -------
    models : `list` [`SceneModel`]
        One for each scene.

    Raises
    ------
    DeblendError
        Raised if the engine is unknown, or needs what is not installed.
    """
    check_engine(engine)
    module = import_module(_ENGINES[engine], __name__)
    of_scenes = [options.for_scene(scene) for scene, _ in blends]
    for (scene, _), own in zip(blends, of_scenes, strict=True):
        if own.sigma_pix < options.sigma_pix:
            _LOG.warning(
                "%sthe model PSF has a standard deviation of %.2f pixels, that of band %r %.2f: now the same",
                f"{scene.name}: " if scene.name else "",
                options.sigma_pix,
                scene.bands[int(np.nanargmin(scene.psf_sigmas_pix))],
                own.sigma_pix,
            )
    with one_thread():
        models = module.fit_parents(blends, options, progress or (lambda count: None))
    return [
        SceneModel(
            scene.bands,
            scene.psfs,
            module.model_psf(own),
            tuple(
                replace(fit, place=parent.footprint.middle) if scene.psf_fields else fit
                for parent, fit in zip(parents, fits, strict=True)
            ),
        )
        for (scene, parents), own, fits in zip(blends, of_scenes, models, strict=True)
    ]
