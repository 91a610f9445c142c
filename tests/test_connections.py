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

import pytest
from lsst.daf.butler import DatasetType
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import Pipeline
from lsst.pipe.base.testUtils import lintConnections, makeQuantum

from lsst.meas.residualdetect.butler.repository import create_repository
from lsst.meas.residualdetect.cli.common import pipeline_path
from lsst.meas.residualdetect.tasks.residual_detection import (
    ResidualDetectionConfig,
    ResidualDetectionConnections,
    ResidualDetectionTask,
)

BANDS = ("g", "r")
MAXIMA = ("visit_max", "exposure_max", "detector_max")
PIPELINES = [
    "residual_detection.yaml",
    "residual_detection_twice.yaml",
    "residual_detection_deepCoadd.yaml",
    "residual_detection_deepCoadd_twice.yaml",
]


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


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_can_be_read_without_the_stack(name, monkeypatch):
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(pipeline_path(name).parent.parent))
    pipeline = Pipeline.fromFile(str(pipeline_path(name)))
    twice = name.endswith("_twice.yaml")
    expected = {"residualDetection", "redeblend"} | ({"residualDetection2", "redeblend2"} if twice else set())
    assert set(pipeline.task_labels) == expected
    assert len(pipeline.subsets) == (2 if twice else 1)


@pytest.mark.parametrize("name", ["LSSTCam", "HSC", "high_purity", "high_recovery"])
def test_config_overrides_load(name):
    config = ResidualDetectionConfig()
    config.load(str(pipeline_path("embedded.yaml").parent.parent / "config" / f"{name}.py"))
    config.validate()
    assert config.toDict() != ResidualDetectionConfig().toDict()
