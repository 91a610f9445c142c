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


"""Coadds of single bands to one scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...mask_bits import PlaneNumbers, has_bits
from ...psf_field import PsfField
from ...psf_images import to_centered_shape
from ...scene import Array, Scene, SceneError

__all__ = ["stack_bands"]


def _check_grid(first: Scene, other: Scene) -> None:
    for what, tolerance in (("shape", 0), ("origin", 0), ("pixel_scale_arcsec", 1e-4)):
        ours, theirs = getattr(first, what), getattr(other, what)
        if not np.allclose(ours, theirs, rtol=tolerance, atol=0):
            raise SceneError(
                f"coadds of one patch differ in {what}: band {first.bands[0]!r} has {ours}, "
                f"band {other.bands[0]!r} has {theirs}"
            )


def _put(cube: npt.NDArray[Any], index: int, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The cube, of a wider type where a plane needs it, with the plane in it."""
    cube = cube.astype(np.result_type(cube, plane), copy=False)
    cube[index] = plane
    return cube


def stack_bands(coadds: Iterable[Scene], n_bands: int) -> Scene:
    """One scene from the coadds of its bands.

    PSF images of different sizes are padded with zeros to the largest; mask
    planes are told by their names, so that bands may number them differently.

    Parameters
    ----------
    coadds : `~collections.abc.Iterable` [`Scene`]
        Scenes of one band each, in the order that the result is to have;
        taken one after the other, so that only one need be in memory.
    n_bands : `int`
        How many there are.

    Raises
    ------
    SceneError
        Raised with the bands' names if two coadds do not share a pixel grid.
    ValueError
        Raised if they have more mask planes than bits.
    """
    one_by_one = iter(coadds)
    first = next(one_by_one, None)
    if first is None:
        raise SceneError("there is no coadd")
    shape = (n_bands, *first.shape)
    images, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    planes = PlaneNumbers(shape, first.mask_planes)
    bands: list[str] = []
    psfs: list[Array] = []
    fields: list[PsfField | None] = []
    for index, coadd in enumerate(chain([first], one_by_one)):
        _check_grid(first, coadd)
        images = _put(images, index, coadd.images[0])
        variance = _put(variance, index, coadd.variance[0])
        mask = coadd.mask[0]
        if dict(coadd.mask_planes) == planes.names:
            planes.put(index, mask)
        else:
            own = ((name, has_bits(mask, [bit])) for name, bit in coadd.mask_planes.items())
            planes.add(index, own, f"band {coadd.bands[0]!r}")
        bands.append(coadd.bands[0])
        psfs.append(coadd.psfs[0])
        fields.extend(coadd.psf_fields or (None,))
    psf_shape = tuple(np.max([psf.shape for psf in psfs], axis=0))
    return replace(
        first,
        images=images,
        variance=variance,
        psfs=np.stack([to_centered_shape(psf, psf_shape) for psf in psfs]),
        bands=tuple(bands),
        mask=planes.mask,
        mask_planes=planes.names,
        psf_fields=tuple(fields),
    )
