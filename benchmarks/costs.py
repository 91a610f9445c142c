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

"""What a survey costs: time, memory and bytes of each step, measured.

    python benchmarks/costs.py
    python benchmarks/costs.py --size 1000 --graph 50 --json costs.json

Makes one patch, of a simulated field of ten-year depth that is laid side by
side, puts it into an embedded repository, and runs the pipeline on it as a
batch system does: each task in a process of its own, of one thread. Seconds are
those of the processor, which hardly depend on what else the machine does. The
registry and the graph are measured on many small patches. From these: core
hours and bytes for a tract, the data previews, and the whole survey, as JSON, of
which ``benchmarks/results.py costs`` makes the tables of doc/costs.md.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from lsst.daf.butler import Butler

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.butler.repository import (
    COADDS_COLLECTION,
    SKYMAP,
    TRACT,
    create_repository,
    ingest_scenes,
)
from lsst.meas.residualdetect.io.scene_file import SceneFile
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene

PIPELINE = Path(__file__).parents[1] / "pipelines" / "embedded.yaml"
STEPS = ("detectPeaks", "deblend", "residualDetection", "redeblend", "evaluate")
ALL_AGAIN = "redeblend, all parents"
PATCH_SIZE = 3400  # of the skymap lsst_cells_v1: 20 cells of 150 pixels, one cell and 50 pixels around

# Patches, and patches times bands, that have coadds. DP1: dp1.lsst.io; DP2 and a year or more of the
# survey: the estimates of RTN-109 (tables 3 and 6).
SKIES = {
    "a tract": (100, 600),
    "DP1": (441, 2644),
    "DP2": (293_894, 1_072_709),
    "LSST, ten years": (1_285_731, 6 * 1_285_731),
}

# What cannot be measured here. Seconds of a core that the stack's deblender took for a patch in a
# production of LSSTCam data, and MB of its models in the first year's: RTN-109 (tables 2 and 7). How
# much longer it takes with the new peaks, all parents again: a patch of 400 x 400 pixels in the stack,
# 17.8 s after 10.8 s.
STACK = {"deblend_seconds": 2.6e7 / 26_788, "again": 17.8 / 10.8, "models_mb": 43_853e3 / 1_285_731}


def make_patch(size: int, field_size: int, seed: int) -> Scene:
    """A patch that repeats one simulated field."""
    side = min(field_size, size)
    field, _ = simulate_scene(SimulationOptions(shape=(side, side)), np.random.default_rng(seed))
    n = -(-size // side)
    images, variance, mask = (
        np.tile(planes, (1, n, n))[:, :size, :size] for planes in (field.images, field.variance, field.mask)
    )
    return Scene(images, variance, field.psfs, field.bands, mask, name="patch")


def pipetask(*arguments: object) -> float:
    """Run it on one thread; seconds of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [Path(sys.executable).with_name("pipetask"), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _written(butler: Butler, run: str) -> dict[str, int]:
    """Bytes of each kind of data set that a run wrote for patches."""
    written: Counter[str] = Counter()
    for ref in butler.registry.queryDatasets(..., collections=run):
        if "patch" in ref.dataId:
            written[ref.datasetType.name] += butler.getURI(ref).size()
    return written


def measure_steps(root: Path, scene: Scene) -> dict[str, dict[str, Any]]:
    """Seconds, MiB and bytes written of each step on one patch."""
    repo = root / "patch"
    butler = create_repository(repo)
    ingest_scenes(butler, [SceneFile(scene)])
    size = sum(_written(butler, COADDS_COLLECTION).values())
    steps: dict[str, dict[str, Any]] = {"coadds": {"bytes": size}}
    inputs = COADDS_COLLECTION
    for name in (*STEPS, ALL_AGAIN):
        label = name.partition(",")[0]
        changed = () if name in STEPS else ("-c", "redeblend:reuse_models=False")
        output = f"out/{len(steps)}"
        pipetask(
            *("run", "-b", repo, "-i", inputs, "-o", output, "--register-dataset-types"),
            *("-p", f"{PIPELINE}#{label}", *changed),
        )
        inputs = output if name in STEPS[:-1] else inputs
        butler.registry.refresh()
        run = butler.collections.get_info(output).children[0]
        where = {"skymap": SKYMAP, "tract": TRACT, "patch": 0}
        quantum = butler.get(f"{label}_metadata", where, collections=run)["quantum"]
        written = {
            key: value
            for key, value in _written(butler, run).items()
            if not key.endswith(("_metadata", "_log"))
        }
        steps[name] = {
            "seconds": float(quantum.getScalar("endCpuTime") - quantum.getScalar("prepCpuTime")),
            "mib": quantum.getScalar("endMaxResidentSetSize") / 2**20,
            "bytes": sum(written.values()),
            "datasets": written,
        }
        click.echo(f"{name}: {steps[name]['seconds']:.1f} s", err=True)
    return steps


def measure_graph(root: Path, n_patches: int, field: Scene) -> dict[str, float]:
    """Graph and registry, on patches of a few pixels."""
    repo, graph = root / "many", root / "many.qg"
    butler = create_repository(repo)
    side = min(100, field.shape[0])
    small = Scene(
        field.images[:, :side, :side],
        field.variance[:, :side, :side],
        field.psfs,
        field.bands,
        field.mask[:, :side, :side],
        name="small",
    )
    ingest_scenes(butler, (SceneFile(small) for _ in range(n_patches)))
    butler.close()
    registry = repo / "gen3.sqlite3"
    before = registry.stat().st_size
    common = ("-b", repo, "-i", COADDS_COLLECTION, "-o", "out", "-p", f"{PIPELINE}#firstIteration")
    seconds = pipetask("qgraph", *common, "--save-qgraph", graph)
    running = pipetask("run", *common, "--register-dataset-types")
    butler = Butler.from_config(str(repo))
    n_datasets = len(set(butler.registry.queryDatasets(..., collections="out/*")))
    return {
        "n_patches": n_patches,
        "graph_seconds": seconds,
        "graph_bytes": graph.stat().st_size,
        "run_seconds": running,
        "registry_bytes": registry.stat().st_size - before,
        "n_datasets": n_datasets,
    }


def totals(measured: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Core hours and TB of each sky; all goes with pixels and bands."""
    steps, share = measured["steps"], (PATCH_SIZE / measured["size"]) ** 2
    found = {}
    for name, (n_patches, n_patch_bands) in SKIES.items():
        n = share * n_patch_bands / len(measured["bands"])
        found[name] = {
            "n_patches": n_patches,
            "n_patch_bands": n_patch_bands,
            **{
                f"{label} hours": step["seconds"] * n / 3600
                for label, step in steps.items()
                if "seconds" in step
            },
            **{f"{label} TB": step["bytes"] * n / 1e12 for label, step in steps.items()},
        }
    return found


@click.command()
@click.option("--size", default=PATCH_SIZE, show_default=True, help="Side of the patch in pixels.")
@click.option("--field", default=850, show_default=True, help="Side of the simulated field that it repeats.")
@click.option(
    "--graph", "n_graph", default=50, show_default=True, help="Small patches for graph and registry."
)
@click.option("--seed", default=1, show_default=True, help="Random seed of the field.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write it here.")
def main(size: int, field: int, n_graph: int, seed: int, out: Path | None) -> None:
    """Measure, and print what was found as JSON."""
    root = Path(tempfile.mkdtemp(prefix="costs-"))
    try:
        scene = make_patch(size, field, seed)
        measured = {
            "size": size,
            "bands": "".join(scene.bands),
            "steps": measure_steps(root, scene),
            "graph": measure_graph(root, n_graph, scene),
        }
    finally:
        shutil.rmtree(root)
    text = json.dumps({**measured, "skies": totals(measured), "stack": STACK}, indent=1)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
