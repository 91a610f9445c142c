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


"""All bands of a scene in one image, for detectors that look at one."""

from __future__ import annotations

import math

import numpy as np

from ..scene import Array, Scene

__all__ = ["chi_image"]


def chi_image(scene: Scene) -> Array:
    """All bands in one image, in units of its noise.

    The root of the sum of squared significances (Szalay et al. 1999, AJ 117,
    68), less its mean and over its standard deviation where there is but
    noise: those of a chi distribution with a degree of freedom for each band
    that has data.

    Parameters
    ----------
    scene : `Scene`
        Coadds.

    Returns
    -------
    chi : `numpy.ndarray`, (y, x), float32
        0 where no band has data.
    """
    weights = scene.weights()
    n = (weights > 0).sum(axis=0)
    chi = np.sqrt((np.square(scene.images, dtype=np.float64) * weights).sum(axis=0))
    mean, sigma = np.zeros(len(scene.bands) + 1), np.ones(len(scene.bands) + 1)
    for k in range(1, len(mean)):
        mean[k] = math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
        sigma[k] = math.sqrt(k - mean[k] ** 2)
    image: Array = np.where(n > 0, (chi - mean[n]) / sigma[n], 0).astype(np.float32)
    return image
