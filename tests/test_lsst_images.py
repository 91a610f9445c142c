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

"""Coadds that lsst.images wrote, from files; see tests/lsst_images_files.py."""

from __future__ import annotations

import shutil
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from click.testing import CliRunner

pytest.importorskip("lsst.images", reason="needs the package lsst-images (Python 3.12 or later)")

from lsst.images import YX, Box
from lsst.images.fields import ChebyshevField

from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.cli import main
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detections_at
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.find_missing import find_missing
from lsst.meas.residualdetect.io import lsst_image
from lsst.meas.residualdetect.io.fits_common import FitsError
from lsst.meas.residualdetect.io.lsst_image_file import is_lsst_image_file, read_lsst_image
from lsst.meas.residualdetect.io.remarks import Remarks
from lsst.meas.residualdetect.io.survey.fits_scene import band_of_file, read_fits_scene
from lsst_images_files import (
    BANDS,
    CELL,
    GROWTH,
    MANY_PLANES,
    NOISE,
    ORIGIN,
    SHAPE,
    SIGMAS,
    SOURCES,
    box,
    cell_sigma,
    make_cell_coadd,
    make_masked_image,
    pixels,
    wcs,
)


def write(folder, coadds):
    files = {}
    for band, coadd in coadds.items():
        files[band] = folder / f"cell_{band}.fits"
        coadd.write(str(files[band]))
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("cells"), {band: make_cell_coadd(band) for band in BANDS})


def test_a_set_of_cell_coadds_is_a_scene(files):
    content = read_fits_scene(files, strict=True)
    scene = content.scene
    assert scene.bands == BANDS and scene.shape == SHAPE and content.flux_units == ("nJy",) * 3
    assert scene.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-4)
    assert content.files == tuple(str(path) for path in files.values())
    # Its own writer compresses, to a part of the noise.
    assert np.abs(scene.images[0] - pixels("g")).max() < 0.2 * NOISE
    assert (scene.variance == NOISE**2).all()
    for band, name in enumerate(BANDS):
        for column in range(4):
            sigma = scene.at(70.0, (column + 0.5) * CELL).psf_sigmas_pix[band]
            assert sigma == pytest.approx(cell_sigma(name, column), rel=1e-3)
        assert SIGMAS[name] < scene.psf_sigmas_pix[band] < SIGMAS[name] * (1 + GROWTH)
    ra, dec = scene.sky_position(np.array([12.0]), np.array([33.0]))
    there = wcs().pixel_to_world(33.0, 12.0)
    assert SkyCoord(ra, dec, unit="deg")[0].separation(there).to_value("arcsec") < 1e-4


