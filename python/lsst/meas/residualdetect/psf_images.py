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

"""Images of PSFs: their shape, and what takes one to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = [
    "difference_kernels",
    "gaussian_psf",
    "is_usable_psf",
    "psf_fault",
    "to_centered_shape",
]

Array = npt.NDArray[np.float32]


def gaussian_psf(sigma_pix: float, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A round Gaussian sampled at pixel centres, unit sum, centred on an odd
    ``shape``: (h, w), float64.
    """
    y, x = (np.arange(size) - size // 2 for size in shape)
    psf = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / sigma_pix**2)
    return psf / psf.sum()


def is_usable_psf(psf: npt.NDArray[np.floating]) -> bool:
    """Whether something can be convolved with an image: finite, of positive
    sum.
    """
    return bool(np.isfinite(psf).all() and psf.sum() > 0)


def to_centered_shape(images: npt.NDArray[np.floating], shape: tuple[int, int]) -> npt.NDArray[np.floating]:
    """Images (..., h, w) of odd sides cut off or filled up with zeros to
    others, their centre still in the middle.
    """
    margins = [(size - own) // 2 for size, own in zip(shape, images.shape[-2:], strict=True)]
    rows, columns = (slice(-min(margin, 0), min(margin, 0) or None) for margin in margins)
    more = [(max(margin, 0),) * 2 for margin in margins]
    return np.pad(images[..., rows, columns], [(0, 0)] * (images.ndim - 2) + more)


def psf_fault(psfs: npt.NDArray[np.floating], bands: Sequence[str]) -> str:
    """Why no model can be convolved with PSF images; empty if one can.

    Parameters
    ----------
    psfs : `numpy.ndarray`, (band, h, w)
        PSF images.
    bands : `~collections.abc.Sequence` [`str`]
        Band names, for the message.

    Returns
    -------
    fault : `str`
        That a side is even, a pixel is not finite, or the sum is not
        positive.
    """
    height, width = psfs.shape[1:]
    if height % 2 == 0 or width % 2 == 0:
        return (
            f"PSF images are {height} x {width} pixels (bands {', '.join(bands)}); "
            "both sides must be odd, so that the centre is a pixel"
        )
    for band, psf in zip(bands, psfs, strict=True):
        if not np.isfinite(psf).all():
            return f"PSF in band {band!r} has pixels that are not finite"
        if not psf.sum() > 0:
            return f"PSF in band {band!r} sums to {psf.sum():g}; it must be positive"
    return ""


def difference_kernels(psfs: npt.NDArray[np.floating], model_psf: npt.NDArray[np.floating]) -> Array:
    """Kernels that take the model PSF to the PSF of each band.

    The ratio of Fourier transforms, as in lsst.scarlet.lite's
    ``match_kernel``; it exists because the model PSF is narrower than any
    observed one.

    Parameters
    ----------
    psfs : `numpy.ndarray`, (band, h, w)
        PSF images with odd sides.
    model_psf : `numpy.ndarray`, (h, w)
        Model PSF image with odd sides.

    Returns
    -------
    kernels : `numpy.ndarray`, (band, h, w), float32
        Centred kernels; each sums to its PSF's sum, and is zero where that
        is.
    """
    height, width = psfs.shape[1:]
    pad = 3
    shape = (max(height, model_psf.shape[0]) + 2 * pad, max(width, model_psf.shape[1]) + 2 * pad)
    padded = to_centered_shape(np.asarray(psfs, np.float64), shape)
    model = to_centered_shape(np.asarray(model_psf, np.float64), shape)
    ratio = fft.rfft2(fft.ifftshift(padded, axes=(1, 2))) / fft.rfft2(fft.ifftshift(model))
    kernels = fft.fftshift(fft.irfft2(ratio, s=shape), axes=(1, 2))
    kernels = to_centered_shape(kernels, (height, width))
    total = kernels.sum(axis=(1, 2), keepdims=True)
    kernels *= np.divide(
        padded.sum(axis=(1, 2), keepdims=True), total, out=np.zeros_like(total), where=total != 0
    )
    return kernels.astype(np.float32)
