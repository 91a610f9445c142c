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

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.network.calibration import CovariateCalibration
from lsst.meas.residualdetect.network.covariates import COVARIATES, FORMULA
from lsst.meas.residualdetect.network.features import CANONICAL_BANDS, FeatureOptions
from lsst.meas.residualdetect.network.package import (
    DEFAULT_MODEL,
    ModelPackageError,
    load_package,
    package_names,
    write_package,
)
from tiny_network import DESCRIPTION, make_package

LOGISTIC = {"formula": FORMULA, "intercept": -1.0, "coefficients": dict.fromkeys(COVARIATES, 0.5)}


@pytest.fixture
def folder(tmp_path):
    make_package(tmp_path / "tiny")
    return tmp_path / "tiny"


def rewrite(folder, **changes):
    """Change the description; a value of None takes its key away."""
    path = folder / "package.yaml"
    content = {**yaml.safe_load(path.read_text()), **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def test_what_is_written_is_read(folder):
    package = load_package(str(folder))
    assert package == make_package(folder)
    assert (package.folder, package.name, package.bands) == (folder, "tiny", CANONICAL_BANDS)
    assert package.features == FeatureOptions()
    assert package.training == {"command": "residualdetect train"}
    assert package.file("model.onnx").read_bytes() == b"weights"


def test_probability_is_linear_between_the_corners_of_the_calibration(folder):
    package = load_package(str(folder))
    found = package.calibration.probability(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert found == pytest.approx([0, 0.1, 0.2, 0.575, 0.95])


def test_a_logistic_calibration_is_read_by_name(folder):
    numbers = {name: float(place) for place, name in enumerate(COVARIATES)}
    rewrite(folder, calibration={**LOGISTIC, "coefficients": dict(sorted(numbers.items()))})
    calibration = load_package(str(folder)).calibration
    assert calibration == CovariateCalibration(-1.0, tuple(numbers.values()))


def test_a_package_is_found_by_name_where_eups_set_the_package_up(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "up" / "models" / "other")
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(tmp_path / "up"))
    assert "other" in package_names()
    assert load_package("other").folder == tmp_path / "up" / "models" / "other"
    # Pipelines are still those of the checkout: there are none here.
    assert find_file("pipelines", "embedded.yaml").is_file()


def test_a_folder_without_a_description_is_no_package(tmp_path, monkeypatch):
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(tmp_path))
    (tmp_path / "models" / "unfinished").mkdir(parents=True)
    assert "unfinished" not in package_names()
    for name in ("unfinished", str(tmp_path / "models" / "unfinished"), "nowhere", ""):
        with pytest.raises(
            ModelPackageError, match="no model package '.*'; expected a folder with package.yaml"
        ):
            load_package(name)


