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
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from ..boxes import nearest_pixel
from ..detections import Detections, Parent, positions_of
from ..scene import Array, Scene
from ..scene_model import SceneModel
from . import DeblendOptions, deblend
from .cutouts import box_inside, footprint_mask

__all__ = ["SKY_OBJECT", "Unmodelled", "model_singles"]

SKY_OBJECT = "sky object"

# Residual, in standard deviations of the noise of a pixel in any band, that
# belongs to the source that it is connected with.
_SIGNIFICANT = 3


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
    peaks : `~collections.abc.Mapping` [`int`, `str`]
        Why a peak of another parent has none, by the peak's id.
    """

    singles: SceneModel
    left_alone: Mapping[int, str]
    peaks: Mapping[int, str] = field(default_factory=dict)

    def hidden(self, detections: Detections, scene: Scene, image: Array) -> npt.NDArray[np.bool_]:
        """Pixels whose residual is the source itself.

        Those of the parents left alone, sky objects excepted, which show no
        source. Of other parents those that are nearer to a peak without a
        model than to one with, and what is connected with these by its
        residual.

        Parameters
        ----------
        detections : `Detections`
            The catalogue.
        scene : `Scene`
            The coadds.
        image : `numpy.ndarray`, (band, y, x), float32
            All models, singles too, as the scene would show them.

        Returns
        -------
        hidden : `numpy.ndarray`, (y, x), bool
            Where nothing should be looked for.
        """
        hidden = np.zeros(scene.shape, dtype=bool)
        for parent in detections:
            of_peaks = not self.peaks.keys().isdisjoint(peak.id for peak in parent.peaks)
            if of_peaks or self.left_alone.get(parent.id, SKY_OBJECT) != SKY_OBJECT:
                box = box_inside(scene, parent)
                mask = footprint_mask(scene, parent, box)
                hidden[box] |= self._near_peaks(parent, scene, image, box, mask) if of_peaks else mask
        return hidden

    def _near_peaks(
        self,
        parent: Parent,
        scene: Scene,
        image: Array,
        box: tuple[slice, slice],
        mask: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """What `hidden` hides of a parent of which some peaks have no model,
        in its box.
        """
        places = nearest_pixel(positions_of(parent.peaks), scene.origin)
        lacks = np.array([peak.id in self.peaks for peak in parent.peaks])
        own = mask.copy()
        if not lacks.all():
            pixels = np.argwhere(mask) + [side.start for side in box]
            to_lacking, to_others = (KDTree(places[some]).query(pixels)[0] for some in (lacks, ~lacks))
            own[mask] = to_lacking <= to_others
        residual = scene.images[:, *box] - image[:, *box]
        significant = (residual > _SIGNIFICANT * np.sqrt(scene.variance[:, *box])).any(0)
        regions = ndimage.label((significant & mask) | own, np.ones((3, 3)))[0]
        return np.isin(regions, regions[own])


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
    peaks = {}
    for parent in detections:
        fit = fits.get(parent.id)
        if fit is not None and not fit.failure:
            modelled = {source.peak_id for source in fit.sources}
            for peak in parent.peaks:
                if peak.id not in modelled:
                    where = f"peak {peak.id} at (y, x) = ({peak.y:.1f}, {peak.x:.1f})"
                    peaks[peak.id] = fit.unmodelled.get(peak.id, f"{where}: the deblender made none")
    return Unmodelled(made, left_alone, peaks)
