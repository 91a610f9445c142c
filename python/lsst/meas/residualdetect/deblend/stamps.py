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

"""Between the pixels of a box and stamps centred on a peak."""

from __future__ import annotations

import torch
from torch import Tensor

from .monotonic import half_turn, make_monotonic, ring_offsets

__all__ = ["PeakStamps"]


class PeakStamps:
    """Where the pixels of each source's box lie in its stamp, and back.

    Parameters
    ----------
    peaks : `torch.Tensor`, (n, 2), int64
        Pixel (y, x) of each source's peak in its box.
    shape : `tuple` [`int`, `int`]
        Height and width of the boxes.
    max_radius : `int`
        Radius of the largest stamp; pixels further out are zero in every
        box that comes back.
    """

    def __init__(self, peaks: Tensor, shape: tuple[int, int], max_radius: int) -> None:
        height, width = shape
        last = torch.tensor([height - 1, width - 1], device=peaks.device)
        radius = min(max_radius, int(torch.maximum(peaks, last - peaks).max()))
        offsets = ring_offsets(radius).to(peaks.device)

        self._half_turn = half_turn(radius).to(peaks.device)

        y, x = (peaks[:, None, :] + offsets).unbind(-1)
        outside = (y < 0) | (y >= height) | (x < 0) | (x >= width)
        self._to_stamps = (y * width + x).masked_fill_(outside, height * width)

        place = torch.empty(2 * radius + 1, 2 * radius + 1, dtype=torch.int64, device=peaks.device)
        place[offsets[:, 0] + radius, offsets[:, 1] + radius] = torch.arange(
            len(offsets), device=peaks.device
        )
        rows = torch.arange(height, device=peaks.device) - peaks[:, :1]
        columns = torch.arange(width, device=peaks.device) - peaks[:, 1:]
        self._to_boxes = place[
            (rows.clamp(-radius, radius) + radius)[:, :, None],
            (columns.clamp(-radius, radius) + radius)[:, None, :],
        ]
        outside = (rows.abs() > radius)[:, :, None] | (columns.abs() > radius)[:, None, :]
        self._to_boxes = self._to_boxes.masked_fill_(outside, len(offsets)).flatten(1)

    def select(self, index: Tensor) -> PeakStamps:
        """The same for some of the sources."""
        some = object.__new__(PeakStamps)
        some._to_stamps = self._to_stamps[index]
        some._to_boxes = self._to_boxes[index]
        some._half_turn = self._half_turn
        return some

    def to_stamps(self, boxes: Tensor, outside: float) -> Tensor:
        """Boxes (n, pixel) to stamps (ring pixel, n); ``outside`` is given to
        what lies off the box.
        """
        padded = torch.nn.functional.pad(boxes, (0, 1), value=outside)
        return padded.gather(1, self._to_stamps).t().contiguous()

    def to_boxes(self, stamps: Tensor) -> Tensor:
        """Stamps (ring pixel, n) to boxes (n, pixel), zero off the stamp."""
        padded = torch.nn.functional.pad(stamps.t(), (0, 1))
        return padded.gather(1, self._to_boxes)

    def opposite(self, stamps: Tensor) -> Tensor:
        """Stamps (ring pixel, n) turned by half a turn about the peak."""
        return stamps[self._half_turn]

    def project(self, boxes: Tensor, support: Tensor) -> Tensor:
        """Make morphologies non-negative, monotonic, and zero off a support.

        Pixels off the support do not stop a ray: beyond a gap the bound goes
        on where it was.

        Parameters
        ----------
        boxes : `torch.Tensor`, (n, pixel)
            Morphologies.
        support : `torch.Tensor`, (n, pixel), bool
            Where there may be light; true at every peak.

        Returns
        -------
        boxes : `torch.Tensor`, (n, pixel)
            New morphologies.
        """
        free = torch.where(support, boxes.clamp(min=0), torch.inf)
        return self.to_boxes(make_monotonic(self.to_stamps(free, torch.inf))).where(support, 0.0)
