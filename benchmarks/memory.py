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

"""Memory of each step of a patch, over the memory of its pixels.

    python benchmarks/memory.py
    python benchmarks/memory.py --size 1000 --step look

One simulated field, detected and deblended, is laid side by side until it fills
a patch of a repository. Each step reads the patch and does its work in a process
of its own. What counts is the most that the process had in memory, less what it
had, with all modules loaded, before it read any pixel; it is given over the size
of images, variances and masks. The deblender stops after two iterations: its
memory does not depend on how many there are.
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from lsst.meas.residualdetect import Detections, Footprint, Parent, Scene, SceneModel
from lsst.meas.residualdetect.butler import load_images
from lsst.meas.residualdetect.butler.images.stack import stack_bands
from lsst.meas.residualdetect.butler.repository import create_repository, ingest_scenes, open_repository
from lsst.meas.residualdetect.deblend import DeblendOptions, deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.find_missing import find_missing
from lsst.meas.residualdetect.io.fits_detections import read_detections, write_detections
from lsst.meas.residualdetect.io.fits_models import read_model, write_model
from lsst.meas.residualdetect.io.scene_file import SceneFile
from lsst.meas.residualdetect.scene_model import ParentModel, SourceModel
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene
from lsst.meas.residualdetect.truth import PatchResult, evaluate_patch

FIELD_SIZE = 500
QUICK = DeblendOptions(max_iterations=2, n_threads=1)


def _detect(scene: Scene, catalogue: Detections, model: SceneModel) -> None:
    detect(scene)


def _deblend(scene: Scene, catalogue: Detections, model: SceneModel) -> None:
    deblend(scene, catalogue.parents, QUICK)


def _look(scene: Scene, catalogue: Detections, model: SceneModel) -> None:
    find_missing(scene, catalogue, model, load_detector("onnx"))


def _filter(scene: Scene, catalogue: Detections, model: SceneModel) -> None:
    find_missing(scene, catalogue, model, load_detector("matched_filter"))


def _evaluate(scene: Scene, catalogue: Detections, model: SceneModel) -> None:
    evaluate_patch(PatchResult(scene.name, scene, catalogue, catalogue, model, model))


STEPS: dict[str, Callable[[Scene, Detections, SceneModel], None]] = {
    "read": lambda *patch: None,
    "detect": _detect,
    "deblend": _deblend,
    "look": _look,
    "matched filter": _filter,
    "evaluate": _evaluate,
}


def _moved_parent(parent: Parent, number: int, y: int, x: int) -> Parent:
    peaks = tuple(replace(peak, id=number + peak.id, y=peak.y + y, x=peak.x + x) for peak in parent.peaks)
    return Parent(number + parent.id, Footprint(parent.footprint.spans + np.array([y, x, x])), peaks)


def _moved_model(fit: ParentModel, number: int, y: int, x: int) -> ParentModel:
    sources = tuple(
        SourceModel(
            number + source.peak_id,
            source.spectrum,
            source.morphology,
            (source.origin[0] + y, source.origin[1] + x),
        )
        for source in fit.sources
    )
    return replace(fit, parent_id=number + fit.parent_id, sources=sources)


def write_patch(folder: Path, size: int, field_size: int, seed: int) -> int:
    """Write a patch that repeats one simulated field, its catalogue and its
    model; the size of its pixels in bytes.
    """
    n = max(size // field_size, 1)
    field, _ = simulate_scene(
        SimulationOptions(shape=(min(field_size, size),) * 2), np.random.default_rng(seed)
    )
    found = detect(field)
    model = deblend(field, found.parents)
    images, variance, mask = (
        np.tile(planes, (1, n, n)) for planes in (field.images, field.variance, field.mask)
    )
    scene = Scene(images, variance, field.psfs, field.bands, mask, name="patch")
    ingest_scenes(create_repository(folder / "repo"), [SceneFile(scene)])
    step = 1 + max(peak.id for peak in found.peaks)
    tiles = [
        (step * (row * n + column), row * field.shape[0], column * field.shape[1])
        for row in range(n)
        for column in range(n)
    ]
    parents = [_moved_parent(parent, *tile) for tile in tiles for parent in found]
    fits = [_moved_model(fit, *tile) for tile in tiles for fit in model]
    write_detections(folder / "catalogue.fits", Detections(tuple(parents)))
    write_model(folder / "model.fits", replace(model, parents=tuple(fits)))
    return scene.images.nbytes + scene.variance.nbytes + scene.mask.nbytes


def _of_process(what: str) -> int:
    """Bytes, by the kernel's name of the quantity."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found.group(1))


def read_patch(folder: Path) -> Scene:
    """The patch as a task reads it."""
    butler, images = open_repository(folder / "repo"), load_images("array")
    refs = {ref.dataId["band"]: ref for ref in butler.query_datasets("deep_coadd", "coadds")}
    bands = sorted(refs)
    return stack_bands((images.read(butler.get(refs[band]), band) for band in bands), len(bands))


def run_step(name: str, folder: Path, small: Path, pipe: Connection) -> None:
    """Do a step, and send bytes and seconds."""
    for where in (small, folder):  # the small patch loads what the step needs
        before, start = _of_process("VmRSS"), time.process_time()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the most so far
        scene = read_patch(where)
        model = read_model(where / "model.fits").select_bands(scene.bands)
        STEPS[name](scene, read_detections(where / "catalogue.fits"), model)
        most, seconds = _of_process("VmHWM") - before, time.process_time() - start
        del scene, model
    pipe.send((most, seconds))


@click.command()
@click.option("--size", default=4096, show_default=True, help="Side of the patch in pixels.")
@click.option("--step", "steps", multiple=True, type=click.Choice(tuple(STEPS)), default=tuple(STEPS))
@click.option("--seed", default=1, show_default=True, help="Random seed.")
def main(size: int, steps: tuple[str, ...], seed: int) -> None:
    """Measure the steps on a patch of SIZE x SIZE pixels in six bands."""
    context = multiprocessing.get_context("spawn")
    table = Table("step", "memory, MiB", "over its pixels", "processor, s")
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch, "patch"), Path(scratch, "small")
        for folder in folders:
            folder.mkdir()
        n_tiles = max(size // FIELD_SIZE, 1)
        pixels = write_patch(folders[0], size, size // n_tiles, seed)
        write_patch(folders[1], 100, 100, seed)
        table.title = f"{size} x {size} pixels in 6 bands: {pixels / 2**20:.0f} MiB"
        for name in steps:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=run_step, args=(name, *folders, sender))
            process.start()
            sender.close()
            most, seconds = receiver.recv()
            process.join()
            table.add_row(name, f"{most / 2**20:.0f}", f"{most / pixels:.2f}", f"{seconds:.1f}")
            click.echo(f"{name}: {most / pixels:.2f}", err=True)
    Console().print(table)


if __name__ == "__main__":
    main()
