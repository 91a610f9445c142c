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

"""What realizations of a coadd's noise say of its variance, and of how the
noise of its pixels is correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .plausibility import pixel_noise
from .remarks import Remarks

__all__ = ["NOISE_SIDE_PIX", "NoiseOfRealizations", "noise_of_realizations"]

# Pixels a side that are enough to know the noise to a percent.
NOISE_SIDE_PIX = 512

# A sum over the pixels of a faint source: a Gaussian of this width.
_SIGMA_PIX = 1.6

# The variance may be off by as much, as a factor of the standard deviation,
# before something else is likely meant by it.
_AGREES = 1.3

# What is nearer to 1 is as good as 1.
_EXACT = 0.05


@dataclass(frozen=True)
class NoiseOfRealizations:
    """The noise of one band.

    Parameters
    ----------
    n_realizations : `int`
        How many there were.
    ratio : `float`
        Their standard deviation over what the variance says.
    correlation : `float`
        Correlation coefficient of neighbouring pixels, of rows and columns
        together.
    summed : `float`
        Standard deviation of a sum over pixels under a Gaussian of 1.6
        pixels, over what it would be if their noise were not correlated.
    of_pixels : `float`
        Noise of the coadd's own pixels over theirs; NaN if it is unknown.
    """

    n_realizations: int
    ratio: float
    correlation: float
    summed: float
    of_pixels: float = float("nan")

    @property
    def variance_factor(self) -> float:
        """What makes the variance right: that of the realizations where the
        coadd's own pixels are as noisy as they are; 1 if the variance is
        right, or the realizations are not the coadd's noise.
        """
        if 1 / _AGREES < self.of_pixels < _AGREES and abs(self.ratio - 1) > _EXACT:
            return self.ratio**2
        return 1.0

    def remark(self, remarks: Remarks, what: str) -> None:
        """Say it, and doubt a variance that is off.

        Raises
        ------
        SceneError
            Raised where doubts are errors.
        """
        if not np.isfinite(self.ratio):
            return
        remarks.note(
            f"{what}: {self.n_realizations} noise realizations scatter by {self.ratio:.3g} times what the "
            f"variance says; neighbouring pixels are correlated by {self.correlation:+.2f}, which makes sums "
            f"over a source {self.summed:.3g} times as noisy"
        )
        if self.variance_factor != 1:
            remarks.note(
                f"{what}: so do the coadd's own pixels; its variance is scaled by {self.ratio**2:.3g}"
            )
        if not 1 / _AGREES <= self.ratio <= _AGREES:
            remarks.doubt(
                f"{what}: noise realizations scatter by {self.ratio:.3g} times what the variance says; "
                "likely a variance that lacks a part of the noise, or of other pixels"
            )


def noise_of_realizations(
    realizations: Sequence[npt.NDArray[np.floating]],
    variance: npt.NDArray[np.floating],
    image: npt.NDArray[np.floating] | None = None,
) -> NoiseOfRealizations:
    """Hold noise realizations against the variance.

    Parameters
    ----------
    realizations : `~collections.abc.Sequence` [`numpy.ndarray`, (y, x)]
        Pixels that are noise alone; not finite where there are none.
    variance : `numpy.ndarray`, (y, x)
        Variance of the same pixels.
    image : `numpy.ndarray`, (y, x), optional
        The coadd's pixels, to hold against them.

    Returns
    -------
    noise : `NoiseOfRealizations`
        NaN where there are too few pixels.
    """
    usable = np.isfinite(variance) & (variance > 0)
    squares, products, sums = [], [], []
    for realization in realizations:
        good = usable & np.isfinite(realization)
        scaled = np.divide(realization, np.sqrt(variance), out=np.zeros(variance.shape), where=good)
        squares.append(scaled[good] ** 2)
        for one, other, both in (
            (scaled[1:], scaled[:-1], good[1:] & good[:-1]),
            (scaled[:, 1:], scaled[:, :-1], good[:, 1:] & good[:, :-1]),
        ):
            products.append((one * other)[both])
        inside = ndimage.minimum_filter(good, 2 * int(4 * _SIGMA_PIX) + 1, mode="constant")
        sums.append(ndimage.gaussian_filter(scaled, _SIGMA_PIX, mode="constant")[inside] ** 2)
    mean_square, product, summed = (
        float(np.mean(values)) if values.size else float("nan")
        for values in map(np.concatenate, (squares, products, sums))
    )
    if not mean_square > 0:
        return NoiseOfRealizations(len(realizations), float("nan"), float("nan"), float("nan"))
    # Of white noise the sum has the root of the sum of the squared weights.
    white = mean_square / (4 * np.pi * _SIGMA_PIX**2)
    of_pixels = float("nan")
    if image is not None:
        good = usable & np.isfinite(image) & np.isfinite(realizations[0])
        theirs = pixel_noise(realizations[0], good)
        of_pixels = pixel_noise(image, good) / theirs if theirs > 0 else of_pixels
    return NoiseOfRealizations(
        len(realizations), np.sqrt(mean_square), product / mean_square, np.sqrt(summed / white), of_pixels
    )
