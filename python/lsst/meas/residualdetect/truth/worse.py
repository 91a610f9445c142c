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


"""The same sky seen worse: in poorer seeing, and less deep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import ndimage

from ..psf_field import ChangedPsf
from ..scene import Scene

__all__ = ["make_worse"]


def make_worse(
    scene: Scene, blur_pix: float | Sequence[float], variance_factor: float, rng: np.random.Generator
) -> Scene:
    """The same sky in worse seeing and less deep.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    blur_pix : `float` or `~collections.abc.Sequence` [`float`]
        Standard deviation of the Gaussian that the images are convolved
        with, in pixels, of all bands or of each; 0 leaves them as sharp as
        they are.
    variance_factor : `float`
        Variance wanted, over the present one; at least 1. White noise is
        added, more after a convolution, which takes noise away.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scene : `Scene`
        The worse one. Pixels without data stay without, and give nothing to
        those around them.

    Raises
    ------
    ValueError
        Raised if it would not be worse.
    """
    blurs = np.broadcast_to(np.asarray(blur_pix, float), len(scene.bands))
    if not variance_factor >= 1 or not (blurs >= 0).all():
        raise ValueError(
            f"variance factor is {variance_factor} and blur {blur_pix} pixels; expected 1 and 0 at least"
        )
    images, psfs = scene.images.copy(), scene.psfs.copy()
    usable = np.isfinite(scene.variance)
    wanted = np.where(usable, scene.variance, 0) * float(variance_factor)
    left = np.where(usable, scene.variance, 0)
    fields = list(scene.psf_fields)
    for band, blur in enumerate(blurs):
        if not blur:
            continue
        blurred = partial(ndimage.gaussian_filter, sigma=blur, mode="constant")
        psfs[band] = blurred(psfs[band])
        if fields and (field := fields[band]) is not None:
            fields[band] = ChangedPsf(field, blurred)
        good = usable[band].astype(np.float64)
        seen = np.maximum(ndimage.gaussian_filter(good, blur, mode="nearest"), 1e-6)
        images[band] = ndimage.gaussian_filter(images[band] * good, blur, mode="nearest") / seen
        unit = np.zeros((int(8 * blur) * 2 + 3,) * 2)
        unit[len(unit) // 2, len(unit) // 2] = 1
        # What is left of noise that differs from pixel to pixel.
        kernel = np.square(ndimage.gaussian_filter(unit, blur))
        left[band] = ndimage.gaussian_filter(left[band], blur / np.sqrt(2), mode="nearest") * kernel.sum()
    noise = np.sqrt(np.maximum(wanted - left, 0)) * rng.standard_normal(images.shape)
    return replace(
        scene,
        images=np.where(usable, images + noise, np.nan).astype(np.float32),
        variance=scene.variance * np.float32(variance_factor),
        psfs=psfs,
        psf_fields=tuple(fields),
    )
