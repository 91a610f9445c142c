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

"""Convolution of many boxes at once."""

from __future__ import annotations

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from ..scene import Array

__all__ = ["BandConvolver", "kernel_reach", "padded_shape"]

# Part of a kernel's light that may come back in at the opposite edge of a box.
# The light of a source is far from the edge that it comes back at: chi-square
# changes by less than 1e-5.
_SPILL = 0.04


class BandConvolver:
    """Convolution of boxes with each band's kernel, by FFT.

    Light that leaves a box is lost and none enters it, but for some from the
    outskirts of the kernel.

    Parameters
    ----------
    kernels : `numpy.ndarray`, (set, band, h, w)
        Centred kernels with odd sides.
    kernel_set : `torch.Tensor`, (box,), int64
        Which of them each box has.
    shape : `tuple` [`int`, `int`]
        Height and width of the boxes.
    """

    def __init__(self, kernels: Array, kernel_set: Tensor, shape: tuple[int, int]) -> None:
        self._shape = shape
        centre = kernels.shape[2] // 2, kernels.shape[3] // 2
        self._size = padded_shape(shape, kernel_reach(kernels))
        # The part of the kernel that a padded box has room for.
        half = [min(c, side - 1, (n - 1) // 2) for c, side, n in zip(centre, shape, self._size, strict=True)]
        wrapped = np.zeros((*kernels.shape[:2], *self._size), np.float32)
        wrapped[..., : 2 * half[0] + 1, : 2 * half[1] + 1] = kernels[
            ..., centre[0] - half[0] : centre[0] + half[0] + 1, centre[1] - half[1] : centre[1] + half[1] + 1
        ]
        wrapped = np.roll(wrapped, (-half[0], -half[1]), axis=(2, 3))
        transfer = torch.fft.rfft2(torch.from_numpy(wrapped).to(kernel_set.device)).mT.contiguous()
        self._transfer = transfer if len(transfer) == 1 else transfer[kernel_set]

    def select(self, keep: Tensor) -> BandConvolver:
        """The same for the boxes for which ``keep`` (box,) is true."""
        selected = object.__new__(BandConvolver)
        selected._shape, selected._size = self._shape, self._size
        selected._transfer = self._transfer if len(self._transfer) == 1 else self._transfer[keep]
        return selected

    def forward(self, boxes: Tensor) -> Tensor:
        """Convolve each band with its kernel: (box, band, y, x)."""
        return self._back(self._transform(boxes).mul_(self._transfer))

    def adjoint(self, boxes: Tensor) -> Tensor:
        """The transpose of `forward`: (box, band, y, x)."""
        return self._back(self._transform(boxes).mul_(self._transfer.conj()))

    # One axis after the other: rows that are padding need no transform.
    def _transform(self, boxes: Tensor) -> Tensor:
        return torch.fft.fft(torch.fft.rfft(boxes, self._size[1]).mT, self._size[0])

    def _back(self, transform: Tensor) -> Tensor:
        height, width = self._shape
        rows = torch.fft.ifft(transform)[..., :height].mT
        return torch.fft.irfft(rows, self._size[1])[..., :width]


def padded_shape(shape: tuple[int, int], reach: int) -> tuple[int, int]:
    """Shape to transform boxes in: the next that is fast, as those between
    are smaller but up to twice as slow.
    """
    height, width = (side + min(reach, side - 1) for side in shape)
    return _fast_size(height), _fast_size(width)


def _fast_size(size: int) -> int:
    step = 8 if size <= 48 else 16
    return step * fft.next_fast_len(-(-size // step), real=True)


def kernel_reach(kernels: Array) -> int:
    """Largest distance along an axis from the centre, but for a part of
    `_SPILL` of each kernel.
    """
    y, x = (np.abs(np.arange(size) - size // 2) for size in kernels.shape[-2:])
    distance = np.maximum(y[:, None], x[None, :])
    light = np.abs(kernels).reshape(-1, distance.size)
    within = np.array([light[:, distance.ravel() <= r].sum(1) for r in range(distance.max() + 1)])
    return int((within < (1 - _SPILL) * within[-1]).sum(0).max())
