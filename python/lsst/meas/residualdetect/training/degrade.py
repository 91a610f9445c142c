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

"""Flaws of real coadds: masked pixels and wrong PSFs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..scene import Array, Scene

__all__ = ["make_worse", "mask_pixels", "with_wrong_psfs"]


def mask_pixels(scene: Scene, rng: np.random.Generator) -> Scene:
    """Mask columns, rows and blots, some in one band and some in all.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scene : `Scene`
        The same with further pixels marked ``BAD``, or without data.
    """
    mask = scene.mask.copy()
    images = scene.images.copy()
    height, width = scene.shape
    for _ in range(rng.integers(1, 5)):
        rows, columns = slice(0, height), slice(0, width)
        kind = rng.choice(("column", "row", "blot"))
        if kind != "row":
            first = int(rng.integers(width))
            columns = slice(first, first + int(rng.integers(1, 5 if kind == "column" else 25)))
        if kind != "column":
            first = int(rng.integers(height))
            rows = slice(first, first + int(rng.integers(1, 5 if kind == "row" else 25)))
        bands = slice(None) if rng.random() < 0.3 else rng.integers(len(scene.bands))
        if rng.random() < 0.5:
            mask[bands, rows, columns] |= 1 << scene.mask_planes["BAD"]
        else:
            images[bands, rows, columns] = np.nan
    return replace(scene, images=images, mask=mask)


def _distorted(psf: Array, matrix: np.ndarray, offset: np.ndarray) -> Array:
    centre = (np.array(psf.shape) - 1) / 2
    start = centre - matrix @ (centre + offset)
    return np.clip(ndimage.affine_transform(psf, matrix, start, order=3), 0, None)


def with_wrong_psfs(
    scene: Scene,
    size_error: float,
    shear_error: tuple[float, float],
    offset_pix: tuple[float, float] = (0.0, 0.0),
) -> Scene:
    """The same pixels with PSFs that are not those of the pixels.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    size_error : `float`
        Relative error of the PSFs' size.
    shear_error : `tuple` [`float`, `float`]
        Error of the two components of their shear.
    offset_pix : `tuple` [`float`, `float`], optional
        How far, in y and x, they are off the centre.

    Returns
    -------
    scene : `Scene`
        Scene whose PSFs are too large by that, sheared, and off the centre.
    """
    if not size_error and not any(shear_error) and not any(offset_pix):
        return scene
    g1, g2 = shear_error
    # From (y, x) of the new image to those of the old.
    matrix = np.array([[1 + g1, -g2], [-g2, 1 - g1]]) / (1 + size_error)
    offset = np.array(offset_pix)
    return replace(scene, psfs=np.stack([_distorted(psf, matrix, offset) for psf in scene.psfs]))


def make_worse(scene: Scene, blur_pix: float, variance_factor: float, rng: np.random.Generator) -> Scene:
    """The same sky in worse seeing and less deep.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    blur_pix : `float`
        Standard deviation of the Gaussian that the images are convolved
        with, in pixels; 0 leaves them as sharp as they are.
    variance_factor : `float`
        Variance wanted, over the present one; at least 1. White noise is
        added, more after a convolution, which takes noise away.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scene : `Scene`
        The worse one.
    """
    if not variance_factor >= 1 or blur_pix < 0:
        raise ValueError(
            f"variance factor is {variance_factor} and blur {blur_pix} pixels; expected 1 and 0 at least"
        )
    images, psfs, left = scene.images, scene.psfs, 1.0
    if blur_pix:
        images = np.stack([ndimage.gaussian_filter(image, blur_pix, mode="nearest") for image in images])
        psfs = np.stack([ndimage.gaussian_filter(psf, blur_pix, mode="constant") for psf in psfs])
        unit = np.zeros((int(8 * blur_pix) * 2 + 3,) * 2)
        unit[len(unit) // 2, len(unit) // 2] = 1
        left = float(np.square(ndimage.gaussian_filter(unit, blur_pix)).sum())
    usable = np.isfinite(scene.variance)
    variance = np.where(usable, scene.variance, 0)
    noise = np.sqrt(variance * (variance_factor - left)) * rng.standard_normal(images.shape)
    return replace(
        scene,
        images=(images + noise).astype(np.float32),
        variance=scene.variance * np.float32(variance_factor),
        psfs=psfs,
    )
