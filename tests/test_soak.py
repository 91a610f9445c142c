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

"""Two hundred patches in one repository, a worker killed and the disk filled.

A file system is mounted for it: run as root, or as ``unshare -rm make test-slow``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from lsst.daf.butler import Butler

from conftest import make_blend
from lsst.meas.residualdetect.butler.repository import (
    COADDS_COLLECTION,
    SKYMAP,
    create_repository,
    ingest_scenes,
)
from lsst.meas.residualdetect.io.package_files import find_file

pytestmark = pytest.mark.slow

N_PATCHES = 200
N_WORKERS = 4
N_SCENES = 4  # patch after patch, again and again
DISK_MIB = 300
TABLES = ("object", "object_residual", "object_candidates_residual", "evaluation_peaks_residual")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the patches and not much more."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def start(repo: Path, patches: range, log: Path, *again: str) -> subprocess.Popen[bytes]:
    """Send a worker through some patches, into a run of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [
                *(Path(sys.executable).with_name("pipetask"), "run", "-b", repo, "-i", COADDS_COLLECTION),
                *("--output-run", f"out/{patches.start}", "--register-dataset-types", *again),
                *("-d", f"patch >= {patches.start} AND patch < {patches.stop}"),
                *("-p", f"{find_file('pipelines', 'embedded.yaml')}#firstIteration"),
                *("-c", "residualDetection:detector=matched_filter"),
            ],
            stdout=stream,
            stderr=stream,
        )


def n_done(repo: Path) -> int:
    """How many patches are through the pipeline."""
    return sum(1 for _ in repo.glob("out/*/object_residual/**/*.parq"))


def contents(repo: Path, n_patches: int) -> list[dict[str, np.ndarray]]:
    """What each patch's tables hold, and how well its models fit."""
    butler = Butler.from_config(str(repo))
    collections = butler.collections.query("out/*")
    found = []
    for patch in range(n_patches):
        where = {"skymap": SKYMAP, "tract": 0, "patch": patch, "collections": collections}
        tables = {name: butler.get(name, **where) for name in TABLES}
        columns = {f"{name}.{key}": np.asarray(t[key]) for name, t in tables.items() for key in t.colnames}
        models = butler.get("object_scarlet_models_residual", **where)
        found.append({**columns, "chi2": np.array([parent.chi2 for parent in models])})
    return found


def test_all_patches_are_right_after_a_kill_and_a_full_disk(tmp_path, disk):
    scenes = [make_blend(seed, name=f"scene {seed}") for seed in range(N_SCENES)]
    quiet, repo, log = tmp_path / "quiet", disk / "repo", tmp_path / "log"
    ingest_scenes(create_repository(quiet), scenes)
    assert start(quiet, range(N_SCENES), log).wait() == 0, log.read_text()[-3000:]

    ingest_scenes(create_repository(repo), (scenes[patch % N_SCENES] for patch in range(N_PATCHES)))
    share = N_PATCHES // N_WORKERS
    parts = [range(first, first + share) for first in range(0, N_PATCHES, share)]
    workers = [start(repo, part, log) for part in parts]

    def wait_for(n_patches: int) -> None:
        while n_done(repo) < n_patches:
            assert any(worker.poll() is None for worker in workers), log.read_text()[-3000:]
            time.sleep(0.5)

    rng = np.random.default_rng()
    wait_for(int(rng.integers(1, N_PATCHES // 4)))
    workers[rng.integers(N_WORKERS)].kill()
    wait_for(int(rng.integers(N_PATCHES // 4, N_PATCHES // 2)))
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(2**16))
    assert all(worker.wait() != 0 for worker in workers)
    n_before = n_done(repo)
    assert n_before < N_PATCHES

    ballast.unlink()
    again = [start(repo, part, log, "--extend-run", "--skip-existing", "--clobber-outputs") for part in parts]
    assert [worker.wait() for worker in again] == [0] * N_WORKERS, log.read_text()[-3000:]
    right = contents(quiet, N_SCENES)
    for patch, found in enumerate(contents(repo, N_PATCHES)):
        for name, values in found.items():
            np.testing.assert_array_equal(values, right[patch % N_SCENES][name], err_msg=f"{name} of {patch}")
    print(f"{n_before} patches were done when the disk was full")
