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

"""What the package asks of a batch system, and a run through one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from lsst.daf.butler import Butler

bps = pytest.importorskip("lsst.ctrl.bps", reason="lsst-ctrl-bps is not installed")

from conftest import HIDDEN, make_blend  # noqa: E402
from lsst.meas.residualdetect.butler.repository import (  # noqa: E402
    COADDS_COLLECTION,
    create_repository,
    ingest_scenes,
)

ROOT = Path(__file__).parents[1]
RESOURCES = ROOT / "bps" / "resources.yaml"
LOCAL = ROOT / "bps" / "embedded_local.yaml"
REQUESTS = {"requestMemory", "requestCpus"}
FIRST_ITERATION = ("detectPeaks", "deblend", "residualDetection", "redeblend", "evaluate")


def _labels(pipeline: Path) -> set[str]:
    # Not loaded as a Pipeline: the stack's classes need the stack.
    return set(yaml.safe_load(pipeline.read_text()).get("tasks", {}))


def _requests() -> dict[str, dict[str, int]]:
    return bps.BpsConfig(str(RESOURCES))["pipetask"].toDict()


def _request(config, label, name):
    return config.search(name, opt={"curvals": {"curr_pipetask": label}})[1]


def test_every_task_of_the_package_has_requests_and_nothing_else_has():
    ours = set().union(*(_labels(path) for path in (ROOT / "pipelines").glob("*.yaml")))
    assert set(_requests()) == ours


@pytest.mark.parametrize("label", sorted(_requests()))
def test_requests_are_sensible(label):
    requests = _requests()[label]
    # Not requestWalltime: seconds in some plugins and minutes in others.
    assert set(requests) <= REQUESTS
    assert {name: type(value) for name, value in requests.items()} == dict.fromkeys(requests, int)
    assert 1024 <= requests["requestMemory"] <= 32 * 1024
    # pipetask run-qbb gives a quantum one thread.
    assert requests.get("requestCpus", 1) == 1


def test_a_second_iteration_needs_what_the_first_does():
    requests = _requests()
    for label in ("residualDetection", "redeblend", "evaluate"):
        assert requests[f"{label}2"] == requests[label]


def test_requests_hold_what_was_measured():
    """Half as much again as one patch took (doc/costs.md), and no more than
    three times as much.
    """
    steps = json.loads((ROOT / "doc" / "figures.json").read_text())["costs"]["results"]["steps"]
    for label in FIRST_ITERATION:
        took = max(step["mib"] for name, step in steps.items() if name.partition(",")[0] == label)
        assert 1.5 * took <= _requests()[label]["requestMemory"] <= 3 * took, f"{label} took {took:.0f} MiB"


def test_the_local_file_has_the_requests():
    config = bps.BpsConfig(str(LOCAL), defaults={})
    for label, requests in _requests().items():
        assert _request(config, label, "requestMemory") == requests["requestMemory"]


def test_a_file_of_one_s_own_can_change_a_request(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        yaml.safe_dump(
            {
                "includeConfigs": str(RESOURCES),
                "pipetask": {"residualDetection": {"requestMemory": 12345}},
            }
        )
    )
    config = bps.BpsConfig(str(mine))
    assert _request(config, "residualDetection", "requestMemory") == 12345
    assert _request(config, "redeblend", "requestMemory") == _requests()["redeblend"]["requestMemory"]


def test_a_local_job_is_all_tasks_of_a_patch():
    cluster = yaml.safe_load(LOCAL.read_text())["cluster"]["patch"]
    assert set(cluster["pipetasks"].split(",")) == _labels(ROOT / "pipelines" / "embedded.yaml")
    assert cluster["dimensions"].split(",") == ["skymap", "tract", "patch"]


def test_the_local_commands_are_bps_s_own_but_for_the_programs_folders():
    ours, default = yaml.safe_load(LOCAL.read_text()), bps.BPS_DEFAULTS
    pairs = {
        "createQuantumGraph": (ours["createQuantumGraph"], default["createQuantumGraph"]),
        "runQuantumCommand": (ours["runQuantumCommand"], default["runQuantumCommand"]),
        "pipetaskInit": [
            config["pipetask"]["pipetaskInit"]["runQuantumCommand"] for config in (ours, default)
        ],
        "finalJob": [config["finalJob"]["command1"] for config in (ours, default)],
    }
    for name, (command, theirs) in pairs.items():
        for folder in ("${CTRL_MPEXEC_DIR}/bin/", "${DAF_BUTLER_DIR}/bin/"):
            theirs = theirs.replace(folder, "")
        assert command.split() == theirs.split(), name


def test_the_jobs_of_a_run_without_a_cluster(tmp_path, monkeypatch):
    from lsst.ctrl.bps.drivers import transform_driver

    repo = tmp_path / "repo"
    ingest_scenes(create_repository(repo), [make_blend(1), make_blend(2, name="another")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))  # BPS writes there
    programs = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]))
    _, workflow = transform_driver(
        str(LOCAL),
        wms_service="lsst.ctrl.bps.BaseWmsService",  # any engine: nothing is submitted
        butler_config=str(repo),
        input=COADDS_COLLECTION,
        output="out",
        pipeline=f"{ROOT / 'pipelines' / 'embedded.yaml'}#firstIteration",
    )
    jobs = [workflow.get_job(name) for name in workflow]
    patches = [job for job in jobs if job.label == "patch"]
    assert sorted(int(job.tags["patch"]) for job in patches) == [0, 1]
    # All tasks of a patch, with the memory of the greediest.
    wanted = max(_requests()[label]["requestMemory"] for label in FIRST_ITERATION)
    for job in patches:
        assert job.quanta_counts == dict.fromkeys(FIRST_ITERATION, 1)
        assert (job.request_memory, job.request_cpus) == (wanted, 1)
        # Short of memory, it is tried again with twice as much, by engines that can.
        assert (job.memory_multiplier, job.number_of_retries) == (2, 5)
        assert job.executable.src_uri == "pipetask" and "run-qbb" in job.arguments
    # The repository is made ready before, and told of the outcome after.
    assert {job.label for job in jobs} == {"patch", "pipetaskInit"}
    assert workflow.get_final().label == "finalJob"


def test_a_run_through_parsl(tmp_path):
    pytest.importorskip(
        "lsst.ctrl.bps.parsl",
        reason="lsst-ctrl-bps-parsl is not installed, or with a parsl that does not fit",
        exc_type=ImportError,
    )
    repo = tmp_path / "repo"
    ingest_scenes(create_repository(repo), [make_blend(1), make_blend(2, name="another")])
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [
            *(programs / "bps", "submit", LOCAL),
            *("-b", repo, "-i", COADDS_COLLECTION, "-o", "out"),
            *("-p", f"{ROOT / 'pipelines' / 'embedded.yaml'}#firstIteration"),
            # What these scenes hide, the classical detector is known to find.
            *("--extra-qgraph-options", "-c residualDetection:detector=matched_filter"),
        ],
        cwd=tmp_path,
        # BPS writes under $PWD, which need not be where it runs.
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
            "PWD": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    # bps submit returns 0 after jobs have failed, too.
    logs = "\n".join(path.read_text() for path in tmp_path.glob("submit/**/*.stderr"))
    butler = Butler.from_config(str(repo))
    refs = butler.query_datasets("object_residual", collections="out", explain=False)
    assert sorted(ref.dataId["patch"] for ref in refs) == [0, 1], logs
    for ref in refs:
        objects = butler.get(ref)
        new = objects[objects["merge_peak_residual"]]
        assert len(new) == 1
        assert np.hypot(new["y"][0] - HIDDEN[0], new["x"][0] - HIDDEN[1]) < 1.5
