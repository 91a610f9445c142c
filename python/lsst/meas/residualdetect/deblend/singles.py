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


"""Parents that came back from the deblender without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..scene import Scene
from ..scene_model import SceneModel
from . import DeblendOptions, deblend

__all__ = ["SKY_OBJECT", "Unmodelled", "model_singles"]

SKY_OBJECT = "sky object"


@dataclass(frozen=True)
class Unmodelled:
    """What became of parents that the deblender gave no model.

    Parameters
    ----------
    singles : `SceneModel`
        Models made here, of parents with a single peak.
    left_alone : `~collections.abc.Mapping` [`int`, `str`]
        Why a parent has no model that a residual could be taken of, by the
        parent's id.
    """

    singles: SceneModel
    left_alone: Mapping[int, str]

    def hidden(self, detections: Detections, scene: Scene) -> npt.NDArray[np.bool_]:
        """Pixels whose residual is the source itself: those of the parents
        left alone, sky objects excepted, which show no source: (y, x), bool.
        """
        hidden = np.zeros(scene.shape, dtype=bool)
        top, left = scene.origin
        for parent in detections:
            if self.left_alone.get(parent.id, SKY_OBJECT) != SKY_OBJECT:
                for y, first, after in parent.footprint.spans - [top, left, left]:
                    if 0 <= y < scene.shape[0]:
                        hidden[y, max(first, 0) : max(after, 0)] = True
        return hidden


def model_singles(
    scene: Scene,
    detections: Detections,
    model: SceneModel,
    options: DeblendOptions,
    *,
    engine: str = "factorized",
) -> Unmodelled:
    """Model the single-peak parents that the deblender passed over.

    The stack's deblender does not model a parent with one peak, which is
    where most unrecognised blends are: without a model there would be no
    residual to find them in. Parents of several peaks that it skipped or
    failed on are not tried again.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    detections : `Detections`
        The catalogue that was deblended.
    model : `SceneModel`
        What came of it: of each parent a model, nothing, or a failure.
    options, engine
        As for `~lsst.meas.residualdetect.deblend.deblend`.

    Returns
    -------
    unmodelled : `Unmodelled`
        The models made, and the parents that still have none.
    """
    fits = {parent.parent_id: parent for parent in model}
    left_alone = {}
    singles = []
    for parent in detections:
        fit = fits.get(parent.id)
        if parent.is_sky:
            left_alone[parent.id] = SKY_OBJECT
        elif fit is not None and fit.failure:
            left_alone[parent.id] = fit.failure
        elif fit is None and len(parent.peaks) == 1:
            singles.append(parent)
        elif fit is None:
            left_alone[parent.id] = f"the deblender made no model of its {len(parent.peaks)} peaks"
    made = deblend(scene, singles, options, engine=engine)
    left_alone |= {fit.parent_id: fit.failure for fit in made if fit.failure}
    return Unmodelled(made, left_alone)
