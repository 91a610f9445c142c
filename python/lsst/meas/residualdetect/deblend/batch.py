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

"""Parents of a similar size, cut out of the scene and stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..footprint import Parent, Peak
from ..scene import Array, Scene

__all__ = ["Batch", "Component", "Cutout", "find_fault", "make_batch", "make_cutout"]


class Component(IntEnum):
    """What a component of a source starts as."""

    NONE = 0
    POINT = 1
    EXTENDED = 2
    BULGE = 3
    DISK = 4


@dataclass(frozen=True, eq=False)
class Cutout:
    """One parent and where to cut it out.

    Parameters
    ----------
    index : `int`
        Place of the parent in the sequence given to the deblender.
    parent : `Parent`
        The parent.
    box : `tuple` [`slice`, `slice`]
        Box of its footprint in array indices (y, x), inside the scene.
    components : `tuple` [`tuple` [`Peak`, `Component`]]
        What to model it with.
    """

    index: int
    parent: Parent
    box: tuple[slice, slice]
    components: tuple[tuple[Peak, Component], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the box."""
        return self.box[0].stop - self.box[0].start, self.box[1].stop - self.box[1].start


def make_cutout(index: int, parent: Parent, scene: Scene) -> Cutout:
    """The part of a parent's box that lies inside the scene."""
    rows, columns = (
        slice(max(extent.start - first, 0), max(min(extent.stop - first, size), 0))
        for extent, first, size in zip(parent.footprint.bbox, scene.origin, scene.shape, strict=True)
    )
    return Cutout(index, parent, (rows, columns))


def find_fault(cutout: Cutout, scene: Scene, weights: Array) -> str:
    """Why a parent cannot be fitted; empty if it can."""
    parent = cutout.parent
    if not parent.peaks:
        return "no peaks"
    if min(cutout.shape) <= 0:
        return "footprint outside the scene"
    footprint = _footprint_mask(cutout, scene.origin)
    if not (weights[:, *cutout.box] * footprint).any():
        return "no good pixels"
    for peak in parent.peaks:
        where = f"peak {peak.id} at (y, x) = ({peak.y:.1f}, {peak.x:.1f})"
        y, x = round(peak.y) - scene.origin[0], round(peak.x) - scene.origin[1]
        if not (0 <= y < scene.shape[0] and 0 <= x < scene.shape[1]):
            return f"{where} is outside the scene"
        if not parent.footprint.contains(peak.y, peak.x):
            return f"{where} is outside the footprint"
        if not weights[:, y, x].any():
            return f"{where} is on a pixel that is bad in all bands"
    return ""


def _footprint_mask(cutout: Cutout, origin: tuple[int, int]) -> npt.NDArray[np.bool_]:
    rows, columns = cutout.box
    return cutout.parent.footprint.to_mask(
        (
            slice(rows.start + origin[0], rows.stop + origin[0]),
            slice(columns.start + origin[1], columns.stop + origin[1]),
        )
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """Stacked parents, each in the corner of a box of common shape.

    Parameters
    ----------
    images, weights : `torch.Tensor`, (parent, band, y, x)
        Pixels and inverse variances, bad pixels zero.
    support : `torch.Tensor`, (parent, y, x), bool
        The footprints.
    depth : `torch.Tensor`, (parent, band)
        Median inverse variance of the good footprint pixels.
    positions : `torch.Tensor`, (parent, slot, 2)
        Positions (y, x) of the components in the box; empty slots repeat
        the first.
    pixels : `torch.Tensor`, (parent, slot, 2), int64
        The pixels nearest to them.
    components : `torch.Tensor`, (parent, slot), int64
        What each slot holds, as `Component`.
    """

    images: Tensor
    weights: Tensor
    support: Tensor
    depth: Tensor
    positions: Tensor
    pixels: Tensor
    components: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the boxes."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def n_slots(self) -> int:
        """Components that each parent has room for."""
        return self.components.shape[1]

    @property
    def fit_weights(self) -> Tensor:
        """Weights, zero off the footprint: (parent, band, y, x)."""
        return self.weights * self.support[:, None]

    def select(self, index: Tensor) -> Batch:
        """Some of the parents."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})


def make_batch(
    scene: Scene,
    weights: Array,
    cutouts: Sequence[Cutout],
    shape: tuple[int, int],
    n_slots: int,
    device: torch.device,
) -> Batch:
    """Cut parents out of a scene.

    Parameters
    ----------
    scene : `Scene`
        The coadds.
    weights : `numpy.ndarray`, (band, y, x), float32
        Inverse variance, zero at bad pixels.
    cutouts : `~collections.abc.Sequence` [`Cutout`]
        The parents.
    shape : `tuple` [`int`, `int`]
        Box that holds each of them.
    n_slots : `int`
        Components that each parent has room for.
    device : `torch.device`
        Where the batch goes.

    Returns
    -------
    batch : `Batch`
        The stacked parents.
    """
    n_bands = len(scene.bands)
    images = np.zeros((len(cutouts), n_bands, *shape), np.float32)
    stacked = np.zeros_like(images)
    support = np.zeros((len(cutouts), *shape), np.bool_)
    depth = np.zeros((len(cutouts), n_bands), np.float32)
    positions = np.zeros((len(cutouts), n_slots, 2), np.float32)
    pixels = np.zeros((len(cutouts), n_slots, 2), np.int64)
    components = np.full((len(cutouts), n_slots), Component.NONE, np.int64)
    for i, cutout in enumerate(cutouts):
        corner = (slice(cutout.shape[0]), slice(cutout.shape[1]))
        footprint = _footprint_mask(cutout, scene.origin)
        stacked[i, :, *corner] = weights[:, *cutout.box]
        images[i, :, *corner] = np.where(weights[:, *cutout.box] > 0, scene.images[:, *cutout.box], 0)
        support[i, *corner] = footprint
        for band, values in enumerate(weights[:, *cutout.box]):
            good = values[footprint & (values > 0)]
            depth[i, band] = np.median(good) if good.size else 0
        first = [cutout.box[0].start + scene.origin[0], cutout.box[1].start + scene.origin[1]]
        # Empty slots repeat the first component's place, which is on the support.
        for slot in range(n_slots):
            peak, kind = cutout.components[slot if slot < len(cutout.components) else 0]
            positions[i, slot] = peak.y - first[0], peak.x - first[1]
            pixels[i, slot] = round(peak.y) - first[0], round(peak.x) - first[1]
            if slot < len(cutout.components):
                components[i, slot] = kind
    arrays = (images, stacked, support, depth, positions, pixels, components)
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))
