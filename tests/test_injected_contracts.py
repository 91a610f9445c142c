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


"""What the tasks of the injected pipeline must have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lsst.pipe.base import Pipeline
from lsst.pipe.base.pipelineIR import ContractError

from lsst.meas.residualdetect.tasks.evaluate_injected import EvaluateInjectedConfig
from lsst.meas.residualdetect.tasks.inject_companions import InjectCompanionsConfig
from lsst.meas.residualdetect.tasks.make_companions import MakeCompanionsConfig
from lsst.meas.residualdetect.tasks.residual_detection_config import ResidualDetectionConfig

PIPELINE = Path(__file__).parents[1] / "pipelines" / "injected_companions.yaml"


def broken_contracts(configs):
    contracts = yaml.safe_load(PIPELINE.read_text())["contracts"]
    # As pipe_base does.
    return [item["contract"] for item in contracts if not eval(item["contract"], None, configs)]


@pytest.fixture
def configs():
    return {
        "makeCompanions": MakeCompanionsConfig(),
        "injectCompanions": InjectCompanionsConfig(),
        "residualDetection": ResidualDetectionConfig(),
        "residualDetectionInjected": ResidualDetectionConfig(),
        "evaluateInjected": EvaluateInjectedConfig(),
    }


def test_the_defaults_keep_the_contracts(configs):
    assert broken_contracts(configs) == []


@pytest.mark.parametrize(
    ("label", "name", "value"),
    [
        ("residualDetection", "min_distance_pix", 7.5),
        ("residualDetection", "min_bands", 1),
        ("residualDetection", "bad_mask_planes", ["SAT"]),
        ("residualDetection", "pseudo_columns", ["sky_source"]),
        ("evaluateInjected", "bad_mask_planes", ["SAT"]),
        ("makeCompanions", "bad_mask_planes", ["SAT"]),
        ("evaluateInjected", "pseudo_columns", ["sky_source"]),
    ],
)
def test_what_changes_the_search_in_one_task_alone_breaks_a_contract(configs, label, name, value):
    setattr(configs[label], name, value)
    assert any(f"{label}.{name}" in contract for contract in broken_contracts(configs))


def test_another_detector_or_another_of_its_options_breaks_a_contract(configs):
    configs["residualDetection"].detector.active.min_score = 0.5
    assert any("residualDetection.detector_options" in contract for contract in broken_contracts(configs))
    configs["residualDetectionInjected"].detector["onnx"].min_score = 0.5
    assert broken_contracts(configs) == []
    configs["residualDetection"].model = "./mine"
    assert any("residualDetection.detector_options" in contract for contract in broken_contracts(configs))
    configs["residualDetection"].detector = "matched_filter"
    assert any("residualDetection.detector.name" in contract for contract in broken_contracts(configs))


def test_singles_deblended_in_another_way_break_a_contract(configs):
    configs["residualDetection"].singles.max_iterations += 1
    assert any("singles" in contract for contract in broken_contracts(configs))


@pytest.mark.parametrize(("pipeline", "iteration"), [("embedded", ""), ("embedded", "2"), ("iteration", "")])
def test_an_evaluation_leaves_out_what_its_run_does(pipeline, iteration):
    run = Pipeline.fromFile(str(PIPELINE.with_name(f"{pipeline}.yaml")))
    run.to_graph()
    run.addConfigOverride(f"residualDetection{iteration}", "bad_mask_planes", ["SAT"])
    with pytest.raises(ContractError, match=f"evaluate{iteration} must leave out what residualDetection"):
        run.to_graph()
    run.addConfigOverride(f"evaluate{iteration}", "bad_mask_planes", ["SAT"])
    run.to_graph()
