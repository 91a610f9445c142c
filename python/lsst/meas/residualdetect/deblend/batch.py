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
from dataclasses import dataclass
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

    POINT = 0
    EXTENDED = 1
    BULGE = 2
    DISK = 3


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
    owner : `torch.Tensor`, (component,), int64
        The parent that each component belongs to.
    positions : `torch.Tensor`, (component, 2)
        Positions (y, x) of the components in the box.
    pixels : `torch.Tensor`, (component, 2), int64
        The pixels nearest to them.
    components : `torch.Tensor`, (component,), int64
        What each is, as `Component`.
    """

    images: Tensor
    weights: Tensor
    support: Tensor
    depth: Tensor
    owner: Tensor
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
    def reach(self) -> Tensor:
        """Distance from each component's pixel to the farthest edge of its
        box, along either axis: (component,), int64.
        """
        last = torch.tensor(self.shape, device=self.pixels.device) - 1
        return torch.maximum(self.pixels, last - self.pixels).amax(1)

    @property
    def fit_weights(self) -> Tensor:
        """Weights, zero off the footprint: (parent, band, y, x)."""
        return self.weights * self.support[:, None]

    def select(self, keep: Tensor) -> Batch:
        """The parents for which ``keep`` (parent,) is true."""
        members = keep[self.owner]
        new_place = keep.cumsum(0) - 1
        return Batch(
            self.images[keep],
            self.weights[keep],
            self.support[keep],
            self.depth[keep],
            new_place[self.owner[members]],
            self.positions[members],
            self.pixels[members],
            self.components[members],
        )


def make_batch(
    scene: Scene,
    weights: Array,
    cutouts: Sequence[Cutout],
    shape: tuple[int, int],
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
    corners = [
        (cutout.box[0].start + scene.origin[0], cutout.box[1].start + scene.origin[1]) for cutout in cutouts
    ]
    owner = np.repeat(np.arange(len(cutouts)), [len(cutout.components) for cutout in cutouts])
    components = [component for cutout in cutouts for _, component in cutout.components]
    peaks = [peak for cutout in cutouts for peak, _ in cutout.components]
    first = np.array(corners)[owner]
    positions = np.array([(peak.y, peak.x) for peak in peaks]) - first
    pixels = np.array([(round(peak.y), round(peak.x)) for peak in peaks]) - first
    for i, cutout in enumerate(cutouts):
        corner = (slice(cutout.shape[0]), slice(cutout.shape[1]))
        footprint = _footprint_mask(cutout, scene.origin)
        stacked[i, :, *corner] = weights[:, *cutout.box]
        images[i, :, *corner] = np.where(weights[:, *cutout.box] > 0, scene.images[:, *cutout.box], 0)
        support[i, *corner] = footprint
        for band, values in enumerate(weights[:, *cutout.box]):
            good = values[footprint & (values > 0)]
            depth[i, band] = np.median(good) if good.size else 0
    arrays = (
        images,
        stacked,
        support,
        depth,
        owner,
        positions.astype(np.float32),
        pixels,
        np.array(components, np.int64),
    )
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))
