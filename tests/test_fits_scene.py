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


"""FITS images of surveys as scenes."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.io.fits_psf import PsfWidth
from lsst.meas.residualdetect.io.fits_scene import read_fits_scene

CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": 31.0,
    "CRPIX2": 26.0,
    "CD1_1": -0.168 / 3600,
    "CD2_2": 0.168 / 3600,
}
PIXELS = np.random.default_rng(3).normal(0, 2.0, (51, 61)).astype(np.float32)


def write(path, extensions, **cards):
    hdus = [fits.ImageHDU(pixels, name=name) for name, pixels in extensions.items()]
    hdus[0].header.update(CARDS | cards)
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def test_an_image_with_mask_and_variance_in_njy(tmp_path):
    mask = np.zeros((51, 61), np.int32)
    mask[10, 12] = 2
    path = write(
        tmp_path / "i.fits",
        {"IMAGE": PIXELS, "MASK": mask, "VARIANCE": np.full((51, 61), 4.0)},
        FLUXMAG0=63095734448.0194,
    )
    with fits.open(path, mode="update") as hdus:
        hdus["MASK"].header["MP_SAT"] = 1
    content = read_fits_scene({"HSC-I": path}, psfs={"i": PsfWidth(0.7)}, strict=True)
    scene = content.scene
    assert scene.bands == ("i",) and content.flux_units == ("nJy",)
    assert scene.pixel_scale_arcsec == pytest.approx(0.168, rel=1e-4)
    # Magnitude 27 in counts is 57.54 nJy.
    np.testing.assert_allclose(scene.images[0], PIXELS * 57.544, rtol=1e-4)
    np.testing.assert_allclose(scene.variance[0], 4 * 57.544**2, rtol=1e-4)
    assert np.argwhere(scene.bad()[0]).tolist() == [[10, 12]]
    # FITS counts from 1: CRPIX 31, 26 is pixel x=30, y=25.
    np.testing.assert_allclose(scene.sky_position(np.array([25.0]), np.array([30.0])), [[150.0], [2.0]])


@pytest.mark.parametrize(("name", "value"), [("VAR", 4.0), ("INVVAR", 0.25), ("RMS", 2.0), ("WHT", 7.0)])
def test_kinds_of_noise(tmp_path, name, value):
    path = write(tmp_path / "g.fits", {"SCI": PIXELS, name: np.full((51, 61), value)})
    scene = read_fits_scene({"g": path}, psfs={"g": PsfWidth(0.7)}).scene
    np.testing.assert_allclose(scene.variance, 4.0, rtol=0.1 if name == "WHT" else 1e-6)


def test_shifted_grids_are_refused(tmp_path):
    paths = {"g": write(tmp_path / "g.fits", {"SCI": PIXELS})}
    paths["r"] = write(tmp_path / "r.fits", {"SCI": PIXELS}, CRPIX1=34.0)
    with pytest.raises(SceneError, match="3 pixels apart.*reproject"):
        read_fits_scene(paths, psfs={band: PsfWidth(0.7) for band in "gr"})
