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

"""Morphologies as stamps centred on a peak, each as large as it needs to be.

All stamps of a batch lie in one vector, ring by ring and within a ring place
by place, the largest stamps first: whatever is done to a ring is done to all
stamps that have it at once, and nothing is stored twice or padded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from .monotonic import half_turn, ring_offsets

__all__ = ["Stamps", "from_rows", "make_stamps", "to_rows"]


@dataclass(frozen=True, eq=False)
class Stamps:
    """Which pixels each stamp covers.

    Parameters
    ----------
    counts : `tuple` [`int`]
        Number of stamps that have ring 0, 1, ...
    rank : `torch.Tensor`, (stamp,), int64
        Place of each stamp in the order of falling radius, which is also
        the place of its peak in the vector.
    radius : `torch.Tensor`, (stamp,), int64
        Last ring of each.
    stamp : `torch.Tensor`, (value,), int64
        Stamp that a value of the vector belongs to.
    place : `torch.Tensor`, (value,), int64
        Its place in ring order.
    pixel : `torch.Tensor`, (value,), int64
        Pixel that it covers, in the flattened (parent, y, x); 0 off the box.
    inside : `torch.Tensor`, (value,), bool
        Whether it is in the box.
    free : `torch.Tensor`, (value,), bool
        Whether it is on the support, and may have light.
    """

    counts: tuple[int, ...]
    rank: Tensor
    radius: Tensor
    stamp: Tensor
    place: Tensor
    pixel: Tensor
    inside: Tensor
    free: Tensor
    _by_pixel: tuple[Tensor, Tensor, Tensor]
    _by_stamp: tuple[Tensor, Tensor, Tensor]

    def __len__(self) -> int:
        return len(self.rank)

    def render(self, values: Tensor, spectra: Tensor) -> Tensor:
        """Sum of all stamps times their spectra (stamp, band), at every
        pixel: (pixel, band).
        """
        order, stamp, starts = self._by_pixel
        return embedding_bag(
            stamp, spectra, starts, mode="sum", per_sample_weights=values.index_select(0, order)
        )

    def project(self, values: Tensor, rows: Tensor) -> Tensor:
        """Scalar products of each stamp with each band of ``rows`` (pixel,
        band): (stamp, band). Transpose of `render` in the spectra.
        """
        order, pixel, starts = self._by_stamp
        return embedding_bag(
            pixel, rows, starts, mode="sum", per_sample_weights=values.index_select(0, order)
        )

    def weigh(self, rows: Tensor, spectra: Tensor) -> Tensor:
        """Sum over bands of ``rows`` (pixel, band) times the spectra (stamp,
        band) at every pixel of a stamp: (value,). Transpose of `render` in
        the values.
        """
        return (rows.index_select(0, self.pixel) * spectra.index_select(0, self.stamp)).sum(1)

    def opposite(self, values: Tensor) -> Tensor:
        """The stamps turned by half a turn about their peaks."""
        return values[self._find(half_turn(len(self.counts) - 1).to(self.place.device)[self.place])]

    def extent(self, values: Tensor) -> Tensor:
        """Last ring on which each stamp has light: (stamp,), int64."""
        ring = torch.where(values > 0, _ring(self.place), 0)
        return torch.zeros_like(self.radius).scatter_reduce_(0, self.stamp, ring, "amax")

    def move(self, values: Tensor, source: Stamps, members: Tensor) -> Tensor:
        """Values of other stamps brought to these ones, zero on new rings.

        Parameters
        ----------
        values : `torch.Tensor`, (value of ``source``,)
            What to bring.
        source : `Stamps`
            The other stamps.
        members : `torch.Tensor`, (stamp,), int64
            Which of them these ones were.
        """
        stamp = members[self.stamp]
        known = _ring(self.place) <= source.radius[stamp]
        place = torch.where(known, self.place, 0)
        return torch.where(known, values[source._find(place, stamp)], 0)

    def _find(self, place: Tensor, stamp: Tensor | None = None) -> Tensor:
        """Where in the vector a place of a stamp is."""
        counts = torch.tensor(self.counts, device=place.device)
        ring = torch.arange(len(counts), device=place.device)
        sizes = counts * (8 * ring).clamp(min=1)
        ring_of = _ring(place)
        first = (2 * ring_of - 1).clamp(min=0) ** 2
        start = (sizes.cumsum(0) - sizes)[ring_of] + (place - first) * counts[ring_of]
        return start + self.rank[self.stamp if stamp is None else stamp]


def _ring(place: Tensor) -> Tensor:
    """Ring of a place in ring order."""
    return ((place.double().sqrt() + 1) / 2).long()


def to_rows(cube: Tensor) -> Tensor:
    """Pixels of (parent, band, y, x) as (pixel, band)."""
    return cube.permute(0, 2, 3, 1).reshape(-1, cube.shape[1])


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """The opposite of `to_rows`, with the shape of ``like``."""
    n_parents, n_bands, height, width = like.shape
    return rows.reshape(n_parents, height * width, n_bands).transpose(1, 2).reshape(like.shape)


def _bags(order: Tensor, key: Tensor, value: Tensor, n_bags: int) -> tuple[Tensor, Tensor, Tensor]:
    """What embedding_bag needs to sum by ``key``."""
    key = key.index_select(0, order)
    sizes = torch.bincount(key, minlength=n_bags)
    order = order.index_select(0, torch.argsort(key, stable=True))
    return order.int(), value.index_select(0, order).int(), (sizes.cumsum(0) - sizes).int()


def make_stamps(peaks: Tensor, parents: Tensor, support: Tensor, radius: Tensor) -> Stamps:
    """Stamps of given sizes.

    Parameters
    ----------
    peaks : `torch.Tensor`, (stamp, 2), int64
        Pixel (y, x) of each peak in the box of its parent.
    parents : `torch.Tensor`, (stamp,), int64
        The parent of each.
    support : `torch.Tensor`, (parent, y, x), bool
        Where there may be light.
    radius : `torch.Tensor`, (stamp,), int64
        Last ring of each.

    Returns
    -------
    stamps : `Stamps`
        The stamps, empty of values.
    """
    device = peaks.device
    order = torch.argsort(radius, descending=True, stable=True)
    largest = int(radius.max())
    counts = (radius >= torch.arange(largest + 1, device=device)[:, None]).sum(1)
    offsets = ring_offsets(largest).to(device)
    n_there = counts[offsets.abs().amax(1)]
    place = torch.repeat_interleave(n_there)
    stamp = order[torch.arange(len(place), device=device) - (n_there.cumsum(0) - n_there)[place]]

    _, height, width = support.shape
    y, x = (peaks[stamp] + offsets[place]).unbind(1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixel = torch.where(inside, (parents[stamp] * height + y) * width + x, 0)
    free = inside & support.flatten()[pixel]
    lit = free.nonzero()[:, 0]
    return Stamps(
        tuple(counts.tolist()),
        torch.argsort(order),
        radius,
        stamp,
        place,
        pixel,
        inside,
        free,
        _bags(lit, pixel, stamp, support.numel()),
        _bags(lit, stamp, pixel, len(radius)),
    )
