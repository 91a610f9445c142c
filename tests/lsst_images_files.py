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

"""Coadds made with lsst.images, as its own writer writes them."""

from __future__ import annotations

import astropy.units as u
import astropy.wcs
import numpy as np
from lsst.images import (
    YX,
    Box,
    Image,
    Mask,
    MaskedImage,
    MaskPlane,
    MaskSchema,
    SkyProjection,
    TractFrame,
)
from lsst.images.cells import CellCoadd, CellGrid, CellGridBounds, CellIJ, CellPointSpreadFunction

from lsst.meas.residualdetect.psf_images import gaussian_psf

ORIGIN = (1000, 2000)
CELL = 60
N_CELLS = (3, 4)
SHAPE = (CELL * N_CELLS[0], CELL * N_CELLS[1])
BANDS = ("g", "r", "i")
SIGMAS = {"g": 2.0, "r": 1.8, "i": 1.7}
NOISE = 10.0
SCALE_ARCSEC = 0.2
STAMP = 25
# In its cells the PSF is wider from left to right by as much in all.
GROWTH = 0.2

# Positions of pixels, and fluxes in nJy; the last is beside the third.
SOURCES = (
    (1030.0, 2040.0, 4000.0),
    (1031.5, 2101.0, 9000.0),
    (1090.2, 2060.3, 6000.0),
    (1151.0, 2190.4, 8000.0),
    (1100.4, 2217.7, 5000.0),
)
# Planes of a coadd, more than 32 with what a camera may add.
PLANES = ("NO_DATA", "INTERPOLATED", "COSMIC_RAY", "SATURATED", "DETECTION_EDGE", "CLIPPED", "REJECTED")
MANY_PLANES = (*PLANES, *(f"CAMERA_{k}" for k in range(35)))


def box() -> Box:
    """Of the whole coadd."""
    return Box.from_shape(SHAPE, start=YX(*ORIGIN))


def wcs() -> astropy.wcs.WCS:
    """Of the whole coadd as an array."""
    found = astropy.wcs.WCS(naxis=2)
    found.wcs.ctype = "RA---TAN", "DEC--TAN"
    found.wcs.crval = 150.1, 2.2
    found.wcs.crpix = 60.0, 80.0
    found.wcs.cdelt = -SCALE_ARCSEC / 3600, SCALE_ARCSEC / 3600
    return found


def projection() -> SkyProjection:
    """Of the tract."""
    frame = TractFrame(skymap="made", tract=3, bbox=box())
    return SkyProjection.from_fits_wcs(wcs(), frame, pixel_bounds=box(), x0=ORIGIN[1], y0=ORIGIN[0])


def cell_sigma(band: str, column: int) -> float:
    """Width of the PSF in a column of cells, in pixels."""
    return SIGMAS[band] * (1 + GROWTH * column / (N_CELLS[1] - 1))


def cell_psf(band: str, missing: tuple[tuple[int, int], ...] = ()) -> CellPointSpreadFunction:
    """A PSF for each cell."""
    grid = CellGrid(bbox=box(), cell_shape=YX(CELL, CELL))
    images = np.stack(
        [
            [gaussian_psf(cell_sigma(band, j), (STAMP, STAMP)) for j in range(N_CELLS[1])]
            for _ in range(N_CELLS[0])
        ]
    )
    for cell in missing:
        images[cell] = np.nan
    bounds = CellGridBounds(grid=grid, bbox=box(), missing=frozenset(CellIJ(i=i, j=j) for i, j in missing))
    return CellPointSpreadFunction(images, bounds)


def pixels(band: str, sources=SOURCES, noise: float = NOISE, seed: int = 1) -> np.ndarray:
    """Stars seen with the PSF of their cell, in noise."""
    rng = np.random.default_rng([seed, ord(band)])
    image = noise * rng.standard_normal(SHAPE)
    y, x = np.ogrid[ORIGIN[0] : ORIGIN[0] + SHAPE[0], ORIGIN[1] : ORIGIN[1] + SHAPE[1]]
    for sy, sx, flux in sources:
        sigma = cell_sigma(band, int(round(sx) - ORIGIN[1]) // CELL)
        image += flux * np.exp(-0.5 * ((y - sy) ** 2 + (x - sx) ** 2) / sigma**2) / (2 * np.pi * sigma**2)
    return image.astype(np.float32)


def make_mask(planes=PLANES, marked: dict[str, tuple[int, int]] | None = None) -> Mask:
    """A mask in which a plane is set at a pixel (array indices)."""
    schema = MaskSchema([MaskPlane(name, "made") for name in planes])
    mask = Mask(schema=schema, bbox=box())
    for name, place in (marked or {}).items():
        where = np.zeros(SHAPE, bool)
        where[place] = True
        mask.set(name, where)
    return mask


def make_cell_coadd(
    band: str,
    *,
    planes=PLANES,
    marked=None,
    missing=(),
    n_realizations: int = 0,
    realization_sigma: float = NOISE,
    variance: float = NOISE**2,
    image: np.ndarray | None = None,
    unit=u.nJy,
) -> CellCoadd:
    """A coadd in cells."""
    image = pixels(band) if image is None else image
    rng = np.random.default_rng([5, ord(band)])
    noise = [
        Image((realization_sigma * rng.standard_normal(SHAPE)).astype(np.float32), bbox=box())
        for _ in range(n_realizations)
    ]
    return CellCoadd(
        Image(image, bbox=box(), unit=unit),
        mask=make_mask(planes, marked),
        variance=Image(np.full(SHAPE, variance, np.float32), bbox=box(), unit=unit**2),
        noise_realizations=noise,
        sky_projection=projection(),
        band=band,
        psf=cell_psf(band, missing),
    )


def make_masked_image(band: str) -> MaskedImage:
    """The same in one piece, and without a PSF."""
    coadd = make_cell_coadd(band)
    return MaskedImage(coadd.image, mask=coadd.mask, variance=coadd.variance)
