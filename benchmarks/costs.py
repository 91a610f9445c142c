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
hours and bytes for a tract, the data previews, and the whole survey.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from lsst.daf.butler import Butler

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.butler.repository import COADDS_COLLECTION, create_repository, ingest_scenes
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
    """Run it on one thread; seconds by the clock."""
    start = time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("pipetask"), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    return time.perf_counter() - start


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
        label, changed = (
            (name, ()) if name in STEPS else ("redeblend", ("-c", "redeblend:reuse_models=False"))
        )
        output = f"out/{len(steps)}"
        pipetask(
            *("run", "-b", repo, "-i", inputs, "-o", output, "--register-dataset-types"),
            *("-p", f"{PIPELINE}#{label}", *changed),
        )
        inputs = output if name in STEPS[:-1] else inputs
        butler.registry.refresh()
        run = butler.collections.get_info(output).children[0]
        quantum = butler.get(f"{label}_metadata", skymap="embedded", tract=0, patch=0, collections=run)[
            "quantum"
        ]
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
    """Core hours and TB of each sky; time goes with pixels and bands."""
    steps, share = measured["steps"], (PATCH_SIZE / measured["size"]) ** 2
    found = {}
    for name, (n_patches, n_patch_bands) in SKIES.items():
        equivalent = n_patch_bands / 6 * share

        def hours(*labels: str, n: float = equivalent) -> float:
            return sum(steps[label]["seconds"] for label in labels) * n / 3600

        def terabytes(*labels: str, n: float = equivalent) -> float:
            return sum(steps[label]["bytes"] for label in labels) * n / 1e12

        found[name] = {
            "n_patches": n_patches,
            "n_patch_bands": n_patch_bands,
            "first": hours("detectPeaks", "deblend"),
            "look": hours("residualDetection"),
            "changed": hours("redeblend"),
            "all": hours(ALL_AGAIN),
            "coadds": terabytes("coadds"),
            "first_tb": terabytes("detectPeaks", "deblend"),
            "added_tb": terabytes("residualDetection", "redeblend"),
        }
    return found


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))


def markdown(measured: Mapping[str, Any]) -> str:
    """The tables of doc/costs.md."""
    rows = [
        [
            name,
            f"{step['seconds']:.0f}" if "seconds" in step else "",
            f"{step['mib'] / 1024:.1f}" if "mib" in step else "",
            f"{step['bytes'] / 1e6:.0f}",
        ]
        for name, step in measured["steps"].items()
    ]
    tables = [_table(("step", "seconds of one core", "peak memory, GiB", "written, MB"), rows)]
    rows = [
        [
            name,
            f"{sky['n_patches']:,}",
            *(f"{sky[key]:,.0f}" for key in ("first", "look", "changed", "all")),
            *(f"{sky[key]:,.3g}" for key in ("coadds", "first_tb", "added_tb")),
        ]
        for name, sky in totals(measured).items()
    ]
    header = ("", "patches", "first detection and deblend", "residual detection", "redeblend, what changed")
    units = ("redeblend, all", "coadds, TB", "first deblend, TB", "added, TB")
    return "\n\n".join([*tables, _table((*header, *units), rows)])


@click.command()
@click.option("--size", default=PATCH_SIZE, show_default=True, help="Side of the patch in pixels.")
@click.option("--field", default=850, show_default=True, help="Side of the simulated field that it repeats.")
@click.option(
    "--graph", "n_graph", default=50, show_default=True, help="Small patches for graph and registry."
)
@click.option("--seed", default=1, show_default=True, help="Random seed of the field.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write what was measured here too.")
def main(size: int, field: int, n_graph: int, seed: int, out: Path | None) -> None:
    """Measure, and print the tables of doc/costs.md."""
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
    if out is not None:
        out.write_text(json.dumps(measured, indent=1) + "\n")
    click.echo(markdown(measured))
    click.echo(json.dumps(measured["graph"]))


if __name__ == "__main__":
    main()
