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

"""``residualdetect demo``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import click

from ..io.package_files import find_file
from .common import check_folder, console, jobs_option, progress_bar, seed_option, size_option
from .extras import need_extras

__all__ = ["demo"]

_OUTPUT = "residuals"

_SUBSETS = ("firstIteration", "secondIteration")

_POLL_S = 1.0


def _pipetask(repo: Path, subset: str, n_patches: int, jobs: int, log: Path) -> None:
    """Run a subset of the pipeline as a user would.

    What it prints goes to a file, whose end is shown if it fails.
    """
    from lsst.pipe.base import Pipeline

    from ..butler.repository import COADDS_COLLECTION, open_repository
    from ..tasks.read_run import n_finished

    program = Path(sys.executable).with_name("pipetask")
    if not program.exists():
        found = shutil.which("pipetask")
        if found is None:
            raise FileNotFoundError("the command pipetask is neither beside python nor on the PATH")
        program = Path(found)
    pipeline = f"{find_file('pipelines', 'embedded.yaml')}#{subset}"
    labels = Pipeline.fromFile(pipeline).task_labels
    arguments = [
        *("run", "-b", str(repo), "-i", COADDS_COLLECTION, "-o", _OUTPUT),
        *("-p", pipeline),
        *("-j", str(jobs), "--register-dataset-types"),
    ]
    console.print(shlex.join(["pipetask", *arguments]), soft_wrap=True)
    with (
        log.open("a") as stream,
        progress_bar("Running the pipeline", len(labels) * n_patches) as progress,
        subprocess.Popen([program, *arguments], stdout=stream, stderr=subprocess.STDOUT) as job,
        closing(open_repository(repo)) as butler,
    ):
        running, finished = True, 0
        while running:
            try:
                job.wait(_POLL_S)
                running = False
            except subprocess.TimeoutExpired:
                pass
            now = n_finished(butler, _OUTPUT, labels)
            progress(now - finished)
            finished = now
    if job.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise click.ClickException(f"pipetask failed (all it printed is in {log}):\n{tail}")


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the repository, the report and the summary.",
)
@click.option("--scenes", type=click.IntRange(min=1), default=4, show_default=True, help="Simulated patches.")
@size_option(300, 100, "patch")
@seed_option(2026)
@click.option(
    "--iterations", type=click.IntRange(1, 2), default=1, show_default=True, help="Iterations to run."
)
@jobs_option
def demo(out: Path, scenes: int, size: int, seed: int, iterations: int, jobs: int) -> None:
    """Show the whole idea on simulated LSST coadds.

    Simulates patches with a truth, puts them into a Butler repository, runs
    the pipeline on it with pipetask, and writes DIR/report.html and
    DIR/summary.json. A repository that is there already is replaced.

    \b
    Example:
      residualdetect demo --out demo
    """
    need_extras("simulate", "report")
    from ..butler.repository import create_repository, ingest_scenes
    from ..io.scene_file import SceneFile
    from ..simulation import SimulationOptions, simulate_scenes
    from .report import make_report

    start = time.monotonic()
    check_folder(out)
    repo = out / "repo"
    if repo.exists():
        if not (repo / "butler.yaml").is_file():
            raise click.UsageError(f"{repo} is there and is not a repository of an earlier demo")
        shutil.rmtree(repo)
    log = out / "pipetask.log"
    log.unlink(missing_ok=True)

    options = SimulationOptions(shape=(size, size))
    with progress_bar("Simulating LSST coadds", scenes) as progress:
        drawn = simulate_scenes(scenes, options, seed, jobs=jobs, progress=progress)
        contents = (SceneFile(scene, truth=truth) for scene, truth in drawn)
        ingest_scenes(create_repository(repo), contents)

    for subset in _SUBSETS[:iterations]:
        _pipetask(repo, subset, scenes, jobs, log)
    console.print(f"{time.monotonic() - start:.0f} seconds")
    make_report(repo, _OUTPUT, out / "report.html", command="residualdetect demo")
