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

"""The files that doc/files.md is shown with: one sky as four surveys keep it.

    python doc/make_survey_files.py FOLDER

There are 16 stars, 8 of them with a companion that known.ecsv lacks; truth.ecsv
has all. Each kind has a folder: plain, hsc, legacy and, where lsst.images is
installed, cells.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

SHAPE = (256, 256)
FWHM_PIX = 4.5
NOISE_NJY = 1.0
NJY_PER_NANOMAGGY = 3630.78
FLUXMAG0 = 63095734448.0194  # of magnitude zero, as Hyper Suprime-Cam has it: zero point 27
NJY_PER_HSC_COUNT = 3630.78e9 / FLUXMAG0
COLOURS = {"g": 0.7, "r": 1.0, "i": 1.2, "z": 1.3}


def wcs(scale_arcsec: float) -> WCS:
    """Pixels of that size, the middle one at (150, 2) degrees."""
    found = WCS(naxis=2)
    found.wcs.ctype = "RA---TAN", "DEC--TAN"
    found.wcs.crval, found.wcs.crpix = (150.0, 2.0), (SHAPE[1] / 2 + 1, SHAPE[0] / 2 + 1)
    found.wcs.cdelt = -scale_arcsec / 3600, scale_arcsec / 3600
    return found


def sources(scale_arcsec: float) -> Table:
    """Where they are, and their fluxes in r; what is hidden stands last."""
    rng = np.random.default_rng(7)
    grid = np.array([(y, x) for y in range(32, 256, 64) for x in range(32, 256, 64)], float)
    known = grid + rng.uniform(-4, 4, grid.shape)
    angles, distances = rng.uniform(0, 2 * np.pi, 8), rng.uniform(6, 8, 8)
    hidden = known[::2] + distances[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    y, x = np.concatenate([known, hidden]).T
    flux = np.concatenate([rng.uniform(1500, 4000, 16), rng.uniform(400, 900, 8)])
    ra, dec = wcs(scale_arcsec).pixel_to_world_values(x, y)
    names = [f"K{number}" for number in range(16)] + [f"H{number}" for number in range(8)]
    return Table({"name": names, "id": names, "ra": ra, "dec": dec, "y": y, "x": x, "flux": flux})


def profile(shape: tuple[int, int], y: float, x: float, beta: float | None) -> np.ndarray:
    """A star of unit flux, a Gaussian if it has no beta of a Moffat profile."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    r2 = ((rows - y) ** 2 + (columns - x) ** 2) / FWHM_PIX**2
    if beta is None:
        return 4 * np.log(2) / np.pi / FWHM_PIX**2 * np.exp(-4 * np.log(2) * r2)
    width = 4 * (2 ** (1 / beta) - 1)
    return width * (beta - 1) / np.pi / FWHM_PIX**2 * (1 + width * r2) ** -beta


def image(table: Table, band: str, beta: float | None = None) -> np.ndarray:
    """The sky in a band, in nJy, its colours changing from star to star."""
    rng = np.random.default_rng([11, ord(band)])
    pixels = NOISE_NJY * rng.standard_normal(SHAPE)
    for y, x, flux in table.iterrows("y", "x", "flux"):
        pixels += flux * COLOURS[band] ** rng.uniform(0.5, 1.5) * profile(SHAPE, y, x, beta)
    return pixels.astype(np.float32)


def write_plain(folder: Path) -> None:
    """Image and variance in nJy; nothing about the PSF."""
    table = catalogues(folder, 0.168)
    for band in "gri":
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(image(table, band), wcs(0.168).to_header(), name="SCI")]
        hdus += [fits.ImageHDU(np.full(SHAPE, NOISE_NJY**2, np.float32), name="VARIANCE")]
        hdus[1].header["BUNIT"] = "nJy"
        fits.HDUList(hdus).writeto(folder / f"{band}.fits", overwrite=True)


