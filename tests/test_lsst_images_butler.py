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

"""Coadds of lsst.images in a Butler; see tests/lsst_images_files.py."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml
from lsst.daf.butler import Butler, Config, DatasetType

pytest.importorskip("lsst.images", reason="needs the package lsst-images (Python 3.12 or later)")

from lsst.images import MaskedImage

from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.butler import load_images
from lsst.meas.residualdetect.butler.images import stack
from lsst.meas.residualdetect.io.package_files import find_file
from lsst_images_files import (
    BANDS,
    CELL,
    NOISE,
    ORIGIN,
    SHAPE,
    SOURCES,
    cell_sigma,
    make_cell_coadd,
    make_masked_image,
    pixels,
)

WHERE = {"skymap": "made", "tract": 3, "patch": 0}
DIMENSIONS = ("skymap", "tract", "patch", "band")
# Beside the third star, and redder.
HIDDEN = (SOURCES[2][0] + 3.3, SOURCES[2][1] + 4.1)
HIDDEN_FLUX = {"g": 800.0, "r": 3000.0, "i": 7000.0}


def make_repository(root: Path) -> None:
    """As Rubin's, with our storage classes for what our tasks write."""
    text = files("lsst.meas.residualdetect.butler").joinpath("butler.yaml").read_text()
    Butler.makeRepo(str(root), config=Config(yaml.safe_load(text)))
    butler = Butler.from_config(str(root), writeable=True)
    insert = butler.registry.insertDimensionData
    most = {"visit_max": 1, "exposure_max": 1, "detector_max": 1}
    insert("instrument", {"name": "Cam", "class_name": "", **most})
    insert("skymap", {"name": "made", "hash": b"made", "tract_max": 9, "patch_nx_max": 1, "patch_ny_max": 1})
    insert("tract", {"skymap": "made", "id": 3})
    insert("patch", {"skymap": "made", "tract": 3, "id": 0, "cell_x": 0, "cell_y": 0})
    for band in BANDS:
        insert("physical_filter", {"instrument": "Cam", "name": band, "band": band})
    for name, storage_class in (("deep_coadd", "CellCoadd"), ("masked", "MaskedImageV2")):
        butler.registry.registerDatasetType(
            DatasetType(name, DIMENSIONS, storage_class, universe=butler.dimensions)
        )
    butler.registry.registerDatasetType(
        DatasetType("object_detection_given", DIMENSIONS[:3], "ArrayDetections", universe=butler.dimensions)
    )
    butler.registry.registerRun("coadds")
    for band in BANDS:
        image = pixels(band, (*SOURCES[:4], (*HIDDEN, HIDDEN_FLUX[band])))
        coadd = make_cell_coadd(band, image=image, n_realizations=1)
        butler.put(coadd, "deep_coadd", WHERE, band=band, run="coadds")
        butler.put(make_masked_image(band), "masked", WHERE, band=band, run="coadds")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells") / "repo"
    make_repository(folder)
    return folder


@pytest.fixture(scope="module")
def butler(root):
    return Butler.from_config(str(root))


def handle(butler, name, band):
    return butler.getDeferred(name, WHERE, band=band, collections="coadds")


def test_a_cell_coadd_is_read_by_parts(butler):
    images = load_images("cell_coadd")
    scene = stack.stack_bands(
        (images.read(images.fetch(handle(butler, "deep_coadd", band)), band) for band in BANDS), 3
    )
    assert scene.bands == BANDS and scene.shape == SHAPE and scene.origin == ORIGIN
    assert scene.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-4)
    for band, name in enumerate(BANDS):
        for column in range(4):
            place = (ORIGIN[0] + 70.0, ORIGIN[1] + (column + 0.5) * CELL)
            assert scene.at(*place).psf_sigmas_pix[band] == pytest.approx(cell_sigma(name, column), rel=1e-3)
    ra, dec = scene.sky_position(np.array([ORIGIN[0] + 79.0]), np.array([ORIGIN[1] + 59.0]))
    assert (ra[0], dec[0]) == pytest.approx((150.1, 2.2), abs=1e-6)
    with pytest.raises(SceneError, match="under band 'g' says it is of 'r'"):
        images.read(images.fetch(handle(butler, "deep_coadd", "r")), "g")


def test_a_whole_coadd_gives_the_same_and_is_not_changed(butler):
    images = load_images("cell_coadd")
    coadd = handle(butler, "deep_coadd", "r").get()
    before = coadd.image.array.copy()
    by_parts = images.read(images.fetch(handle(butler, "deep_coadd", "r")), "r")
    whole = images.read(coadd, "r")
    np.testing.assert_array_equal(whole.images, by_parts.images)
    np.testing.assert_array_equal(whole.at(1050, 2010).psfs, by_parts.at(1050, 2010).psfs)
    np.testing.assert_array_equal(coadd.image.array, before)


def test_pictures_are_masked_images_on_the_same_sky(butler):
    images = load_images("cell_coadd")
    coadd = handle(butler, "deep_coadd", "r").get()
    scene = images.read(coadd, "r")
    picture = images.picture(2 * scene.images[0], scene, coadd)
    assert isinstance(picture, MaskedImage) and picture.bbox == coadd.bbox and picture.unit == coadd.unit
    np.testing.assert_allclose(picture.image.array, 2 * coadd.image.array)
    assert picture.sky_projection == coadd.sky_projection


def test_a_masked_image_without_stars_has_no_psf(butler):
    images = load_images("masked_image")
    with pytest.raises(SceneError, match="band 'r'.*star"):
        images.read(images.fetch(handle(butler, "masked", "r")), "r")


def test_the_pipeline_finds_what_is_hidden_in_cell_coadds(root):
    labels = ("detectPeaks", "deblend", "residualDetection", "redeblend")
    config = [part for label in labels for part in ("-c", f"{label}:images=cell_coadd")]
    config += ["-c", "residualDetection:detector=matched_filter", "-c", "residualDetection:write_images=True"]
    command = [str(Path(sys.executable).with_name("pipetask")), "run", "-b", str(root)]
    command += ["-p", f"{find_file('pipelines', 'embedded.yaml')}#{','.join(labels)}", *config]
    command += ["-i", "coadds", "-o", "out", "--register-dataset-types"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    butler = Butler.from_config(str(root))
    after = butler.get("object_detection_merged_residual", WHERE, collections="out")
    new = [peak for peak in after.peaks if peak.from_residual]
    assert len(new) == 1
    # Whichever of the two detection took for both.
    peaks = {}
    for y, x in (HIDDEN, SOURCES[2][:2]):
        peaks[y, x] = min(after.peaks, key=lambda peak: np.hypot(peak.y - y, peak.x - x))
        assert np.hypot(peaks[y, x].y - y, peaks[y, x].x - x) < 1.0
    model = butler.get("object_scarlet_models_residual", WHERE, collections="out")
    places = {parent.id: parent.footprint.middle for parent in after}
    assert all(parent.place == places[parent.parent_id] for parent in model)
    fluxes = model.peak_fluxes([peaks[HIDDEN].id])[0]
    assert fluxes == pytest.approx([HIDDEN_FLUX[band] for band in model.bands], rel=0.1, abs=300)
    residual = butler.get("deep_coadd_residual", WHERE, band="r", collections="out")
    assert isinstance(residual, MaskedImage)
    # But for the source that is not in the first model.
    assert 1.4826 * np.median(np.abs(residual.image.array)) == pytest.approx(NOISE, rel=0.1)
