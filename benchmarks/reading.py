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

"""Time and memory of reading a patch in six bands.

    python benchmarks/reading.py
    python benchmarks/reading.py --side 2048 --kind fits
    python benchmarks/reading.py --detect --kind fits --kind cell_coadd

The same pixels are read from plain FITS (image, variance, mask, PSF), from the
package's own coadds, band by band as a task does, and from CellCoadds of
lsst.images where that is installed. Each is read by a process of its own, and
what the process needed at most is told, beside what the scene's arrays take.
With --detect the process goes on to the end of ``residualdetect detect`` by the
matched filter, beside 20 known stars and with a threshold that leaves nothing new.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import click
import numpy as np
from astropy.io import fits
from astropy.table import Table as Catalogue
from rich.console import Console
from rich.table import Table

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.butler.images.stack import stack_bands
from lsst.meas.residualdetect.cli import main as residualdetect
from lsst.meas.residualdetect.io.fits_coadd import read_coadd, write_coadd
from lsst.meas.residualdetect.io.survey.fits_scene import read_fits_scene
from lsst.meas.residualdetect.psf_images import gaussian_psf

KINDS = ("fits", "embedded", *(("cell_coadd",) if find_spec("lsst.images") else ()))
CELL = 128


def star_places(side: int) -> np.ndarray:
    """Pixels (y, x) of stars."""
    return np.random.default_rng(3).integers(30, side - 30, (side**2 // 10_000, 2))


def make_pixels(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with some stars in it, its variance, and the PSF."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((side, side), np.float32)
    psf = gaussian_psf(2.0, (41, 41))
    for y, x in star_places(side):
        image[y - 20 : y + 21, x - 20 : x + 21] += np.float32(300) * psf.astype(np.float32)
    return image, np.ones((side, side), np.float32), psf


def write_fits(path: Path, side: int) -> None:
    image, variance, psf = make_pixels(side)
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0}
    cards |= {"CRPIX1": side / 2, "CRPIX2": side / 2, "CD1_1": -0.2 / 3600, "CD2_2": 0.2 / 3600}
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI"), fits.ImageHDU(variance, name="VARIANCE")]
    hdus += [fits.ImageHDU(np.zeros((side, side), np.int32), name="MASK"), fits.ImageHDU(psf, name="PSF")]
    hdus[1].header.update(cards | {"BUNIT": "nJy"})
    hdus[3].header["MP_SAT"] = 1
    fits.HDUList(hdus).writeto(path)


def write_embedded(path: Path, side: int) -> None:
    image, variance, psf = make_pixels(side)
    write_coadd(path, Scene(image[None], variance[None], psf[None], ("r",)))


def write_cell_coadd(path: Path, side: int) -> None:
    import astropy.units as u
    from astropy.wcs import WCS
    from lsst.images import (
        YX,
        Box,
        Image,
        Mask,
        MaskPlane,
        MaskSchema,
        SkyProjection,
        TractFrame,
    )
    from lsst.images.cells import CellCoadd, CellGrid, CellGridBounds, CellPointSpreadFunction

    image, variance, psf = make_pixels(side)
    box = Box.from_shape(image.shape, start=YX(0, 0))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), (150.0, 2.0), (1.0, 1.0)
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    frame = TractFrame(skymap="made", tract=0, bbox=box)
    planes = ("NO_DATA", "SATURATED", "DETECTION_EDGE", "INTERPOLATED", "COSMIC_RAY", "CLIPPED", "REJECTED")
    n_cells = side // CELL
    psfs = np.broadcast_to(psf, (n_cells, n_cells, *psf.shape)).copy()
    grid = CellGrid(bbox=box, cell_shape=YX(CELL, CELL))
    noise = np.random.default_rng(2).standard_normal(image.shape, np.float32)
    CellCoadd(
        Image(image, bbox=box, unit=u.nJy),
        mask=Mask(schema=MaskSchema([MaskPlane(name, "") for name in planes]), bbox=box),
        variance=Image(variance, bbox=box, unit=u.nJy**2),
        noise_realizations=[Image(noise, bbox=box)],
        sky_projection=SkyProjection.from_fits_wcs(wcs, frame, pixel_bounds=box, x0=0, y0=0),
        band="r",
        psf=CellPointSpreadFunction(psfs, CellGridBounds(grid=grid, bbox=box)),
    ).write(str(path))


def read(kind: str, path: Path, bands: str) -> Scene:
    """All bands from one file, which is read anew for each."""
    if kind == "embedded":
        coadds = (read_coadd(path).select_bands(["r"]) for _ in bands)
        renamed = (_named(coadd, band) for coadd, band in zip(coadds, bands, strict=True))
        return stack_bands(renamed, len(bands))
    return read_fits_scene(dict.fromkeys(bands, path)).scene


def _named(coadd: Scene, band: str) -> Scene:
    coadd.bands = (band,)
    return coadd


def detect(path: Path, side: int, bands: str) -> None:
    """All of the command; it ends with an error if something is amiss."""
    known, out = path.with_name("known.ecsv"), path.with_name("new.ecsv")
    y, x = star_places(side)[:20].T
    Catalogue({"x": x, "y": y}).write(known, overwrite=True)
    images = [f"--image={band}={path}" for band in bands]
    options = [
        "--peaks",
        str(known),
        "--out",
        str(out),
        "--detector",
        "matched_filter",
        "--threshold",
        "1000",
    ]
    residualdetect(["detect", *images, *options], standalone_mode=False)


def measure(kind: str, path: Path, side: int, bands: str, whole: bool, pipe: Connection) -> None:
    """Send seconds, processor seconds, the growth of the process and the
    size of what was read, in MB.
    """
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    if whole:
        detect(path, side, bands)
        size = float("nan")
    else:
        scene = read(kind, path, bands)
        size = (scene.images.nbytes + scene.variance.nbytes + scene.mask.nbytes) / 2**20
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send((seconds, cpu, (after.ru_maxrss - before.ru_maxrss) / 2**10, size))


@click.command()
@click.option("--side", default=4096, show_default=True, help="Side of the patch, a multiple of 128.")
@click.option("--bands", default="ugrizy", show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS, show_default=True)
@click.option("--detect", "whole", is_flag=True, help="Measure the whole command, not reading alone.")
def main(side: int, bands: str, kinds: tuple[str, ...], whole: bool) -> None:
    table = Table(title=f"{side} x {side} pixels in {len(bands)} bands")
    for column in ("", "s", "CPU s", "MB at most", "MB of arrays"):
        table.add_column(column)
    if whole and "embedded" in kinds:
        raise click.UsageError("--detect reads what surveys write: --kind fits or cell_coadd")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"{kind}.fits"
            {"fits": write_fits, "embedded": write_embedded, "cell_coadd": write_cell_coadd}[kind](path, side)
            ours, theirs = context.Pipe()
            process = context.Process(target=measure, args=(kind, path, side, bands, whole, theirs))
            process.start()
            theirs.close()
            numbers = ours.recv()
            process.join()
            table.add_row(kind, *(f"{number:.4g}" for number in numbers))
            path.unlink()
    Console().print(table)


if __name__ == "__main__":
    main()
