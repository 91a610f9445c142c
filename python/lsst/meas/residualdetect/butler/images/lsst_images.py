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

"""Coadds of lsst.images, in cells or in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...io.lsst_image import LsstImage, noise_box, require_lsst_images, unpack
from ...io.remarks import Remarks
from ...io.survey.star_psf import measure_psf
from ...mask_bits import has_bits
from ...psf_images import is_usable_psf
from ...scene import DEFAULT_BAD_PLANES, Array, Scene, SceneError

require_lsst_images("it")

from lsst.images import Box, Image, MaskedImage  # noqa: E402

__all__ = ["CellCoaddImages", "MaskedImages"]


def _scene(coadd: LsstImage, band: str, remarks: Remarks) -> Scene:
    """One band as a scene in the coordinates of the tract."""
    if coadd.band not in (None, band):
        raise SceneError(f"the coadd under band {band!r} says it is of {coadd.band!r}")
    where: dict[str, Any] = {}
    scale = coadd.pixel_scale_arcsec
    if scale is not None:
        where = {"pixel_scale_arcsec": scale, "sky_position": coadd.sky_position}
    if coadd.psf is not None:
        psf = coadd.psf.at(coadd.box.y.center, coadd.box.x.center)
        if not is_usable_psf(psf):
            raise SceneError(f"the coadd in band {band!r} has no valid PSF at its centre")
        where["psf_fields"] = (coadd.psf,)
    else:
        bits = [coadd.mask_planes[plane] for plane in DEFAULT_BAD_PLANES if plane in coadd.mask_planes]
        bad = has_bits(coadd.mask, bits) | ~np.isfinite(coadd.image)
        psf = measure_psf(coadd.image, bad, remarks, f"the coadd in band {band!r}")
    return Scene(
        images=coadd.image[np.newaxis],
        variance=coadd.variance[np.newaxis],
        psfs=np.asarray(psf, np.float32)[np.newaxis],
        bands=(band,),
        mask=coadd.mask[np.newaxis],
        origin=coadd.origin,
        mask_planes=coadd.mask_planes,
        **where,
    )


class MaskedImages:
    """`lsst.images.MaskedImage`, which has no PSF; see
    `~lsst.meas.residualdetect.butler.Images`.
    """

    def fetch(self, handle: Any) -> MaskedImage:
        """The whole image."""
        return handle.get()

    def read(self, coadd: MaskedImage, band: str, *, catalogue: Any = None, background: Any = None) -> Scene:
        """One band as a scene in the coordinates of the tract.

        Raises
        ------
        SceneError
            Raised with the band if there are too few stars to measure its PSF
            from.
        """
        remarks = Remarks()
        return _scene(unpack(coadd, remarks, f"the coadd in band {band!r}"), band, remarks)

    def picture(self, pixels: Array, scene: Scene, coadd: MaskedImage) -> MaskedImage:
        """The coadd with other pixels, cut out where the scene is."""
        box = Box.from_shape(scene.shape, start=scene.origin)
        image = Image(np.ascontiguousarray(pixels, np.float32), bbox=box, unit=coadd.unit)
        return MaskedImage(
            image.view(sky_projection=coadd.sky_projection),
            mask=coadd.mask[box],
            variance=coadd.variance[box],
        )


class CellCoaddImages(MaskedImages):
    """`lsst.images.cells.CellCoadd`, each source with the PSF of its cell."""

    def fetch(self, handle: Any) -> LsstImage:
        """Its parts, one after the other, and of the noise realizations the
        middle.
        """
        image = handle.get(component="masked_image")
        middle = handle.get(parameters={"bbox": noise_box(image.bbox)})
        return unpack(
            image,
            Remarks(),
            f"the coadd {handle.ref.dataId}",
            psf=handle.get(component="psf"),
            backgrounds=handle.get(component="backgrounds"),
            realizations=middle.noise_realizations,
            band=middle.band,
        )

    def read(self, coadd: Any, band: str, *, catalogue: Any = None, background: Any = None) -> Scene:
        """One band as a scene in the coordinates of the tract.

        A background that the coadd brings and that is not subtracted is here.

        Parameters
        ----------
        coadd : `LsstImage` or `lsst.images.cells.CellCoadd`
            What `fetch` gave, or a coadd.
        band, catalogue, background
            See `~lsst.meas.residualdetect.butler.Images`; the last two are not
            needed.

        Raises
        ------
        SceneError
            Raised with the band if it is another, or has no PSF.
        """
        remarks = Remarks()
        if not isinstance(coadd, LsstImage):
            coadd = unpack(
                coadd,
                remarks,
                f"the coadd in band {band!r}",
                psf=coadd.psf,
                backgrounds=coadd.backgrounds,
                realizations=coadd.noise_realizations,
                band=coadd.band,
            )
        return _scene(coadd, band, remarks)
