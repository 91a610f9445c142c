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

"""From a mask of fixed resolution to pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..scene import Array

__all__ = ["paste_mask"]


def _interpolation(pixels: slice, first: float, last: float, n: int) -> npt.NDArray[np.float64]:
    """Weights (pixel, n) of the n values over [first, last) at pixels'
    centres; beyond the values there are zeros.
    """
    at = (np.arange(pixels.start, pixels.stop) + 0.5 - first) / (last - first) * n - 0.5
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n)), 0)


def paste_mask(
    mask: Array, box: npt.NDArray[np.floating], shape: tuple[int, int]
) -> tuple[npt.NDArray[np.bool_], tuple[slice, slice]]:
    """Put a mask of fixed resolution into its place in an image.

    Interpolates bilinearly, like Detectron2's ``paste_masks_in_image``.

    Parameters
    ----------
    mask : `numpy.ndarray`, (m, m)
        Probability, over the box, that a pixel belongs to the source.
    box : `numpy.ndarray`, (4,)
        x0, y0, x1, y1 in pixels of which the i-th covers [i, i + 1).
    shape : `tuple` [`int`, `int`]
        Height and width of the image.

    Returns
    -------
    pixels : `numpy.ndarray`, (y, x), bool
        Where the probability is at least one half.
    where : `tuple` [`slice`, `slice`]
        Their place in the image: the box, rounded outwards, without what is
        outside of the image.
    """
    x0, y0, x1, y1 = box.tolist()
    rows = slice(max(int(np.floor(y0)), 0), min(int(np.ceil(y1)), shape[0]))
    columns = slice(max(int(np.floor(x0)), 0), min(int(np.ceil(x1)), shape[1]))
    along_y = _interpolation(rows, y0, y1, mask.shape[0])
    along_x = _interpolation(columns, x0, x1, mask.shape[1])
    return along_y @ mask @ along_x.T >= 0.5, (rows, columns)
