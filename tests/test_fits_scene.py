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

import gzip
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty

from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.io.fits_common import FitsError
from lsst.meas.residualdetect.io.survey.fits_psf import PsfWidth
from lsst.meas.residualdetect.io.survey.fits_scene import band_of_file, read_fits_scene
from survey_files import CARDS, SHAPE, SIGMA, noise_image, write

PIXELS, OTHER = noise_image(), noise_image(seed=4)
PSF = PsfWidth(0.7)
REFUSED = (SceneError, FitsError)


def read(path, band="g", **options):
    return read_fits_scene({band: path}, psfs={band: PSF}, **options)


def test_an_image_with_mask_and_variance_in_njy(tmp_path):
    mask = np.zeros(SHAPE, np.int32)
    mask[10, 12] = 2
    path = write(
        tmp_path / "i.fits",
        {"IMAGE": PIXELS, "MASK": mask, "VARIANCE": np.full(SHAPE, 4.0)},
        FLUXMAG0=63095734448.0194,
    )
    with fits.open(path, mode="update") as hdus:
        hdus["MASK"].header["MP_SAT"] = 1
    content = read_fits_scene({"HSC-I": path}, psfs={"i": PSF}, strict=True)
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
    path = write(tmp_path / "g.fits", {"SCI": PIXELS, name: np.full(SHAPE, value)})
    np.testing.assert_allclose(read(path).scene.variance, 4.0, rtol=0.1 if name == "WHT" else 1e-6)


def test_noise_that_the_user_says(tmp_path):
    path = write(tmp_path / "g.fits", {"SCI": PIXELS, "VAR": np.full(SHAPE, 4.0)})
    apart = write(tmp_path / "noise.fits", {"WHATEVER": np.full(SHAPE, 3.0)})
    for given, variance in (
        (f"{apart}:rms", 9.0),
        (f"{apart}[WHATEVER]:variance", 3.0),
        (f"{apart}:ivar", 1 / 3),
        ("2.5:rms", 6.25),
        ("0.5:invvar", 2.0),
        (f"{path}[VAR]", 4.0),
    ):
        np.testing.assert_allclose(read(path, noise={"g": given}).scene.variance, variance, rtol=1e-6)
    with pytest.raises(REFUSED, match="what kind of noise"):
        read(path, noise={"g": str(apart)})
    with pytest.raises(REFUSED, match="expected one of variance"):
        read(path, noise={"g": f"{apart}:loud"})


def test_noise_that_nobody_says_is_measured_between_sources(tmp_path):
    pixels = noise_image((200, 200))
    pixels[40:80, 40:80] += 500
    content = read(write(tmp_path / "g.fits", {"SCI": pixels}))
    np.testing.assert_allclose(content.scene.variance, SIGMA**2, rtol=0.03)
    assert any("no noise is given" in note for note in content.notes)


