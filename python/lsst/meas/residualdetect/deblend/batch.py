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

"""Parents of a similar size, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..boxes import nearest_pixel
from ..detections import positions_of
from .convolve import BandConvolver
from .cutouts import Cutout, common_shape

__all__ = ["Batch", "make_batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Stacked parents, each in the corner of a box of common shape.

    Parameters
    ----------
    images, weights : `torch.Tensor`, (parent, band, y, x)
        Pixels and inverse variances in units of the noise, bad pixels zero.
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
    convolver : `BandConvolver`
        Takes the model PSF to each band.
    envelope : `BandConvolver`
        The same with the kernels' absolute values.
    """

    images: Tensor
    weights: Tensor
    support: Tensor
    depth: Tensor
    owner: Tensor
    positions: Tensor
    pixels: Tensor
    components: Tensor
    convolver: BandConvolver
    envelope: BandConvolver

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

    @cached_property
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
            self.convolver.select(keep),
            self.envelope.select(keep),
        )


def make_batch(cutouts: Sequence[Cutout], device: torch.device) -> Batch:
    """Cut parents out of their scenes.

    Parameters
    ----------
    cutouts : `~collections.abc.Sequence` [`Cutout`]
        The parents, of scenes with as many bands and pixels of the PSF.
    device : `torch.device`
        Where the batch goes.

    Returns
    -------
    batch : `Batch`
        The stacked parents, in boxes that hold each of them.
    """
    fields = list(dict.fromkeys(cutout.field for cutout in cutouts))
    n_bands = len(fields[0].kernels)
    shape = common_shape(cutouts)
    images = np.zeros((len(cutouts), n_bands, *shape), np.float32)
    stacked = np.zeros_like(images)
    support = np.zeros((len(cutouts), *shape), np.bool_)
    depth = np.zeros((len(cutouts), n_bands), np.float32)
    for i, cutout in enumerate(cutouts):
        corner = (slice(cutout.shape[0]), slice(cutout.shape[1]))
        footprint = cutout.footprint
        stacked[i, :, *corner] = cutout.weights
        images[i, :, *corner] = cutout.images
        support[i, *corner] = footprint
        for band, values in enumerate(cutout.weights):
            good = values[footprint & (values > 0)]
            depth[i, band] = np.median(good) if good.size else 0

    owner = np.repeat(np.arange(len(cutouts)), [len(cutout.components) for cutout in cutouts])
    first = np.array([np.add([s.start for s in c.box], c.field.scene.origin) for c in cutouts])[owner]
    peaks = [peak for cutout in cutouts for peak, _ in cutout.components]
    components = [component for cutout in cutouts for _, component in cutout.components]
    places = positions_of(peaks)
    positions, pixels = places - first, nearest_pixel(places, first)
    kernels = np.stack([field.kernels for field in fields])
    kernel_set = torch.tensor([fields.index(cutout.field) for cutout in cutouts], device=device)

    def tensor(array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Batch(
        images=tensor(images),
        weights=tensor(stacked),
        support=tensor(support),
        depth=tensor(depth),
        owner=tensor(owner),
        positions=tensor(positions.astype(np.float32)),
        pixels=tensor(pixels),
        components=tensor(np.array(components, np.int64)),
        convolver=BandConvolver(kernels, kernel_set, shape),
        envelope=BandConvolver(np.abs(kernels), kernel_set, shape),
    )