def test_a_folder_here_does_not_stand_in_for_what_is_shipped(folder, tmp_path, monkeypatch):
    folder.rename(tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    assert load_package(DEFAULT_MODEL).name == DEFAULT_MODEL
    assert load_package(f"./{DEFAULT_MODEL}").name == "tiny"
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelPackageError, match=r"no model package 'mine'; .*given as \./mine$"):
        load_package("mine")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format is 2; input should be 1"),
        ({"margin": None}, "lacks margin"),
        ({"colour": "blue"}, "has an unknown key: colour"),
        ({"name": 3}, "name is 3; input should be a valid string"),
        ({"tile_size": 48.0}, "tile_size is 48.0; input should be a valid integer"),
        ({"stride": True}, "stride is True; input should be a valid integer"),
        ({"stride": 0}, "stride is 0; input should be greater than or equal to 1"),
        ({"margin": -1}, "margin is -1; input should be greater than or equal to 0"),
        ({"tile_size": 50}, "tile_size is 50; expected a multiple of stride"),
        ({"margin": 24}, "tile_size is 48; expected a multiple of stride .* two margins"),
        ({"pixel_scale_arcsec": float("nan")}, "pixel_scale_arcsec is nan; input should be a finite number"),
        ({"pixel_scale_arcsec": 0}, "pixel_scale_arcsec is 0; input should be greater than 0"),
        ({"score_threshold": 5.0}, "score_threshold is 5.0; input should be less than or equal to 1"),
        ({"bands": ["g", "r", "i"]}, "bands is \\['g', 'r', 'i'\\]; expected"),
        (
            {"features": {**DESCRIPTION["features"], "softening": -1.0}},
            "softening is -1.0; it must be positive",
        ),
        (
            {"features": {**DESCRIPTION["features"], "peak_channel": 1}},
            "features.peak_channel is 1; input should be a valid boolean",
        ),
        ({"features": {"softening": 3.0}}, "features is .*; lacks model_scale, peak_channel"),
        ({"calibration": {"score": [0, 1], "probability": [0]}}, "2 scores and 1 probabilities"),
        (
            {"calibration": {"score": [0, 0.5, 0.5], "probability": [0, 0.1, 0.2]}},
            "expected increasing numbers",
        ),
        ({"calibration": {"score": [0, 1], "probability": [0.9, 0.1]}}, "never decrease"),
        (
            {"calibration": {"score": [0, 1], "probability": [0, 1.5]}},
            "calibration.probability is .*; expected numbers from 0 to 1",
        ),
        (
            {"calibration": {"score": [0, "1"], "probability": [0, 1]}},
            "calibration.score.1 is '1'; input should be a valid number",
        ),
        ({"calibration": {**LOGISTIC, "formula": 99}}, "calibration.formula is 99; .* knows formula 1 only"),
        ({"calibration": {**LOGISTIC, "coefficients": {"bands": 1.0}}}, "expected just log_odds, "),
        ({"calibration": {**LOGISTIC, "intercept": "1"}}, "calibration.intercept is '1'; .* valid number"),
        ({"calibrated_on": {"colour": [1.0, 2.0]}}, "colour: expected two rising numbers for some of pixel"),
        ({"calibrated_on": {"noise": [2.0, 1.0]}}, "noise: expected two rising numbers"),
        ({"files": {"../model.onnx": "0" * 64}}, "expected the name of a file in the package's folder"),
        ({"files": {"model.onnx": "abc"}}, "files.model.onnx is 'abc'; .*should match"),
        ({"features": {**DESCRIPTION["features"], "hue": 1.0}}, "has an unknown key: features.hue"),
        ({"files": {"other.onnx": "0" * 64}}, "lists other.onnx, which is missing"),
    ],
)
def test_a_wrong_description_is_refused_in_one_line_that_names_it(folder, changes, words):
    rewrite(folder, **changes)
    with pytest.raises(ModelPackageError, match=words) as caught:
        load_package(str(folder))
    assert str(caught.value).startswith(str(folder / "package.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"- a list", b"a: [", b"\xff\xfe\xfa", b"!!python/object/new:os.x {}"]
)
def test_what_is_no_description_is_refused(folder, content):
    (folder / "package.yaml").write_bytes(content)
    with pytest.raises(ModelPackageError, match="package.yaml") as caught:
        load_package(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"weigh", "model.onnx is damaged or cut short: its 5 bytes have sha256 [0-9a-f]{64}; expected"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9",
            "pointer of Git LFS.*git lfs pull",
        ),
    ],
)
def test_a_file_is_verified_when_it_is_asked_for(folder, content, words):
    (folder / "model.onnx").write_bytes(content)
    package = load_package(str(folder))
    with pytest.raises(ModelPackageError, match=words):
        package.file("model.onnx")


def test_only_listed_files_are_given_out(folder):
    package = load_package(str(folder))
    with pytest.raises(ModelPackageError, match="lists no weights.pkl, only model.onnx"):
        package.file("weights.pkl")
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelPackageError, match="model.onnx is missing"):
        package.file("model.onnx")


@pytest.mark.parametrize(
    ("changes", "files", "words"),
    [
        ({}, ["none.onnx"], "none.onnx is missing"),
        ({"score_threshold": 2.0}, ["model.onnx"], "score_threshold is 2.0; "),
        ({"score_threshold": np.float64(0.5)}, ["model.onnx"], "cannot hold"),
    ],
)
def test_nothing_is_written_over_a_package_by_a_wrong_one(folder, changes, files, words):
    before = (folder / "package.yaml").read_text()
    with pytest.raises(ModelPackageError, match=words):
        write_package(folder, {**DESCRIPTION, **changes}, files)
    assert (folder / "package.yaml").read_text() == before
