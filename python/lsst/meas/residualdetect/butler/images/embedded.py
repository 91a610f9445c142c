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

from collections.abc import Sequence

import numpy as np

from ...scene import Scene, SceneError
from ...scene_model import pad_centered

__all__ = ["stack_bands"]


def stack_bands(coadds: Sequence[Scene]) -> Scene:
    """One scene from the coadds of its bands.

    PSF images of different sizes are padded with zeros to the largest.

    Parameters
    ----------
    coadds : `~collections.abc.Sequence` [`Scene`]
        Scenes of one band each, in the order that the result is to have.

    Raises
    ------
    SceneError
        Raised with the bands' names if two coadds do not share a pixel grid
        and mask planes.
    """
    first = coadds[0]
    for other in coadds[1:]:
        for what in ("shape", "origin", "pixel_scale_arcsec", "mask_planes"):
            ours, theirs = getattr(first, what), getattr(other, what)
            if ours != theirs:
                raise SceneError(
                    f"coadds of one patch differ in {what}: band {first.bands[0]!r} has {ours}, "
                    f"band {other.bands[0]!r} has {theirs}"
                )
    psf_shape = tuple(np.max([coadd.psfs.shape[1:] for coadd in coadds], axis=0))
    return Scene(
        images=np.concatenate([coadd.images for coadd in coadds]),
        variance=np.concatenate([coadd.variance for coadd in coadds]),
        psfs=np.stack([pad_centered(coadd.psfs[0], psf_shape) for coadd in coadds]),
        bands=tuple(coadd.bands[0] for coadd in coadds),
        mask=np.concatenate([coadd.mask for coadd in coadds]),
        name=first.name,
        origin=first.origin,
        pixel_scale_arcsec=first.pixel_scale_arcsec,
        mask_planes=first.mask_planes,
    )