def write_hsc(folder: Path) -> None:
    """Image, mask and variance in one file, in counts; the PSF in another."""
    table = catalogues(folder, 0.168)
    for band in "gri":
        name = f"HSC-{band.upper()}"
        pixels = image(table, band) / NJY_PER_HSC_COUNT
        variance = np.full(SHAPE, (NOISE_NJY / NJY_PER_HSC_COUNT) ** 2, np.float32)
        mask = fits.ImageHDU(np.zeros(SHAPE, np.int32), name="MASK")
        mask.header.update({"MP_SAT": 1, "HIERARCH MP_NO_DATA": 8})
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels.astype(np.float32), wcs(0.168).to_header())]
        hdus += [mask, fits.ImageHDU(variance, name="VARIANCE")]
        hdus[0].header.update({"FILTER": name, "FLUXMAG0": FLUXMAG0})
        hdus[1].header["EXTTYPE"] = "IMAGE"
        fits.HDUList(hdus).writeto(folder / f"cutout-{name}.fits", overwrite=True)
        psf = profile((41, 41), 20, 20, None)
        fits.PrimaryHDU(psf).writeto(folder / f"psf-{name}.fits", overwrite=True)


def write_legacy(folder: Path) -> None:
    """A brick of compressed files, one for each band and kind, in nanomaggies."""
    table = catalogues(folder, 0.262)
    for band in "grz":
        for kind, pixels in (
            ("image", image(table, band, 2.5) / NJY_PER_NANOMAGGY),
            ("invvar", np.full(SHAPE, (NJY_PER_NANOMAGGY / NOISE_NJY) ** 2)),
            ("psfsize", np.full(SHAPE, 0.262 * FWHM_PIX)),
        ):
            header = wcs(0.262).to_header()
            header.update({"IMTYPE": kind, "FILTER": band})
            if kind == "image":
                header["BUNIT"] = "nanomaggy"
            hdu = fits.CompImageHDU(pixels.astype(np.float32), header, compression_type="GZIP_2")
            hdu.writeto(folder / f"legacysurvey-1500p020-{kind}-{band}.fits.fz", overwrite=True)
    maskbits = fits.CompImageHDU(np.zeros(SHAPE, np.int16), name="MASKBITS", compression_type="GZIP_1")
    maskbits.writeto(folder / "legacysurvey-1500p020-maskbits.fits.fz", overwrite=True)


def write_cells(folder: Path) -> None:
    """Coadds in 16 cells, as lsst.images writes them."""
    import astropy.units as u
    from lsst.images import YX, Box, Image, Mask, MaskPlane, MaskSchema, SkyProjection, TractFrame
    from lsst.images.cells import CellCoadd, CellGrid, CellGridBounds, CellPointSpreadFunction

    table = catalogues(folder, 0.2)
    box = Box.from_shape(SHAPE, start=YX(0, 0))
    frame = TractFrame(skymap="made", tract=0, bbox=box)
    grid = CellGrid(bbox=box, cell_shape=YX(64, 64))
    psfs = np.broadcast_to(profile((41, 41), 20, 20, None), (4, 4, 41, 41)).copy()
    for band in "gri":
        schema = MaskSchema([MaskPlane(name, "") for name in ("NO_DATA", "SATURATED", "DETECTION_EDGE")])
        noise = NOISE_NJY * np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
        CellCoadd(
            Image(image(table, band), bbox=box, unit=u.nJy),
            mask=Mask(schema=schema, bbox=box),
            variance=Image(np.full(SHAPE, NOISE_NJY**2, np.float32), bbox=box, unit=u.nJy**2),
            noise_realizations=[Image(noise, bbox=box)],
            sky_projection=SkyProjection.from_fits_wcs(wcs(0.2), frame, pixel_bounds=box, x0=0, y0=0),
            band=band,
            psf=CellPointSpreadFunction(psfs, CellGridBounds(grid=grid, bbox=box)),
        ).write(str(folder / f"cell_{band}.fits"))


def catalogues(folder: Path, scale_arcsec: float) -> Table:
    """Write what is known and what is true; the latter."""
    table = sources(scale_arcsec)
    table.write(folder / "truth.ecsv", overwrite=True)
    table[:16]["id", "ra", "dec"].write(folder / "known.ecsv", overwrite=True)
    return table


KINDS = {"plain": write_plain, "hsc": write_hsc, "legacy": write_legacy, "cells": write_cells}


def main(folder: Path) -> None:
    """Write all kinds."""
    for name, kind in KINDS.items():
        if name != "cells" or find_spec("lsst.images"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            kind(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
