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

"""The significance of a point source at every pixel."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

from .boxes import nearest_pixel
from .scene import Array, Positions, Scene

__all__ = ["point_source_snr", "point_source_sums", "significance"]


def point_source_sums(image: Array, weights: Array, psf: Array) -> tuple[Array, Array]:
    """Sums from which a point source's best flux at each pixel follows.

    With ``d`` the data, ``w`` the inverse variance and ``p`` the PSF centred
    on a pixel, the sums are ``sum(w p d)`` and ``sum(w p^2)``; their ratio is
    the maximum-likelihood flux, and the first over the root of the second
    its signal-to-noise ratio (e.g. Bosch et al. 2018, PASJ 70, S5, sec. 4.7).

    Parameters
    ----------
    image, weights : `numpy.ndarray`, (y, x), float32
        Pixels and inverse variances; weight 0 leaves a pixel out.
    psf : `numpy.ndarray`, (h, w), float32
        PSF image, odd sides.

    Returns
    -------
    signal, norm : `numpy.ndarray`, (y, x), float32
        The two sums; ``norm`` is 0 where the PSF sees hardly any good pixel.
    """
    # Scaled to weights of order one: float32 FFTs then have the same relative
    # rounding whatever the flux unit.
    good = weights > 0
    if not good.any():
        return np.zeros_like(image), np.zeros_like(image)
    scale = np.float32(np.median(weights[good]))
    scaled = weights / scale
    reverse = psf[::-1, ::-1]
    signal = fftconvolve(image * scaled, reverse, mode="same") * scale
    norm = fftconvolve(scaled, reverse**2, mode="same")
    # A pixel that sees under a tenth of its PSF's weight says nothing.
    seen = norm > 0.1 * (psf**2).sum() * np.minimum(scaled, 1).max()
    return (
        np.where(seen, signal, 0).astype(np.float32),
        np.where(seen, norm * scale, 0).astype(np.float32),
    )


def significance(signal: Array, norm: Array) -> Array:
    """Signal-to-noise ratio from the two sums, 0 where ``norm`` is 0."""
    return np.divide(signal, np.sqrt(norm), out=np.zeros_like(signal), where=norm > 0)


def point_source_snr(images: Array, scene: Scene, y: Positions, x: Positions) -> Array:
    """Signal-to-noise ratio of point sources at given places, band by band.

    The same as `significance` of `point_source_sums` at the nearest pixels,
    worked out there alone.

    Parameters
    ----------
    images : `numpy.ndarray`, (band, y, x), float32
        Pixels, such as a residual.
    scene : `Scene`
        Gives noise, bad pixels and PSFs.
    y, x : `numpy.ndarray`, (n,)
        Patch coordinates.

    Returns
    -------
    snr : `numpy.ndarray`, (n, band), float32
        0 where the PSF sees no good pixel.
    """
    snr = np.zeros((len(y), len(scene.bands)), np.float32)
    pixels = nearest_pixel(np.stack([y, x], axis=1), scene.origin)
    height, width = scene.psfs.shape[1:]
    for place, (row, column) in enumerate(pixels.tolist()):
        top, left = row - height // 2, column - width // 2
        box = (slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0)))
        weights = scene.weights(box=box)
        psfs = scene.psfs[
            :,
            box[0].start - top : box[0].start - top + weights.shape[1],
            box[1].start - left : box[1].start - left + weights.shape[2],
        ]
        signal = (weights * psfs * images[:, *box]).sum(axis=(1, 2))
        norm = (weights * psfs**2).sum(axis=(1, 2))
        snr[place] = significance(signal, norm)
    return snr