def test_astropy_ccddata(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[3, 4] = True
    data = CCDData(PIXELS, uncertainty=StdDevUncertainty(np.full(SHAPE, 2.0)), mask=mask, unit="nJy")
    data.write(tmp_path / "r.fits")
    content = read(tmp_path / "r.fits", "r", pixel_scale_arcsec=0.2)
    assert content.flux_units == ("nJy",)
    np.testing.assert_allclose(content.scene.variance[0], 4.0)
    assert np.argwhere(content.scene.bad()[0]).tolist() == [[3, 4]]


def test_compressed_files_hold_the_same(tmp_path):
    plain = write(tmp_path / "g.fits", {"SCI": PIXELS, "VAR": np.full(SHAPE, 4.0, np.float32)})
    zipped = tmp_path / "zipped.fits.gz"
    with plain.open("rb") as source, gzip.open(zipped, "wb") as stream:
        shutil.copyfileobj(source, stream)
    tiled = tmp_path / "tiled.fits.fz"
    hdus = [fits.PrimaryHDU()]
    for name, pixels in (("SCI", PIXELS), ("VAR", np.full(SHAPE, 4.0, np.float32))):
        hdus.append(fits.CompImageHDU(pixels, name=name, compression_type="GZIP_2", quantize_level=0))
    hdus[1].header.update(CARDS)
    fits.HDUList(hdus).writeto(tiled)
    expected = read(plain).scene
    for path in (zipped, tiled):
        scene = read(path).scene
        np.testing.assert_array_equal(scene.images, expected.images)
        np.testing.assert_array_equal(scene.variance, expected.variance)
        assert scene.pixel_scale_arcsec == pytest.approx(0.168, rel=1e-4)


def test_an_extension_by_name_and_number(tmp_path):
    path = write(tmp_path / "both.fits", {"FIRST": PIXELS, "SECOND": PIXELS + 7})
    with pytest.raises(REFUSED, match=r"name one as both.fits\[\.\.\.\]: 0 .*, 1 FIRST, 2 SECOND"):
        read(path)
    for extension in ("SECOND", "second", "2"):
        scene = read(f"{path}[{extension}]", pixel_scale_arcsec=0.2).scene
        np.testing.assert_allclose(scene.images[0], PIXELS + 7, rtol=1e-6)
    with pytest.raises(REFUSED, match="no such extension; there are"):
        read(f"{path}[THIRD]")


def test_a_cube_of_bands_as_the_legacy_surveys_cut_it(tmp_path):
    cube = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(cube, header=fits.Header(CARDS | {"BANDS": "grz"})).writeto(path)
    assert band_of_file(path) == "g,r,z"
    scene = read_fits_scene({"g,r,z": path}, psfs=dict.fromkeys("grz", PSF)).scene
    assert scene.bands == ("g", "r", "z")
    np.testing.assert_allclose(scene.images, cube)
    with pytest.raises(REFUSED, match=r"cube of 3 planes; say which bands they are \(g,r,i=cube.fits\)"):
        read(path)
    with pytest.raises(REFUSED, match=r"\(3, 51, 61\).*2 bands are given"):
        read_fits_scene({"g,r": path}, psfs=dict.fromkeys("gr", PSF))
    flat = write(tmp_path / "flat.fits", {"SCI": PIXELS})
    with pytest.raises(REFUSED, match="no image of each band; 2 bands are given"):
        read_fits_scene({"g,r": flat}, psfs=dict.fromkeys("gr", PSF))


def test_what_a_file_says_of_its_band(tmp_path):
    assert band_of_file(write(tmp_path / "g.fits", {"SCI": PIXELS}, FILTER="HSC-G")) == "HSC-G"
    with pytest.raises(REFUSED, match="no card says which band"):
        band_of_file(write(tmp_path / "none.fits", {"SCI": PIXELS}))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_cut_short_are_refused_and_named(tmp_path, ending):
    path = write(tmp_path / "g.fits", {"SCI": PIXELS})
    content = gzip.compress(path.read_bytes()) if ending else path.read_bytes()
    cut = tmp_path / f"cut.fits{ending}"
    for length in (0, 10, 3000, len(content) // 2, len(content) - 3000):
        cut.write_bytes(content[: max(length, 0)])
        with pytest.raises(REFUSED, match=r"cut\.fits"):
            read(cut)


def test_a_legacy_surveys_brick(tmp_path):
    """Image, inverse variance, mask and PSF size are files of their own."""
    folder = tmp_path / "brick"
    folder.mkdir()
    inverse = np.full(SHAPE, 0.25, np.float32)
    inverse[0] = 0
    bits = np.zeros(SHAPE, np.int16)
    bits[5, 6], bits[7, 8], bits[9, 10] = 1 << 3, 1 << 4, 1 << 1  # saturated in r and z; near a bright star
    for band in "rz":
        stem = "legacysurvey-1501p020-{}-" + band + ".fits.fz"
        image = PIXELS if band == "r" else PIXELS[::-1]
        for what, pixels in (("image", image), ("invvar", inverse), ("psfsize", np.full(SHAPE, 1.1, "f4"))):
            hdu = fits.CompImageHDU(pixels, compression_type="GZIP_2", quantize_level=0)
            hdu.header.update(CARDS | {"IMTYPE": what, "BUNIT": "nanomaggy"})
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / stem.format(what))
    hdu = fits.CompImageHDU(bits, name="MASKBITS", compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / "legacysurvey-1501p020-maskbits.fits.fz")
    content = read_fits_scene({b: folder / f"legacysurvey-1501p020-image-{b}.fits.fz" for b in "rz"})
    scene = content.scene
    np.testing.assert_allclose(scene.images[0, 1:], PIXELS[1:] * 3630.78, rtol=1e-5)
    np.testing.assert_allclose(scene.variance[:, 1:], 4 * 3630.78**2, rtol=1e-5)
    assert not scene.weights()[:, 0].any()
    bad = scene.bad()[:, 1:]
    assert [np.argwhere(plane).tolist() for plane in bad] == [[[4, 6]], [[6, 8]]]
    fwhm_pix = scene.psf_sigmas_pix * 2.355
    assert 0.9 < fwhm_pix[0] * 0.168 / 1.1 < 1.6  # a Moffat profile has more noise-equivalent area
    assert not content.doubts and len(content.files) == 7


def test_masks(tmp_path):
    mask = np.zeros(SHAPE, np.uint64)
    mask[1, 2], mask[3, 4] = 1 << 63, 1 << 5
    path = write(tmp_path / "g.fits", {"SCI": PIXELS})
    named = write(tmp_path / "mask.fits", {"MASK": mask})
    content = read(path, masks={"g": named}, mask_planes={"BAD": 63})
    assert np.argwhere(content.scene.bad()[0]).tolist() == [[1, 2]]
    assert any("bits 5 of the mask have no name" in doubt for doubt in content.doubts)

    content = read(path, masks={"g": named})  # nobody names the planes
    assert np.argwhere(content.scene.bad()[0]).tolist() == [[1, 2], [3, 4]]
    assert any("nothing says what the bits" in doubt for doubt in content.doubts)

    inverted = write(tmp_path / "inverted.fits", {"MASK": (mask == 0).astype(np.uint8)})
    content = read(path, masks={"g": inverted})
    assert any("may be inverted" in doubt for doubt in content.doubts)
    with pytest.raises(REFUSED, match="may be inverted"):
        read(path, masks={"g": inverted}, strict=True)


def test_more_planes_than_32_bits_hold_if_few_are_set(tmp_path):
    mask = np.zeros(SHAPE, np.int64)
    mask[1, 2] = 1 << 40
    path = write(tmp_path / "g.fits", {"SCI": PIXELS, "MASK": mask})
    with fits.open(path, mode="update") as hdus:
        hdus["MASK"].header.update({f"MP_P{bit}": bit for bit in range(60)} | {"MP_P40": 7, "MP_SAT": 40})
    assert np.argwhere(read(path).scene.bad()[0]).tolist() == [[1, 2]]


def test_grids_that_disagree(tmp_path):
    paths = {"g": write(tmp_path / "g.fits", {"SCI": PIXELS})}
    paths["r"] = write(tmp_path / "r.fits", {"SCI": OTHER}, CRPIX1=34.0)
    psfs = dict.fromkeys("gr", PSF)
    with pytest.raises(REFUSED, match="3 pixels apart.*reproject"):
        read_fits_scene(paths, psfs=psfs)
    # Rotated about the reference pixel: a corner is the worst.
    turn = 0.3 / 35
    scale = CARDS["CD2_2"]
    write(paths["r"], {"SCI": OTHER}, CD1_2=turn * scale, CD2_1=turn * scale)
    content = read_fits_scene(paths, psfs=psfs)
    assert len(content.doubts) == 1 and "corner y=" in content.doubts[0], content.doubts
    with pytest.raises(REFUSED, match="pixels apart at the corner"):
        read_fits_scene(paths, psfs=psfs, strict=True)
    write(paths["r"], {"SCI": OTHER}, CRPIX1=31.05)
    assert not read_fits_scene(paths, psfs=psfs).doubts
    write(paths["r"], {"SCI": noise_image((52, 61))})
    with pytest.raises(REFUSED, match=r"\(52, 61\) pixels.*\(51, 61\)"):
        read_fits_scene(paths, psfs=psfs)
    write(paths["r"], {"SCI": OTHER}, CD1_1=-0.2 / 3600, CD2_2=0.2 / 3600)
    with pytest.raises(REFUSED, match=r"0\.2 arcsec.*0\.168"):
        read_fits_scene(paths, psfs=psfs)
