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


"""FITS files as surveys write them, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

SHAPE = (51, 61)
PIXEL_SCALE_ARCSEC = 0.168
SIGMA = 2.0

# Reference pixel x=30, y=25 counted from 0.
CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": 31.0,
    "CRPIX2": 26.0,
    "CD1_1": -PIXEL_SCALE_ARCSEC / 3600,
    "CD2_2": PIXEL_SCALE_ARCSEC / 3600,
}


def noise_image(shape=SHAPE, sigma=SIGMA, seed=3):
    """White noise: (y, x), float32."""
    return np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32)


def star(shape, y, x, flux, fwhm_pix):
    """A Gaussian at the pixels' centres: (y, x), float32."""
    sigma = fwhm_pix / np.sqrt(8 * np.log(2))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    r2 = (rows - y) ** 2 + (columns - x) ** 2
    return (flux * np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2)).astype(np.float32)


def write(path: Path, extensions, **cards) -> Path:
    """Images in named extensions; the cards go to the first, beside a WCS."""
    hdus = [fits.ImageHDU(pixels, name=name) for name, pixels in extensions.items()]
    hdus[0].header.update(CARDS | cards)
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path
