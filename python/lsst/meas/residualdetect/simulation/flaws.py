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
from functools import partial

import numpy as np
from scipy import ndimage

from ..psf_field import ChangedPsf
from ..scene import Array, Scene

__all__ = ["mask_pixels", "with_wrong_psfs"]


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
    wrong = partial(_distorted, matrix=matrix, offset=offset)
    fields = tuple(field and ChangedPsf(field, wrong) for field in scene.psf_fields)
    return replace(scene, psfs=np.stack([wrong(psf) for psf in scene.psfs]), psf_fields=fields)
