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


"""Colour pictures of multi-band pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib.image
import numpy as np
import numpy.typing as npt
from astropy.visualization import make_lupton_rgb
from scipy.ndimage import gaussian_filter

from ..io.band_names import CANONICAL_NAMES, wavelength_order
from ..scene import Array, Scene

__all__ = [
    "colour_picture",
    "jpeg_base64",
    "png_data_uri",
    "residual_picture",
    "rgb_weights",
    "smoothed_significance",
    "white_balance",
]

Picture = npt.NDArray[np.uint8]

# The noise is just visible, and hundreds of sigma are not yet white.
LUPTON_STRETCH_SIGMA = 4.0
LUPTON_Q = 8.0

# Mean significance from which a pixel's colour counts for the white balance.
BRIGHT_SIGMA = 3.0


def rgb_weights(bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """How the bands are mixed to red, green and blue.

    Parameters
    ----------
    bands : `~collections.abc.Sequence` [`str`]
        Band names. Those of LSST are put in order of wavelength, others are
        taken to be.

    Returns
    -------
    weights : `numpy.ndarray`, (3, band), float32
        Rows for red, green and blue: the reddest, middle and bluest band, of
        g to z where there are five bands or more; of two bands green is the
        mean; one band is grey.
    """
    order = list(range(len(bands)))
    if set(bands) <= set(CANONICAL_NAMES):
        order.sort(key=lambda index: wavelength_order(bands[index]))
        if len(bands) >= 5:  # u and y are the noisiest
            order = [index for index in order if bands[index] not in "uy"]
    weights = np.zeros((3, len(bands)), dtype=np.float32)
    weights[0, order[-1]] = weights[2, order[0]] = 1.0
    if len(order) == 2:
        weights[1, order] = 0.5
    else:
        weights[1, order[len(order) // 2]] = 1.0
    return weights


def colour_picture(images: Array, gains: Array, bands: Sequence[str]) -> Picture:
    """A picture of fluxes.

    The stretch is that of Lupton et al. (2004, PASP 116, 133): an arcsinh of
    the mean intensity that keeps colours.

    Parameters
    ----------
    images : `numpy.ndarray`, (band, y, x)
        Pixels.
    gains : `numpy.ndarray`, (band,)
        Factor of each band, such that the noise is about 1.
    bands : `~collections.abc.Sequence` [`str`]
        Band names.

    Returns
    -------
    picture : `numpy.ndarray`, (y, x, 3), uint8
        Red, green, blue; rows as in ``images``.
    """
    mixed = np.tensordot(rgb_weights(bands), images * gains[:, None, None], axes=1)
    # Pixels that are zero in all bands are divided by zero before astropy
    # sets them black.
    with np.errstate(invalid="ignore", divide="ignore"):
        picture: Picture = make_lupton_rgb(*mixed, minimum=0, stretch=LUPTON_STRETCH_SIGMA, Q=LUPTON_Q)
    return picture


def residual_picture(significance: Array, bands: Sequence[str], limit: float) -> Picture:
    """A picture of residuals: grey is zero, brighter is positive, and the
    colour shows where the bands disagree.

    Parameters
    ----------
    significance : `numpy.ndarray`, (band, y, x)
        Residual over noise.
    bands : `~collections.abc.Sequence` [`str`]
        Band names.
    limit : `float`
        Significance at which a channel is black (negative) or full.

    Returns
    -------
    picture : `numpy.ndarray`, (y, x, 3), uint8
        Red, green, blue; rows as in ``significance``.
    """
    mixed = np.tensordot(rgb_weights(bands), significance, axes=1)
    scaled = 0.5 + 0.5 * np.clip(mixed / limit, -1.0, 1.0)
    return np.moveaxis(np.round(255.0 * scaled), 0, -1).astype(np.uint8)


def _encoded(picture: Picture, kind: str, **settings: Any) -> str:
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer, np.ascontiguousarray(picture[::-1]), format=kind, pil_kwargs={"optimize": True, **settings}
    )
    return base64.b64encode(buffer.getvalue()).decode()


def png_data_uri(picture: Picture) -> str:
    """A picture as a PNG in a ``data:`` URI, first row at the bottom."""
    return "data:image/png;base64," + _encoded(picture, "png")


def jpeg_base64(picture: Picture) -> str:
    """A picture as a JPEG in base64, first row at the bottom: for eyes, at a
    third of a PNG's size where the noise is seen.
    """
    # Colours in full resolution: in residuals they are what tells.
    return _encoded(picture, "jpeg", quality=85, subsampling=0)


def white_balance(scene: Scene) -> Array:
    """Factors of the bands in which a scene's typical source is white and
    the noise, averaged over bands, is 1.

    Parameters
    ----------
    scene : `Scene`
        The pixels.

    Returns
    -------
    gains : `numpy.ndarray`, (band,), float32
        From the median colour of bright pixels; the inverse of the noise if
        there are none.
    """
    sigma = np.ones(len(scene.bands), dtype=np.float32)
    for band, variance in enumerate(scene.variance):
        finite = variance[np.isfinite(variance)]
        if finite.size:
            sigma[band] = np.sqrt(np.median(finite))
    bright = (scene.images / sigma[:, None, None]).mean(axis=0) > BRIGHT_SIGMA
    if bright.any():
        pixels = scene.images[:, bright]
        spectrum = np.median(pixels / pixels.sum(axis=0), axis=1)
        if (spectrum > 0).all():
            gains: Array = 1.0 / spectrum
            return gains / (gains * sigma).mean()
    return 1.0 / sigma


def smoothed_significance(scene: Scene, model: Array, smoothing_pix: float) -> Array:
    """Residual over noise, smoothed so that the eye finds faint sources.

    Parameters
    ----------
    scene : `Scene`
        The pixels.
    model : `numpy.ndarray`, (band, y, x)
        Their model.
    smoothing_pix : `float`
        Standard deviation of the Gaussian.

    Returns
    -------
    significance : `numpy.ndarray`, (band, y, x), float32
        In units of the smoothed noise.
    """
    white = (scene.images - model) / np.sqrt(scene.variance)
    smooth = gaussian_filter(white, smoothing_pix, axes=(1, 2))
    # White noise keeps sqrt(sum(kernel^2)) of its standard deviation.
    return (smooth * (2.0 * np.sqrt(np.pi) * smoothing_pix)).astype(np.float32)
