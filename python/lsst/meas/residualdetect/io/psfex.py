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


"""PSF models of PSFEx (Bertin 2011, ASPC 442, 435)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .fits_common import FitsError

__all__ = ["is_psfex", "psfex_image"]

_LANCZOS_ORDER = 4
_PIXEL_NAMES = (("X_IMAGE", "Y_IMAGE"), ("XWIN_IMAGE", "YWIN_IMAGE"), ("XPSF_IMAGE", "YPSF_IMAGE"))


def is_psfex(hdu: Any) -> bool:
    """Whether an extension is a PSF model of PSFEx."""
    return "POLNAXIS" in hdu.header and "PSFAXIS1" in hdu.header


def _lanczos(offset: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    kernel = np.sinc(offset) * np.sinc(offset / _LANCZOS_ORDER)
    return np.where(np.abs(offset) < _LANCZOS_ORDER, kernel, 0)


def psfex_image(hdu: Any, y: float, x: float, what: str) -> npt.NDArray[np.float64]:
    """The PSF at a place, sampled at the image's pixels.

    The components are summed with the powers of the place as weights, x
    before y, up to a total degree, and interpolated by Lanczos's kernel, as
    SExtractor and GalSim do. They hold the pixel's own response.

    Parameters
    ----------
    hdu : `astropy.io.fits.BinTableHDU`
        The table of a ``.psf`` file.
    y, x : `float`
        Pixel from 0; the file counts from 1.
    what : `str`
        The file, for messages.

    Returns
    -------
    psf : `numpy.ndarray`, (h, w), float64
        Odd sides, centred, unit sum.

    Raises
    ------
    FitsError
        Raised if the PSF depends on something else than the place in the
        image, or the table is not as its cards say.
    """
    header = hdu.header
    components = np.asarray(hdu.data["PSF_MASK"][0], np.float64)
    components = components.reshape(-1, *components.shape[-2:])
    weights = np.ones(1)
    if header["POLNAXIS"]:
        names = tuple(str(header.get(f"POLNAME{axis + 1}", "")).strip() for axis in range(header["POLNAXIS"]))
        if names not in _PIXEL_NAMES or header.get("POLNGRP", 1) != 1:
            raise FitsError(f"{what}: this PSF depends on {', '.join(names)}; expected X_IMAGE, Y_IMAGE")
        degree = int(header["POLDEG1"])
        column, row = (
            (place + 1 - float(header[f"POLZERO{axis}"])) / float(header[f"POLSCAL{axis}"])
            for axis, place in ((1, x), (2, y))
        )
        weights = np.array([column**p * row**q for q in range(degree + 1) for p in range(degree + 1 - q)])
    if len(weights) != len(components):
        raise FitsError(f"{what}: a PSF of {len(components)} components; its cards say {len(weights)}")
    model = np.tensordot(weights, components, 1)

    # In its own pixels, counted from its centre, the image's are a step of
    # 1 / PSF_SAMP apart.
    step = 1 / float(header.get("PSF_SAMP", 1))
    kernels = []
    for size in model.shape:
        half = int((size // 2) / step)
        wanted = step * np.arange(-half, half + 1)
        kernels.append(_lanczos(wanted[:, None] - (np.arange(size) - size // 2)[None, :]))
    psf = kernels[0] @ model @ kernels[1].T
    return psf / psf.sum()
