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


"""Data release production with residual detection in it: against a small
pipeline in the place of drp_pipe's, and against drp_pipe where it is set up.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from lsst.pipe.base import LabelSpecifier, Pipeline
from lsst.pipe.base.pipelineIR import PipelineIR
from lsst.utils import doImportType

from lsst.meas.residualdetect.io.package_files import find_file

HOME = find_file("pipelines", "embedded.yaml").parents[1]
OURS = ("residualDetection", "redeblend")
DEBLENDER = "lsst.pipe.tasks.deblendCoaddSourcesPipeline.DeblendCoaddSourcesMultiTask"
CAMERAS = ("LSSTCam", "LSSTComCam", "HSC")

# Every task of drp_pipe that reads a product of the deblender, and the
# connections through which it does.
READERS = {
    "lsst.pipe.tasks.multiBand.MeasureMergedCoaddSourcesTask": {
        "inputSchema": "schema",
        "scarletCatalog": "catalogue",
        "scarletModels": "models",
    },
    "lsst.drp.tasks.forcedPhotCoadd.ForcedPhotCoaddTask": {"scarletModels": "models"},
    "lsst.meas.extensions.multiprofit.pipetasks_fit.MultiProFitCoaddExpFitTask": {"models_scarlet": "models"},
    "lsst.meas.extensions.multiprofit.pipetasks_fit.MultiProFitCoaddSersicFitTask": {
        "models_scarlet": "models"
    },
    "lsst.pipe.tasks.postprocess.ConsolidateParentTractTask": {"inputCatalogs": "parents"},
}
BASE_V2 = {
    "schema": "object_deblend_residual_schema",
    "catalogue": "object_deblend_residual",
    "models": "object_scarlet_models_residual",
    "parents": "object_parent_patch_residual",
}
OLD_NAMES = {
    "schema": "deepCoadd_deblendedFlux_residual_schema",
    "catalogue": "deepCoadd_deblendedCatalog_residual",
    "models": "deepCoadd_scarletModelData_residual",
    "parents": "object_parent_patch_residual",
}
OBJECT_TABLE = "lsst.pipe.tasks.postprocess.TransformObjectCatalogTask"
WITH_RESIDUALS = "lsst.meas.residualdetect.tasks.transform_objects.ResidualObjectCatalogTask"

# Words that a data set of the deblender has in its name, and none other.
PRODUCTS = ("object_deblend", "scarlet", "deblended", "object_parent_patch")


def _path(camera):
    return HOME / "pipelines" / camera / "DRP.yaml"


def _upstream(camera):
    location, _ = yaml.safe_load(_path(camera).read_text())["imports"]
    return location


def _configured(task):
    """All that a pipeline sets of a task, by the field's name."""
    return {name: value for config in task.config or () for name, value in config.rest.items()}


def _deblender(pipeline):
    (label,) = (
        label for label, task in pipeline.tasks.items() if task.klass == DEBLENDER and label not in OURS
    )
    return label


def _check(camera, pipeline, upstream):
    label = _deblender(upstream)
    for name, subset in upstream.labeled_subsets.items():
        # Importing drops those that upstream emptied.
        if not subset.subset:
            continue
        added = set(OURS) if label in subset.subset else set()
        assert pipeline.labeled_subsets[name].subset == subset.subset | added, name
    parameters = dict(pipeline.parameters.mapping)
    assert {name: parameters.pop(name) for name in upstream.parameters.mapping} == dict(
        upstream.parameters.mapping
    )
    assert parameters == {
        "names": "deepCoadd" if camera == "HSC" else "base-v2",
        "before": "",
        "after": "_residual",
    }
    names = OLD_NAMES if camera == "HSC" else BASE_V2
    read = {}
    for task in pipeline.tasks.values():
        if task.klass in READERS:
            configured = _configured(task)
            read[task.klass] = {name: configured[f"connections.{name}"] for name in READERS[task.klass]}
    assert read == {
        reader: {name: names[what] for name, what in connections.items()}
        for reader, connections in READERS.items()
    }
    # Another class in the place of the stack's loses its options, which are said again.
    (table,) = (label for label, task in upstream.tasks.items() if task.klass == OBJECT_TABLE)
    assert pipeline.tasks[table].klass == WITH_RESIDUALS
    assert _configured(pipeline.tasks[table]) == _configured(upstream.tasks[table])
    again = _configured(pipeline.tasks["redeblend"])
    cells = _configured(pipeline.tasks["residualDetection"])["use_cell_coadds"]
    assert cells == again["useCellCoadds"] == "parameters.use_cell_coadds"
    assert again.get("idGenerator.release_id") == _configured(upstream.tasks[label]).get(
        "idGenerator.release_id"
    )


