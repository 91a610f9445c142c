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

"""Cases that networks are calibrated on, and what a network finds in them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lsst.meas.residualdetect.detectors.mask_rcnn import MaskRcnn
from lsst.meas.residualdetect.find_missing import find_missing
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.network.covariates import COVARIATES
from lsst.meas.residualdetect.network.onnx import OnnxNetwork
from lsst.meas.residualdetect.network.package import DEFAULT_MODEL, load_package
from lsst.meas.residualdetect.training.cases import CaseOptions, case_names, make_cases, read_case

OPTIONS = CaseOptions(n_simulated=1, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    assert make_cases(folder, OPTIONS, jobs=1) == 2
    return folder


def test_cases_are_made_once_and_read_back(folder):
    assert case_names(folder) == ["smooth/00000", "structured/00000"]
    assert make_cases(folder, OPTIONS, jobs=1) == 0
    with pytest.raises(ValueError, match="made with other options"):
        make_cases(folder, replace(OPTIONS, seed=6), jobs=1)
    case = read_case(folder, "structured/00000")
    assert (case.population, case.group) == ("structured", "structured/00000")
    assert {s.peak_id for s in case.model.sources} <= {peak.id for peak in case.detections.peaks}
    # The model explains most of the light of what is known.
    image = case.model.image(case.scene)
    weights = case.scene.weights()
    left, all_ = (
        float((np.square(x) * weights).sum()) for x in (case.scene.images - image, case.scene.images)
    )
    assert left < 0.5 * all_


def test_what_is_judged_is_what_a_run_finds(folder, tmp_path):
    pytest.importorskip("detectron2")
    from lsst.meas.residualdetect.training.judging import judge_cases

    # Scores as the network gives them.
    raw = tmp_path / "raw"
    shutil.copytree(find_file("models", f"{DEFAULT_MODEL}/package.yaml").parent, raw)
    content = yaml.safe_load((raw / "package.yaml").read_text())
    content["calibration"] = {"score": [0.0, 1.0], "probability": [0.0, 1.0]}
    (raw / "package.yaml").write_text(yaml.safe_dump(content))
    names = case_names(folder)
    judged = judge_cases(raw, folder, names, jobs=1)
    package = load_package(str(raw))
    detector = MaskRcnn(package, OnnxNetwork(package), min_score=0.0)
    for number, name in enumerate(names):
        case = read_case(folder, name)
        missing = find_missing(case.scene, case.detections, case.model, detector).at_threshold(0.0)
        added = sorted(peak.score for peak in missing.new_peaks)
        own = judged.found.score[judged.case == number]
        # All but those on faint sources.
        assert 0 < len(own) <= len(added)
        assert np.abs(np.subtract.outer(own, added)).min(axis=1).max() < 1e-3
    found = judged.found
    assert found.measured.shape == (len(found.score), len(COVARIATES))
    assert (found.objectness > 0.5 - 1e-6).all() and found.target.sum() <= judged.n_targets.sum()
    assert found.score[found.right].mean() > found.score[~found.right].mean()
