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


"""What residual detection reads and writes in either world, without data."""

from __future__ import annotations

import sys

import pytest
from lsst.daf.butler import DatasetType
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import Pipeline
from lsst.pipe.base.testUtils import lintConnections, makeQuantum

import stack_stub
from lsst.meas.residualdetect.butler.repository import create_repository
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.tasks.residual_detection import (
    ResidualDetectionConfig,
    ResidualDetectionConnections,
    ResidualDetectionTask,
)

BANDS = ("g", "r")
MAXIMA = ("visit_max", "exposure_max", "detector_max")


def _connections(**options):
    config = ResidualDetectionConfig(**options)
    config.validate()
    return ResidualDetectionConnections(config=config)


def test_lint():
    lintConnections(ResidualDetectionConnections)


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("images", [False, True])
def test_the_stack_s_connections(cells, images):
    connections = _connections(use_cell_coadds=cells, write_images=images)
    assert set(connections.initInputs) == {"input_schema", "peak_schema"}
    assert set(connections.initOutputs) == {"output_schema", "output_peak_schema"}
    coadds = {"coadds_cell", "backgrounds"} if cells else {"coadds"}
    assert set(connections.inputs) == {"detections", "models"} | coadds
    extra = {"model_images", "residual_images"} if images else set()
    assert set(connections.outputs) == {"new_detections", "candidates"} | extra
    assert connections.output_peak_schema.name == "object_detection_peak_residual_schema"


