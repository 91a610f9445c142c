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


"""Model packages in a Butler repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from lsst.daf.butler import Butler
from lsst.pex.config import FieldValidationError

from conftest import invoke, make_blend
from lsst.meas.residualdetect.butler.model_packages import MODEL_PACKAGE, read_zip, register_model, write_zip
from lsst.meas.residualdetect.butler.repository import COADDS_COLLECTION, create_repository, ingest_scenes
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.network.package import DEFAULT_MODEL, ModelPackageError, load_package
from lsst.meas.residualdetect.tasks.residual_detection_config import (
    ResidualDetectionConfig,
    ResidualDetectionConnections,
)
from tiny_network import make_package

COLLECTION = "models/tiny"


@pytest.fixture
def package(tmp_path):
    return make_package(tmp_path / "tiny", {"model.onnx": b"weights", "detectron2.yaml": b"MODEL: {}"})


def test_a_package_comes_back_as_it_went(tmp_path, package):
    create_repository(tmp_path / "repo")
    done = invoke("register-model", tmp_path / "repo", package.folder, "--collection", COLLECTION)
    assert done.exit_code == 0, done.output
    assert f"tiny: {MODEL_PACKAGE} in {COLLECTION}" in done.output
    back = Butler.from_config(str(tmp_path / "repo"), collections=COLLECTION).get(MODEL_PACKAGE)
    assert back.sha256 == package.sha256 and back.calibration == package.calibration
    folder = back.folder
    assert back.file("model.onnx").read_bytes() == b"weights"
    del back
    assert not folder.exists()


def test_a_second_package_does_not_take_the_place_of_the_first(tmp_path, package):
    butler = create_repository(tmp_path / "repo")
    register_model(butler, package, COLLECTION)
    with pytest.raises(ModelPackageError, match=f"{COLLECTION} holds a {MODEL_PACKAGE} already"):
        register_model(butler, package, COLLECTION)
    register_model(butler, package, COLLECTION, name="another_model")


def test_a_damaged_package_is_not_registered(tmp_path, package):
    butler = create_repository(tmp_path / "repo")
    (package.folder / "model.onnx").write_bytes(b"weight")
    with pytest.raises(ModelPackageError, match=r"model.onnx is damaged or cut short: its 6 bytes"):
        register_model(butler, package, COLLECTION)
    assert not list(butler.registry.queryDatasets(MODEL_PACKAGE, collections=...))


def test_a_damaged_file_in_the_repository_is_named(tmp_path, package):
    butler = create_repository(tmp_path / "repo")
    path = Path(butler.getURI(register_model(butler, package, COLLECTION)).ospath)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"weights", b"weighed"))
    with pytest.raises(ModelPackageError, match=r"model.onnx|Bad CRC"):
        read_zip(path)
    path.write_bytes(content[:100])
    with pytest.raises(ModelPackageError, match=rf"{path.name} is no model package"):
        read_zip(path)


def test_no_repository_is_one_line(tmp_path, package):
    done = invoke("register-model", tmp_path / "none", package.folder, "--collection", COLLECTION)
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1 and "none is no Butler repository" in done.output


def test_nothing_leaves_the_folder(tmp_path, package):
    write_zip(package, tmp_path / "package.zip")
    with ZipFile(tmp_path / "package.zip", "a") as archive:
        archive.writestr("../outside", b"")
    read_zip(tmp_path / "package.zip")
    assert not list(tmp_path.parent.glob("outside"))


def test_only_a_model_in_the_butler_is_an_input():
    assert not hasattr(ResidualDetectionConnections(config=ResidualDetectionConfig()), "model_package")
    config = ResidualDetectionConfig(model_source="butler")
    config.validate()
    assert ResidualDetectionConnections(config=config).prerequisiteInputs == {"model_package"}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"detector": "matched_filter"}, "'matched_filter' has no model"), ({"model": "mine"}, "not in 'mine'")],
)
def test_what_does_not_go_with_a_model_in_the_butler(options, words):
    config = ResidualDetectionConfig(model_source="butler", **options)
    with pytest.raises(FieldValidationError, match=words):
        config.validate()


def test_a_run_with_the_model_of_the_repository(tmp_path):
    repo = tmp_path / "repo"
    butler = create_repository(repo)
    ingest_scenes(butler, [make_blend(1)])
    register_model(butler, load_package(DEFAULT_MODEL), COLLECTION)
    command = [str(Path(sys.executable).with_name("pipetask")), "run", "-b", str(repo)]
    command += ["-p", f"{find_file('pipelines', 'embedded.yaml')}#detectPeaks,deblend,residualDetection"]
    command += ["-i", f"{COADDS_COLLECTION},{COLLECTION}", "-o", "out", "--register-dataset-types"]
    command += ["-c", "residualDetection:model_source=butler"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where = {"skymap": "embedded", "tract": 0, "patch": 0}
    after = Butler.from_config(str(repo), collections="out").get("object_detection_merged_residual", where)
    assert any(peak.iteration == 1 for peak in after.peaks)
