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


"""PSFs from files, from their width and from stars."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from galsim.des import DES_PSFEx

from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.io.fits_common import FitsError
from lsst.meas.residualdetect.io.remarks import Remarks
from lsst.meas.residualdetect.io.survey.fits_planes import FitsPath
from lsst.meas.residualdetect.io.survey.fits_psf import PsfWidth, centred_psf, read_psf
from lsst.meas.residualdetect.io.survey.fits_scene import read_fits_scene
from survey_files import SHAPE, noise_image, star, write

REFUSED = (SceneError, FitsError)


def centroid(psf):
    """Distance (y, x) of the centroid from the middle."""
    total = psf.sum()
    return [
        float((psf.sum(axis=1 - axis) * (np.arange(side) - (side - 1) / 2)).sum() / total)
        for axis, side in enumerate(psf.shape)
    ]


@pytest.mark.parametrize("sampling", [1.0, 0.6])
def test_psfex_as_galsim_reads_it(tmp_path, sampling):
    side, degree, n = 25, 2, 6
    rng = np.random.default_rng(5)
    basis = np.zeros((n, side, side), np.float32)
    basis[0] = star((side, side), 12, 12, 1.0, 4.5 / sampling)
    basis[1] = star((side, side), 12.2, 12, 0.1, 4.0 / sampling) - star(
        (side, side), 12, 12.1, 0.1, 5 / sampling
    )
    basis[2:] = 0.02 * star((side, side), 12, 12, 1, 5) * rng.normal(size=(n - 2, 1, 1))
    columns = [fits.Column("PSF_MASK", f"{n * side**2}E", dim=f"({side}, {side}, {n})", array=basis[None])]
    hdu = fits.BinTableHDU.from_columns(columns, name="PSF_DATA")
    cards = {"POLNAXIS": 2, "POLNGRP": 1, "POLDEG1": degree, "PSF_SAMP": sampling, "PSF_FWHM": 4.5}
    cards |= {"POLGRP1": 1, "POLNAME1": "X_IMAGE", "POLZERO1": 100.0, "POLSCAL1": 150.0}
    cards |= {"POLGRP2": 1, "POLNAME2": "Y_IMAGE", "POLZERO2": 90.0, "POLSCAL2": 130.0}
    cards |= {"PSFNAXIS": 3, "PSFAXIS1": side, "PSFAXIS2": side, "PSFAXIS3": n}
    hdu.header.update(cards)
    path = tmp_path / "i.psf"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    y, x = 40.0, 150.0
    ours, samples = read_psf(FitsPath(path), (81, 301), Remarks())
    # SExtractor counts pixels from 1.
    theirs = DES_PSFEx(str(path)).getPSF(galsim.PositionD(x + 1, y + 1))
    image = theirs.drawImage(nx=ours.shape[1], ny=ours.shape[0], scale=1, method="no_pixel").array
    np.testing.assert_allclose(ours, image / image.sum(), atol=0.004 * ours.max())
    assert abs(ours.sum() - 1) < 1e-6
    place = samples.places[np.abs(samples.places[:, 1] - 225).argmin()]
    theirs = DES_PSFEx(str(path)).getPSF(galsim.PositionD(place[1] + 1, place[0] + 1))
    image = theirs.drawImage(nx=ours.shape[1], ny=ours.shape[0], scale=1, method="no_pixel").array
    np.testing.assert_allclose(samples.at(40.0, 290.0), image / image.sum(), atol=0.006 * ours.max())
    assert not np.allclose(ours, samples.at(40.0, 290.0), atol=0.01 * ours.max())

    with fits.open(path, mode="update") as hdus:
        hdus[1].header["POLNAME1"] = "MAG_AUTO"
    with pytest.raises(FitsError, match="depends on MAG_AUTO"):
        read_psf(FitsPath(path), (81, 301), Remarks())


def test_a_stack_gives_the_psf_nearest_to_each_place(tmp_path):
    stack = np.stack([star((21, 21), 10, 10, 1, fwhm) for fwhm in (3.0, 4.0, 5.0)])
    table = fits.BinTableHDU(Table({"x": [5.0, 31.0, 55.0], "y": [5.0, 24.0, 45.0]}))
    path = tmp_path / "psf.fits"
    fits.HDUList([fits.PrimaryHDU(stack), table]).writeto(path)
    remarks = Remarks()
    psf, samples = read_psf(FitsPath(path), (51, 61), remarks)
    np.testing.assert_allclose(psf, stack[1], rtol=1e-6)
    np.testing.assert_allclose(samples.at(0, 0), stack[0], rtol=1e-6)
    np.testing.assert_allclose(samples.at(50, 60), stack[2], rtol=1e-6)
    assert any("width changes by 67% over 3 positions" in note for note in remarks.notes)
    fits.HDUList([fits.PrimaryHDU(stack)]).writeto(path, overwrite=True)
    with pytest.raises(FitsError, match="without a table of their positions"):
        read_psf(FitsPath(path), (51, 61), Remarks())


def test_even_sides_are_cut_or_shifted_so_that_the_centre_is_a_pixel():
    for y, x in ((10.0, 10.0), (9.5, 9.5), (9.5, 10.0), (9.0, 10.0), (10.0, 9.0)):
        psf = centred_psf(star((20, 20), y, x, 1, 4.0), Remarks(), "psf")
        assert psf.shape == (19, 19)
        assert np.abs(centroid(psf)).max() < 1e-3, (y, x)
        np.testing.assert_allclose(psf / psf.max(), star((19, 19), 9, 9, 1, 4.0) / psf.max(), atol=2e-3)


def test_widths():
    for text, beta in (("0.9", None), ("0.9:moffat", 2.5), ("0.9:moffat:3.5", 3.5)):
        width = PsfWidth.parse(text)
        assert width == PsfWidth(0.9, beta)
        psf = width.image(0.1)
        middle = psf.shape[0] // 2
        across = psf[middle] / psf[middle, middle]
        # Half the height 4.5 pixels off the centre.
        assert np.interp(4.5, np.arange(middle + 1), across[middle:]) == pytest.approx(0.5, abs=0.01)
        assert psf.sum() == pytest.approx(1)
    for text in ("wide", "0.9:voigt", "0", "-1", "nan", "0.9:moffat:0.5", "0.9:moffat:x", ""):
        with pytest.raises(SceneError):
            PsfWidth.parse(text)


def test_the_psf_measured_from_stars(tmp_path):
    pytest.importorskip("photutils", reason="photutils measures PSFs; it comes with the extra 'files'")
    shape = (400, 400)
    rng = np.random.default_rng(2)
    image = noise_image(shape, 1.0)
    for row in range(5):
        for column in range(5):
            y, x = 40 + 80 * row + rng.uniform(-9, 9), 40 + 80 * column + rng.uniform(-9, 9)
            # A third are galaxies, of many sizes.
            fwhm = 4.2 if (row + column) % 3 else 4.2 * rng.uniform(1.5, 3)
            image += star(shape, y, x, rng.uniform(3e3, 3e4), fwhm)
    path = write(tmp_path / "i.fits", {"SCI": image, "VAR": np.ones(shape, np.float32)})
    content = read_fits_scene({"i": path})
    psf = content.scene.psfs[0]
    truth = star(psf.shape, psf.shape[0] // 2, psf.shape[1] // 2, 1, 4.2)
    np.testing.assert_allclose(psf, truth, atol=0.02 * truth.max())
    assert np.abs(centroid(psf)).max() < 0.05
    assert any("measured from" in note for note in content.notes)
    empty = write(tmp_path / "r.fits", {"SCI": noise_image(SHAPE)})
    with pytest.raises(SceneError, match="no star is bright enough.*--psf-fwhm"):
        read_fits_scene({"r": empty})
