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

"""Deblending again, but only where something was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..detections import Detections, Parent
from ..scene import Scene
from ..scene_model import SceneModel
from . import DeblendError, DeblendOptions, deblend

__all__ = ["changed_parents", "redeblend"]


def _same(old: Parent, new: Parent) -> bool:
    return [p.id for p in old.peaks] == [p.id for p in new.peaks] and old.footprint == new.footprint


def changed_parents(before: Detections, after: Detections) -> tuple[Parent, ...]:
    """Parents of ``after`` that ``before`` lacks or has with other peaks or
    another footprint.
    """
    known = {parent.id: parent for parent in before}
    return tuple(p for p in after if p.id not in known or not _same(known[p.id], p))


def redeblend(
    scene: Scene,
    before: Detections,
    after: Detections,
    model: SceneModel,
    options: DeblendOptions = DeblendOptions(),
    *,
    engine: str = "factorized",
) -> SceneModel:
    """Deblend the changed parents and keep the models of the others.

    Parameters
    ----------
    scene : `Scene`
        Coadds, in the bands of ``model``.
    before : `Detections`
        The catalogue that ``model`` was made of.
    after : `Detections`
        The catalogue to have models of.
    model : `SceneModel`
        Models of ``before``.
    options, engine
        As for `~lsst.meas.residualdetect.deblend.deblend`.

    Returns
    -------
    model : `SceneModel`
        One parent's model for each parent of ``after``, in its order; those
        of unchanged parents are the objects given.

    Raises
    ------
    DeblendError
        Raised if ``model`` has another model PSF than these options and this
        engine give it.
    """
    changed: Sequence[Parent] = changed_parents(before, after)
    fresh = deblend(scene, changed, options, engine=engine)
    if not np.array_equal(fresh.model_psf, model.model_psf):
        raise DeblendError(
            f"scene {scene.name!r}: the models to keep were made with another model PSF than {engine!r} has "
            f"for a sigma_pix of {options.sigma_pix:g}; deblend all parents"
        )
    by_parent = {parent.parent_id: parent for parent in (*model, *fresh)}
    return replace(fresh, parents=tuple(by_parent[parent.id] for parent in after))