@pytest.mark.parametrize("camera", CAMERAS)
def test_upstream_s_parameters_stay_and_all_that_follows_reads_the_second_deblend(
    camera, tmp_path, monkeypatch
):
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(HOME))
    monkeypatch.setenv("DRP_PIPE_DIR", str(tmp_path))
    ours = yaml.safe_load(_path(camera).read_text())
    old = camera == "HSC"
    # As much of upstream's as is the same in all of its versions: labels,
    # subsets, parameters.
    tasks = {label: "some.Task" for subset in ours["subsets"].values() for label in subset["subset"]} | {
        label: task["class"] for label, task in ours["tasks"].items()
    }
    (label,) = (label for label, klass in tasks.items() if klass == WITH_RESIDUALS)
    tasks[label] = {**ours["tasks"][label], "class": OBJECT_TABLE}
    config = {"useCellCoadds": "parameters.use_cell_coadds"}
    if not old:
        config["idGenerator.release_id"] = "parameters.release_id"
    tasks["deblend" if old else "deblendCoaddFootprints"] = {"class": DEBLENDER, "config": config}
    for label in OURS:
        del tasks[label]
    document = {
        "description": "In the place of drp_pipe's.",
        "parameters": {"use_cell_coadds": True} | ({} if old else {"release_id": 7}),
        "tasks": tasks,
        "subsets": {
            name: {"subset": [label for label in subset["subset"] if label not in OURS]}
            for name, subset in ours["subsets"].items()
        },
    }
    upstream = Path(os.path.expandvars(_upstream(camera)))
    upstream.parent.mkdir(parents=True)
    upstream.write_text(yaml.safe_dump(document))
    _check(camera, PipelineIR.from_uri(str(_path(camera))), PipelineIR.from_uri(str(upstream)))


needs_drp_pipe = pytest.mark.skipif(
    "DRP_PIPE_DIR" not in os.environ, reason="needs the LSST Science Pipelines (drp_pipe)"
)


@needs_drp_pipe
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_real_drp_pipe(camera, monkeypatch):
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(HOME))
    pipeline = PipelineIR.from_uri(str(_path(camera)))
    _check(camera, pipeline, PipelineIR.from_uri(os.path.expandvars(_upstream(camera))))
    # Nobody else reads what the first deblend wrote.
    for label, task in pipeline.tasks.items():
        if task.klass == DEBLENDER or task.klass in READERS or label in OURS:
            continue
        products = [
            value
            for name, value in _configured(task).items()
            if name.startswith("connections.") and any(word in str(value) for word in PRODUCTS)
        ]
        assert not products, label
    if pipeline.steps:
        in_steps = set().union(*(pipeline.labeled_subsets[step.label].subset for step in pipeline.steps))
        assert set(OURS) <= in_steps


def _is_there(klass):
    try:
        doImportType(klass)
    except ImportError:
        return False
    return True


def _graph(location):
    """The graph of a pipeline's tasks; without those whose packages
    are not there.
    """
    classes = {label: task.klass for label, task in PipelineIR.from_uri(str(location)).tasks.items()}
    there = LabelSpecifier(labels={label for label, klass in classes.items() if _is_there(klass)})
    pipeline = Pipeline.from_uri(str(location))
    return pipeline.subsetFromLabels(there, pipeline.PipelineSubsetCtrl.EDIT).to_graph()


def _reads(graph, label):
    """Who reads what a task writes: its connection, by the reader's label and
    connection.
    """
    node = graph.tasks[label]
    written = {**node.outputs, **node.init.outputs}
    return {
        (edge.task_label, edge.connection_name): connection
        for connection, output in written.items()
        for edge in graph.consuming_edges_of(output.parent_dataset_type_name)
    }


@needs_drp_pipe
@pytest.mark.stack
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_graph_of_the_real_drp_pipe(camera, monkeypatch):
    missing = [klass for klass in (DEBLENDER, *READERS) if not _is_there(klass)]
    if missing:
        pytest.skip(f"needs the LSST Science Pipelines ({', '.join(missing)})")
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(HOME))
    upstream = _graph(os.path.expandvars(_upstream(camera)))
    ours = _graph(_path(camera))
    assert ours.tasks.keys() == upstream.tasks.keys() | set(OURS)

    deblender = _deblender(PipelineIR.from_uri(str(_path(camera))))
    before, after = _reads(upstream, deblender), _reads(ours, "redeblend")
    # Whoever read the first deblend reads the second, and nobody else does.
    assert after == before
    assert {reader for reader, _ in _reads(ours, deblender)} == set(OURS)
    # Upstream's readers today, each by the same connections.
    assert {(ours.tasks[reader].task_class_name, connection) for reader, connection in after} == {
        (klass, connection) for klass, connections in READERS.items() for connection in connections
    }
    (detections,) = (
        edge for edge in ours.tasks["redeblend"].inputs.values() if edge.connection_name == "mergedDetections"
    )
    assert ours.producing_edge_of(detections.parent_dataset_type_name).task_label == "residualDetection"
    for step in ours.task_subsets.values():
        assert (deblender in step) == (OURS[0] in step) == (OURS[1] in step) or step.label.startswith(
            "residualDetection"
        )
