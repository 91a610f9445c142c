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

"""Convolution of many small cubes with one kernel for each band."""

from __future__ import annotations

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from ..scene import Array

__all__ = ["BandConvolver"]


class BandConvolver:
    """Linear convolution of boxes with each band's kernel, by FFT.

    Parameters
    ----------
    kernels : `numpy.ndarray`, (band, h, w)
        Centred kernels with odd sides.
    shape : `tuple` [`int`, `int`]
        Height and width of the boxes. Light that leaves the box is lost and
        none enters it.
    device : `torch.device`
        Where the boxes are.
    """

    def __init__(self, kernels: Array, shape: tuple[int, int], device: torch.device) -> None:
        self._shape = shape
        # No two pixels of a box are further apart than its side less one, so
        # a kernel's outer part does not matter.
        reach = [min(size // 2, side - 1) for size, side in zip(kernels.shape[1:], shape, strict=True)]
        centre = [size // 2 for size in kernels.shape[1:]]
        self._size = [fft.next_fast_len(side + r, real=True) for side, r in zip(shape, reach, strict=True)]
        wrapped = np.zeros((len(kernels), *self._size), np.float32)
        wrapped[:, : 2 * reach[0] + 1, : 2 * reach[1] + 1] = kernels[
            :,
            centre[0] - reach[0] : centre[0] + reach[0] + 1,
            centre[1] - reach[1] : centre[1] + reach[1] + 1,
        ]
        wrapped = np.roll(wrapped, (-reach[0], -reach[1]), axis=(1, 2))
        self._transfer = torch.fft.rfft2(torch.from_numpy(wrapped).to(device))

    def _transform(self, boxes: Tensor) -> Tensor:
        return torch.fft.rfft2(boxes, s=self._size)

    def _back(self, transform: Tensor) -> Tensor:
        height, width = self._shape
        return torch.fft.irfft2(transform, s=self._size)[..., :height, :width]

    def forward(self, boxes: Tensor) -> Tensor:
        """Convolve each band with its kernel: (..., band, y, x)."""
        return self._back(self._transform(boxes) * self._transfer)

    def adjoint(self, boxes: Tensor) -> Tensor:
        """The transpose of `forward`: (..., band, y, x)."""
        return self._back(self._transform(boxes) * self._transfer.conj())
