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


"""The commands of README and of doc/stack.md, run as they stand but for the
names that they leave to the reader; needs the stack.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

from lsst.daf.butler import Butler
from lsst.pipe.base import Pipeline

from afw_repository import (
    PIPELINE,
    WHERE,
    create_repository,
    detect,
    fill_patch,
    make_skymap,
    pipetask,
    simulate_exposures,
)

HOME = Path(__file__).parents[1]
PAGE = (HOME / "doc/stack.md").read_text()
BANDS = tuple("gri")
SIDE = 150
FIRST = f"{PIPELINE}#deconvolve,deblendCoaddFootprints"
needs_drp_pipe = pytest.mark.skipif(
    "DRP_PIPE_DIR" not in os.environ, reason="needs the LSST Science Pipelines (drp_pipe)"
)


def _block(text, language, word):
    """The code block that has the word in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if word in block)
    return block


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repository in which drp_pipe has run up to the deblender."""
    skymap = make_skymap(SIDE)
    exposures = simulate_exposures(skymap, BANDS, 3)
    for exposure in exposures.values():
        # As LSSTCam's coadds have it.
        exposure.mask.addMaskPlane("STREAK")
    root = tmp_path_factory.mktemp("page") / "repo"
    butler = create_repository(root, skymap, BANDS)
    # The pipeline is of one camera.
    butler.registry.insertDimensionData(
        "instrument",
        {"name": "LSSTCam", "class_name": "", "visit_max": 1, "exposure_max": 1, "detector_max": 1},
    )
    fill_patch(butler, exposures, detect(exposures, skymap))
    pipetask(root, "-p", FIRST)
    return root


def _run(command, repo, tmp_path):
    """A block of the documentation, in a shell where the package is set up."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    ours = programs / "residualdetect"
    ours.write_text(
        f"#!{sys.executable}\nfrom lsst.meas.residualdetect.cli import main\nraise SystemExit(main())\n"
    )
    ours.chmod(0o755)
    for written, here in {
        "REPO": str(repo),
        "INPUTS": "out,inputs",
        "skymap='lsst_cells_v1' AND tract=9813 AND patch=12": "skymap='made' AND tract=0 AND patch=0",
    }.items():
        command = command.replace(written, here)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "MEAS_RESIDUALDETECT_DIR": str(HOME)}
    done = subprocess.run(
        ["bash", "-ec", command], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_drp_pipe
def test_the_command_beside_drp_pipe(repo, tmp_path):
    pytest.importorskip("lsst.obs.lsst", reason="needs the LSST Science Pipelines (obs_lsst)")
    command = _block(PAGE, "sh", "-C residualDetection:")
    assert command in _block((HOME / "README.md").read_text(), "sh", "setup -k -r")
    # LSSTCam's coadds are in cells, those of this repository are not.
    print(_run(f"{command.rstrip()} -c parameters:use_cell_coadds=False", repo, tmp_path))
    butler = Butler.from_config(str(repo), collections="u/me/residuals")
    # All that the page says an iteration writes.
    table = PAGE[PAGE.index("What an iteration writes") :].split("\n\n")[1]
    names = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert {"object_residual", "object_deblend_residual", "deep_coadd_model"} <= set(names)
    for name in names:
        if not name.startswith("deep_coadd_"):  # with write_images alone
            assert butler.get(name, WHERE) is not None, name
    columns = next(row for row in table.splitlines() if row.startswith("| `object_residual`"))
    written = set(butler.get("object_residual", WHERE).colnames)
    described = set(re.findall(r"`(\w+(?:<band>)?)`", columns)) - {"object_residual"}
    assert {
        f"{name.removesuffix('<band>')}{band}" if "<" in name else name
        for name in described
        for band in (BANDS if "<" in name else ("",))
    } == written


def test_the_weights_in_the_butler(repo, tmp_path):
    commands = _block(PAGE, "sh", "register-model")
    options = f"-o u/me/weights --register-dataset-types -p {PIPELINE}#residualDetection"
    assert " ... " in commands
    print(_run(commands.replace("...", options), repo, tmp_path))
    butler = Butler.from_config(str(repo), collections="u/me/weights")
    assert "residual_detection_model" in {
        ref.datasetType.name for ref in butler.query_datasets("residual_detection_model")
    }
    assert butler.get("object_candidates_residual", WHERE) is not None


def test_the_pipeline_of_one_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(HOME))
    monkeypatch.setenv("MY_DIR", str(tmp_path))
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/mine.yaml").write_text(
        f"description: The first deblend.\nimports:\n  - location: {PIPELINE}\n"
        "    include: [deconvolve, deblendCoaddFootprints]\nparameters: {use_cell_coadds: true}\n"
    )
    path = tmp_path / "with_residuals.yaml"
    path.write_text(_block(PAGE, "yaml", "description: My pipeline"))
    graph = Pipeline.from_uri(str(path)).to_graph()
    assert set(graph.tasks) == {"deconvolve", "deblendCoaddFootprints", "residualDetection", "redeblend"}
    for label in ("residualDetection", "redeblend"):
        read = {edge.parent_dataset_type_name for edge in graph.tasks[label].inputs.values()}
        assert "deep_coadd_cell_predetection" in read and "deep_coadd" not in read
    assert graph.tasks["redeblend"].config.idGenerator.release_id == 1
