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


"""Many patches in one repository, with workers that die and a disk that fills.

    python benchmarks/soak.py
    python benchmarks/soak.py --patches 20 --size 100

Puts a few simulated scenes into an embedded repository many times over, runs the
pipeline with four workers, kills one of them at random, and, where it may mount a
file system, fills the disk once. Runs it again as a user would (--extend-run
--skip-existing) until it ends well. Then every patch of a scene must hold the same
tables, those of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from lsst.daf.butler import Butler

from lsst.meas.residualdetect.butler.repository import COADDS_COLLECTION, create_repository, ingest_scenes
from lsst.meas.residualdetect.io.scene_file import SceneFile
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scenes

PIPELINE = Path(__file__).parents[1] / "pipelines" / "embedded.yaml"
TABLES = ("object", "object_residual", "object_candidates_residual", "evaluation_peaks_residual")
N_SCENES = 4


def start(repo: Path, output: str, jobs: int, *again: str) -> subprocess.Popen[bytes]:
    """Begin to run the pipeline on all patches of a repository."""
    log = (repo.parent / f"{output}.log").open("ab")
    return subprocess.Popen(
        [
            *(Path(sys.executable).with_name("pipetask"), "run", "-b", repo, "-o", output, "-j", str(jobs)),
            *(again or ("-i", COADDS_COLLECTION, "--register-dataset-types")),
            *("-p", f"{PIPELINE}#firstIteration"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=log,
    )


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that a run has begun, as Linux knows them."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def written(repo: Path, output: str) -> int:
    """Patches that are done."""
    with suppress(Exception):  # there is no such collection yet
        return len(
            Butler.from_config(str(repo)).query_datasets("object_residual", collections=output, explain=False)
        )
    return 0


@contextmanager
def small_disk(root: Path, mib: int) -> Iterator[Path | None]:
    """A file system of its own, if one may be mounted."""
    place = root / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def tables(repo: Path, output: str, n_patches: int) -> list[dict[str, Any]]:
    """What was written for each patch."""
    butler = Butler.from_config(str(repo), collections=output)
    where = [{"skymap": "embedded", "tract": 0, "patch": patch} for patch in range(n_patches)]
    return [{name: butler.get(name, one).as_array() for name in TABLES} for one in where]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two patches hold the same tables."""
    return all(
        a.dtype == b.dtype
        and all(
            np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f") for name in a.dtype.names
        )
        for a, b in ((one[table], other[table]) for table in TABLES)
    )


@click.command()
@click.option("--patches", default=200, show_default=True, help="How many patches.")
@click.option("--size", default=150, show_default=True, help="Side of a patch in pixels.")
@click.option("--jobs", default=4, show_default=True, help="Workers.")
@click.option("--seed", default=1, show_default=True, help="Random seed, of sky and accidents.")
def main(patches: int, size: int, jobs: int, seed: int) -> None:
    """Run all, with accidents, and compare."""
    rng, began = np.random.default_rng(seed), time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    drawn = list(simulate_scenes(N_SCENES, SimulationOptions(shape=(size, size)), seed, jobs=1))
    scenes = [SceneFile(scene, truth=truth) for scene, truth in drawn]
    quiet = root / "quiet"
    ingest_scenes(create_repository(quiet), scenes)
    if start(quiet, "out", 1).wait():
        raise click.ClickException((root / "out.log").read_text()[-2000:])
    mib = sum(path.stat().st_size for path in quiet.rglob("*") if path.is_file()) / 2**20
    found: dict[str, Any] = {"patches": patches, "size": size, "workers": jobs}
    with small_disk(root, 64 + int(1.2 * patches * mib / N_SCENES)) as disk:
        repo = (disk or root) / "repo"
        ingest_scenes(create_repository(repo), (scenes[patch % N_SCENES] for patch in range(patches)))
        accidents = ["a worker was killed", *(["the disk was full"] if disk else [])]
        exits, ballast = [], (disk or root) / "ballast"
        while True:
            run = start(repo, "out", jobs, *(("--extend-run", "--skip-existing") if exits else ()))
            wanted = written(repo, "out") + rng.integers(1, max(patches // 4, 2))
            while accidents and run.poll() is None:
                time.sleep(0.2)
                if written(repo, "out") >= wanted and workers(run):
                    if accidents[0] == "a worker was killed":
                        os.kill(int(rng.choice(workers(run))), signal.SIGKILL)
                    else:
                        with suppress(OSError), ballast.open("wb") as stream:
                            while True:
                                stream.write(bytes(2**16))
                    break
            exits.append(run.wait())
            done = accidents.pop(0) if accidents else "nothing"
            click.echo(
                f"{done}: exit {exits[-1]}, {written(repo, 'out')} of {patches} patches done", err=True
            )
            ballast.unlink(missing_ok=True)
            if not accidents and exits[-1] == 0:
                break
            if len(exits) > 6:
                raise click.ClickException((repo.parent / "out.log").read_text()[-2000:])
        reference = tables(quiet, "out", N_SCENES)
        outcome = tables(repo, "out", patches)
        found |= {
            "disk_filled": disk is not None,
            "exit_codes": exits,
            "right": sum(same(one, reference[patch % N_SCENES]) for patch, one in enumerate(outcome)),
            "seconds": round(time.monotonic() - began),
        }
    shutil.rmtree(root)
    click.echo(json.dumps(found))
    if found["right"] != patches:
        raise click.ClickException(f"{patches - found['right']} patches differ from those of the quiet run")


if __name__ == "__main__":
    main()