def test_one_command_makes_a_sky_catalogue(tmp_path):
    """Four known stars, and a redder one beside the third that nobody knows."""
    known = SOURCES[:4]
    hidden = {"g": 800.0, "r": 3000.0, "i": 7000.0}
    place = (SOURCES[2][0] + 3.3, SOURCES[2][1] + 4.1)
    images = {band: pixels(band, (*known, (*place, flux))) for band, flux in hidden.items()}
    files = write(tmp_path, {band: make_cell_coadd(band, image=image) for band, image in images.items()})
    y, x, _ = np.transpose(known)
    Table({"x": x - ORIGIN[1], "y": y - ORIGIN[0]}).write(tmp_path / "known.ecsv")
    arguments = [f"--image={band}={path}" for band, path in files.items()]
    arguments += ["--peaks", str(tmp_path / "known.ecsv"), "--detector", "matched_filter"]
    arguments += ["--out", str(tmp_path / "new.ecsv"), "--catalogue", str(tmp_path / "all.ecsv")]
    result = CliRunner().invoke(main, ["detect", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    new, everything = Table.read(tmp_path / "new.ecsv"), Table.read(tmp_path / "all.ecsv")
    truth = wcs().pixel_to_world(place[1] - ORIGIN[1], place[0] - ORIGIN[0])
    separations = SkyCoord(new["ra"], new["dec"]).separation(truth).to_value("arcsec")
    assert separations.min() < 0.1
    row = new[separations.argmin()]
    assert new["flux_i"].unit == u.nJy and row["flux_i"] == pytest.approx(hidden["i"], rel=0.1)
    for y, x, _ in known:
        there = wcs().pixel_to_world(x - ORIGIN[1], y - ORIGIN[0])
        separations = SkyCoord(everything["ra"], everything["dec"]).separation(there)
        assert separations.to_value("arcsec").min() < 0.1


def test_planes_go_by_their_names_and_may_be_more_than_32(tmp_path):
    marked = {"SATURATED": (3, 4), "CAMERA_34": (5, 6), "CAMERA_0": (5, 7)}
    files = write(tmp_path, {"r": make_cell_coadd("r", planes=MANY_PLANES, marked=marked)})
    scene = read_fits_scene(files).scene
    for plane, place in {"SAT": (3, 4), "CAMERA_34": (5, 6), "CAMERA_0": (5, 7)}.items():
        bad = scene.bad([plane])[0]
        assert bad.sum() == 1 and bad[place]
    assert scene.bad()[0].sum() == 1  # saturated, by default
    assert {"CR", "INTRP", "EDGE", "CAMERA_17"} <= scene.mask_planes.keys()
    coadd = read_lsst_image(files["r"], Remarks())
    # What is set goes first, so that the mask stays narrow.
    assert coadd.mask.dtype == np.int32 and len(coadd.mask_planes) == len(MANY_PLANES)


def test_all_of_many_planes_may_be_set(tmp_path):
    marked = {name: (10 + k, 20) for k, name in enumerate(MANY_PLANES)}
    files = write(tmp_path, {"r": make_cell_coadd("r", planes=MANY_PLANES, marked=marked)})
    scene = read_fits_scene(files).scene
    assert scene.mask.dtype == np.int64
    for k in range(35):
        bad = scene.bad([f"CAMERA_{k}"])[0]
        assert bad[17 + k, 20] and bad.sum() == 2  # and the one without data


def test_more_planes_than_bits_are_refused(tmp_path):
    coadd = make_cell_coadd("r", planes=[f"P{k}" for k in range(64)])
    files = write(tmp_path, {"r": coadd})
    with pytest.raises(FitsError, match=r"cell_r.fits: it has 64 mask planes; at most 64"):
        read_fits_scene(files)


def field(level):
    return ChebyshevField(box(), np.array([[level]]), unit=u.nJy)


def test_a_background_is_subtracted_once(tmp_path):
    coadd = make_cell_coadd("r")
    coadd.backgrounds.add("object", field(25.0), "made")
    coadd.backgrounds.add("other", field(7.0), "made")
    coadd.write(str(tmp_path / "before.fits"))
    remarks = Remarks()
    before = read_lsst_image(tmp_path / "before.fits", remarks)
    assert np.median(before.image - coadd.image.array) == pytest.approx(-25, abs=0.5)
    assert any("its background 'object' is subtracted" in note for note in remarks.notes)
    coadd.apply_background("object")
    coadd.write(str(tmp_path / "after.fits"))
    remarks = Remarks()
    after = read_lsst_image(tmp_path / "after.fits", remarks)
    assert np.median(after.image - coadd.image.array) == pytest.approx(0, abs=0.5)
    assert not remarks.notes
    coadd = make_cell_coadd("r")
    for name in ("one", "two"):
        coadd.backgrounds.add(name, field(25.0), "made")
    coadd.write(str(tmp_path / "which.fits"))
    remarks = Remarks()
    read_lsst_image(tmp_path / "which.fits", remarks)
    assert "none of its backgrounds one, two is subtracted" in remarks.doubts[0]


def test_missing_cells_have_no_data_and_their_sources_the_psf_beside(tmp_path):
    image = pixels("r")
    image[CELL : 2 * CELL, :CELL] = np.nan
    coadd = make_cell_coadd("r", missing=((1, 0), (0, 3)), image=image)
    files = write(tmp_path, {"r": coadd})
    scene = read_fits_scene(files).scene
    no_data = scene.bad(())[0]
    assert no_data[CELL : 2 * CELL, :CELL].all() and no_data[:CELL, 3 * CELL :].all()
    assert no_data.sum() == 2 * CELL**2
    beside = scene.at(90.0, 25.0).psf_sigmas_pix[0]
    assert beside == pytest.approx(cell_sigma("r", 0), rel=1e-3)


def test_noise_realizations_say_how_good_the_variance_is(tmp_path):
    honest = write(tmp_path, {"r": make_cell_coadd("r", n_realizations=3)})
    content = read_fits_scene(honest, strict=True)
    assert any("3 noise realizations scatter by 1" in note for note in content.notes)
    low = {"r": tmp_path / "low.fits"}
    make_cell_coadd("r", n_realizations=2, realization_sigma=2 * NOISE).write(str(low["r"]))
    content = read_fits_scene(low)
    assert any("scatter by 2 times what the variance says" in doubt for doubt in content.doubts)
    with pytest.raises(SceneError, match="scatter by 2 times"):
        read_fits_scene(low, strict=True)


@pytest.mark.parametrize("wrong", [0.25, 4.0])
def test_a_variance_that_is_wrong_by_a_factor_changes_no_score(tmp_path, wrong):
    """Realizations say what it should be."""
    scores = []
    for name, variance in {"right": NOISE**2, "wrong": wrong * NOISE**2}.items():
        (tmp_path / name).mkdir()
        coadds = {band: make_cell_coadd(band, n_realizations=2, variance=variance) for band in BANDS}
        scene = read_fits_scene(write(tmp_path / name, coadds)).scene
        assert np.median(scene.variance) == pytest.approx(NOISE**2, rel=0.03)
        known = detections_at(scene, np.array([(y - ORIGIN[0], x - ORIGIN[1]) for y, x, _ in SOURCES[:3]]))
        model = deblend(scene, known.parents)
        table = find_missing(scene, known, model, load_detector("onnx")).table
        scores.append({(round(row["y"]), round(row["x"])): row["score"] for row in table})
    assert scores[0] and scores[1].keys() == scores[0].keys()
    for place, score in scores[0].items():
        assert scores[1][place] == pytest.approx(score, abs=0.02)


def test_a_masked_image_has_a_psf_that_is_given_or_measured(tmp_path):
    files = write(tmp_path, {"r": make_masked_image("r")})
    psf = np.asarray(make_cell_coadd("r").psf.compute_kernel_image(x=2100, y=1050).array)
    scene = read_fits_scene(files, psfs={"r": psf}).scene
    assert scene.psf_fields == () and scene.bands == ("r",)
    np.testing.assert_allclose(scene.psfs[0], psf, atol=1e-6)
    with pytest.raises(SceneError, match="star"):
        read_fits_scene(files)


def test_what_is_given_goes_before_what_the_file_has(files):
    noise = dict.fromkeys(BANDS, "5:rms")
    scene = read_fits_scene(files, noise=noise).scene
    assert (scene.variance == 25).all()


def test_other_units_become_nanojansky(tmp_path):
    image = (pixels("r") / 1000).astype(np.float32)
    coadd = make_cell_coadd("r", unit=u.uJy, image=image)
    files = write(tmp_path, {"r": coadd})
    content = read_fits_scene(files)
    assert content.flux_units == ("nJy",)
    assert np.abs(content.scene.images[0] - pixels("r")).max() < 0.3 * NOISE
    assert content.scene.variance[0, 0, 0] == pytest.approx(NOISE**2 * 1e6)


def test_other_encodings_and_odd_names_are_read(files, tmp_path):
    odd = tmp_path / "a b?c%20d#e ü.fits"
    shutil.copy(files["r"], odd)
    assert is_lsst_image_file(odd)
    np.testing.assert_array_equal(
        read_lsst_image(odd, Remarks()).image, read_lsst_image(files["r"], Remarks()).image
    )
    part = make_cell_coadd("r")[Box.from_shape((20, 24), start=YX(ORIGIN[0] + 50, ORIGIN[1] + 50))]
    part.write(str(tmp_path / "part.json"))
    scene = read_fits_scene({"r": tmp_path / "part.json"}).scene
    np.testing.assert_allclose(scene.images[0], pixels("r")[50:70, 50:74], rtol=1e-5)
    assert scene.at(0, 0).psf_sigmas_pix[0] == pytest.approx(cell_sigma("r", 0), rel=1e-3)


def test_what_cannot_be_read_is_named(files, tmp_path):
    short = tmp_path / "short.fits"
    short.write_bytes(files["r"].read_bytes()[:30000])
    with pytest.raises(FitsError, match=r"short\.fits: "):
        read_fits_scene({"r": short})
    make_cell_coadd("r").image.write(str(tmp_path / "image.fits"))
    with pytest.raises(FitsError, match=r"image\.fits: holds a Image, which has no mask and variance"):
        read_fits_scene({"r": tmp_path / "image.fits"})
    assert band_of_file(files["r"]) == "r"
    with pytest.raises(FitsError, match=r"masked\.fits: does not say which band this is"):
        make_masked_image("r").write(str(tmp_path / "masked.fits"))
        band_of_file(tmp_path / "masked.fits")
    content = read_fits_scene({"g": files["r"]})
    assert any("the file says that it is of band 'r'" in doubt for doubt in content.doubts)


def test_without_lsst_images_the_version_of_python_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "lsst.images", None)
    monkeypatch.setattr(lsst_image.sys, "version_info", (3, 11, 7))
    needs = r"needs the package lsst-images, which needs Python 3.12 or later \(this is 3.11.7\)"
    with pytest.raises(FitsError, match=r"cell_r.fits: reading this file " + needs):
        read_fits_scene({"r": files["r"]})