def test_the_embedded_connections():
    connections = _connections(data_model="array", write_images=True)
    assert not connections.initInputs and not connections.initOutputs
    storage = {name: getattr(connections, name).storageClass for name in connections.allConnections}
    assert set(storage.values()) == {"ArrayCoadd", "ArrayDetections", "ArrayModels", "ArrowAstropy"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_model": "array", "use_cell_coadds": True}, "has no coadds in cells"),
        ({"bands": ["g", "g"]}, "names a band twice"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(FieldValidationError, match=message):
        _connections(**options)


def test_an_iteration_does_not_overwrite_what_it_reads():
    config = ResidualDetectionConfig()
    config.connections.before = "_residual"
    with pytest.raises(FieldValidationError, match="before and after are both '_residual'"):
        config.validate()


@pytest.mark.parametrize("data_model", ["afw", "array"])
def test_a_quantum_can_be_made(tmp_path, data_model):
    # It knows the stack's storage classes too, by name.
    butler = create_repository(tmp_path / "repo")
    for dimension, record in (
        (
            "instrument",
            {"name": "made", "class_name": "", **dict.fromkeys(MAXIMA, 1)},
        ),
        ("skymap", {"name": "made", "hash": b"", "tract_max": 1, "patch_nx_max": 1, "patch_ny_max": 1}),
        ("tract", {"skymap": "made", "id": 0}),
        ("patch", {"skymap": "made", "tract": 0, "id": 0, "cell_x": 0, "cell_y": 0}),
        *(("physical_filter", {"instrument": "made", "name": band, "band": band}) for band in BANDS),
    ):
        butler.registry.insertDimensionData(dimension, record)
    config = ResidualDetectionConfig(data_model=data_model, write_images=True)
    connections = ResidualDetectionConnections(config=config)
    for name in {*connections.inputs, *connections.outputs} - {"coadds"}:
        connection = getattr(connections, name)
        butler.registry.registerDatasetType(
            DatasetType(
                connection.name, connection.dimensions, connection.storageClass, universe=butler.dimensions
            )
        )
    butler = butler.clone(run="made")
    patch = {"skymap": "made", "tract": 0, "patch": 0}
    bands = [{**patch, "band": band} for band in BANDS]
    where = {
        name: bands if getattr(connections, name).multiple else patch
        for name in (*connections.inputs, *connections.outputs)
    }

    class Task(ResidualDetectionTask):
        def __init__(self, config):
            self.config = config

    quantum = makeQuantum(Task(config), butler, patch, where)
    assert {kind.name for kind in quantum.inputs} == {
        "deep_coadd",
        "object_detection_merged",
        "object_scarlet_models",
    }


@pytest.fixture
def stack(monkeypatch):
    """What the pipelines need of the stack, where it is not."""
    tasks = "lsst.meas.residualdetect.tasks.redeblend_changed"
    for name in ("lsst.pipe.tasks", "lsst.pipe.tasks.deblendCoaddSourcesPipeline", tasks):
        monkeypatch.setitem(sys.modules, name, stack_stub)
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(find_file("pipelines", "embedded.yaml").parents[1]))


def _graph(name, tmp_path, parameters="{}", **overrides):
    """Of a pipeline that imports the ingredient, as users' pipelines do."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "description: Mine.\nimports:\n"
        f"  - $MEAS_RESIDUALDETECT_DIR/pipelines/{name}.yaml\nparameters: {parameters}\n"
    )
    pipeline = Pipeline.fromFile(str(path))
    for label, (field, value) in overrides.items():
        pipeline.addConfigOverride(label, field, value)
    return pipeline.to_graph()


def _edges(graph, label, kind):
    return {edge.parent_dataset_type_name for edge in getattr(graph.tasks[label], kind).values()}


@pytest.mark.parametrize("cells", [False, True])
def test_the_second_deblend_reads_what_residual_detection_wrote(stack, tmp_path, cells):
    found, again = "residualDetection", "redeblend"
    overrides = {found: ("use_cell_coadds", cells), again: ("useCellCoadds", cells)}
    graph = _graph("residual_detection", tmp_path, **overrides)
    coadds = {"deep_coadd_cell_predetection", "deep_coadd_background"} if cells else {"deep_coadd"}
    assert _edges(graph, found, "inputs") == coadds | {"object_detection_merged", "object_scarlet_models"}
    assert _edges(graph, again, "inputs") == coadds | {
        "deconvolved_deep_coadd",
        "object_detection_merged_residual",
        "object_deblend",
        "object_scarlet_models",
        "object_parent_patch",
        "object_candidates_residual",
    }
    assert {name.removesuffix("_metadata") for name in _edges(graph, again, "outputs")} >= {
        "object_deblend_residual",
        "object_scarlet_models_residual",
        "object_parent_patch_residual",
        "object_residual",
    }
    init = graph.tasks[again].init
    assert {edge.parent_dataset_type_name for edge in init.inputs.values()} == {
        edge.parent_dataset_type_name for edge in graph.tasks[found].init.outputs.values()
    } - {f"{found}_config"}


def test_the_older_names_and_a_later_iteration(stack, tmp_path):
    parameters = "{names: deepCoadd, before: _residual, after: _residual2}"
    graph = _graph("residual_detection", tmp_path, parameters)
    assert _edges(graph, "residualDetection", "inputs") == {
        "deepCoadd_calexp",
        "deepCoadd_mergeDet_residual",
        "deepCoadd_scarletModelData_residual",
    }
    assert _edges(graph, "redeblend", "inputs") == {
        "deepCoadd_calexp",
        "deconvolved_deep_coadd",
        "deepCoadd_mergeDet_residual2",
        "deepCoadd_deblendedCatalog_residual",
        "deepCoadd_scarletModelData_residual",
        "object_parent_patch_residual",
        "deepCoadd_candidates_residual2",
    }
    assert "deepCoadd_deblendedCatalog_residual2" in _edges(graph, "redeblend", "outputs")
    with pytest.raises(ValueError, match="parameter names is 'deep'; expected base-v2 or deepCoadd"):
        _graph("residual_detection", tmp_path, "{names: deep}")


@pytest.mark.parametrize(
    ("names", "merged"), [("base-v2", "object_detection_merged"), ("deepCoadd", "deepCoadd_mergeDet")]
)
def test_two_iterations_follow_each_other(stack, tmp_path, names, merged):
    graph = _graph("residual_detection_twice", tmp_path, f"{{names: {names}}}")
    assert set(graph.tasks) == {"residualDetection", "redeblend", "residualDetection2", "redeblend2"}
    assert f"{merged}_residual" in _edges(graph, "residualDetection2", "inputs")
    assert f"{merged}_residual2" in _edges(graph, "redeblend2", "inputs")
    assert "object_parent_patch_residual" in _edges(graph, "redeblend2", "inputs")
    # What the first iteration writes is all that the second wants of this package.
    written = _edges(graph, "residualDetection", "outputs") | _edges(graph, "redeblend", "outputs")
    wanted = _edges(graph, "residualDetection2", "inputs")
    assert {name for name in wanted if name.endswith("_residual")} <= written


@pytest.mark.parametrize("name", ["LSSTCam", "HSC", "high_purity", "high_recovery"])
def test_config_overrides_load(name):
    config = ResidualDetectionConfig()
    config.load(str(find_file("pipelines", "embedded.yaml").parent.parent / "config" / f"{name}.py"))
    config.validate()
    assert config.toDict() != ResidualDetectionConfig().toDict()
