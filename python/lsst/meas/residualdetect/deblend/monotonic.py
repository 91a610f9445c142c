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

"""Morphologies that fall monotonically from their peak.

A stamp centred on a peak is stored ring by ring: ring r holds the 8 r pixels
at Chebyshev distance r, starting at the corner (-r, -r) and going round. The
ray from the peak through a pixel of ring r, place t, crosses ring r - 1 at
place t (r - 1) / r, so the bound on a ring is an interpolation of the ring
inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["half_turn", "make_monotonic", "ring_offsets"]


def _ring_start(radius: int) -> int:
    """Place of the first pixel of a ring, or the number of pixels within."""
    return max(2 * radius - 1, 0) ** 2


@lru_cache(maxsize=64)
def ring_offsets(radius: int) -> Tensor:
    """Offsets from the peak of all pixels up to ring ``radius``, in ring
    order: ((2 radius + 1)^2, 2: y, x), int64.
    """
    rings = [torch.zeros(1, 2, dtype=torch.int64)]
    for r in range(1, radius + 1):
        rising, edge = torch.arange(-r, r), torch.full((2 * r,), r)
        y = torch.cat([-edge, rising, edge, -rising])
        x = torch.cat([rising, edge, -rising, -edge])
        rings.append(torch.stack([y, x], dim=1))
    return torch.cat(rings)


def half_turn(radius: int) -> Tensor:
    """Place, in ring order, of the pixel opposite to each: int64."""
    opposite = [torch.zeros(1, dtype=torch.int64)]
    opposite += [_ring_start(r) + (torch.arange(8 * r) + 4 * r) % (8 * r) for r in range(1, radius + 1)]
    return torch.cat(opposite)


@lru_cache(maxsize=512)
def _inner_neighbours(r: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of ring ``r``, the two pixels of ring ``r - 1`` beside
    its ray and the weight (8 r, 1) of the second.
    """
    place = torch.arange(8 * r, device=device) * (r - 1)
    first = place // r
    second = (first + 1) % max(8 * (r - 1), 1)
    return first, second, ((place % r) / r)[:, None]


def make_monotonic(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Lower pixels until none exceeds what lies inwards of it.

    Ring by ring outwards, a pixel is clipped to the value interpolated where
    its ray to the peak crosses the ring inside. Like the sweep of
    lsst.scarlet.lite's ``Monotonicity`` this maps onto monotonic images, but
    not to the nearest one.

    Parameters
    ----------
    values : `torch.Tensor`, (value,)
        Ring 0 of all stamps, ring 1 of all stamps that have it, and so on;
        within a ring place by place, within a place stamp by stamp, the
        largest stamps first. A value of +inf is unknown: it becomes that of
        its bound.
    counts : `~collections.abc.Sequence` [`int`]
        Number of stamps that have ring 0, 1, ...

    Returns
    -------
    values : `torch.Tensor`, (value,)
        The monotonic stamps.
    """
    result = values.clone()
    inner = result[: counts[0]].view(1, -1)
    start = counts[0]
    for r, n in enumerate(counts[1:], start=1):
        first, second, weight = _inner_neighbours(r, values.device)
        inner = inner[:, :n]
        bound = torch.lerp(inner.index_select(0, first), inner.index_select(0, second), weight)
        ring = result[start : start + 8 * r * n].view(8 * r, n)
        torch.minimum(ring, bound, out=ring)
        inner = ring
        start += 8 * r * n
    return result
