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

"""Detectors side by side: time and memory over a whole patch.

    python benchmarks/detectors.py
    python benchmarks/detectors.py --size 1000 --detector onnx --detector detectron2
    python benchmarks/detectors.py --model OLD --model NEW --detector onnx

One simulated field, detected and deblended, is laid side by side until it fills
the patch. Each detector gets the same pixels in a process of its own, in turns;
the best turn counts. CPU seconds, of all threads, hardly depend on what else the
machine does. Memory is what the process grew by above its input.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detections import Peak
from lsst.meas.residualdetect.detectors import detector_names, load_detector
from lsst.meas.residualdetect.network.package import DEFAULT_MODEL
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene

FIELD_SIZE = 500

Patch = tuple[Scene, np.ndarray, list[Peak]]


def make_patch(size: int, seed: int) -> Patch:
    """Scene, model and peaks of a patch that repeats one simulated field."""
    side = min(FIELD_SIZE, size)
    field, _ = simulate_scene(SimulationOptions(shape=(side, side)), np.random.default_rng(seed))
    found = detect(field)
    model = deblend(field, found.parents).image(field)
    n = -(-size // side)

    def repeat(planes: np.ndarray) -> np.ndarray:
        return np.tile(planes, (1, n, n))[:, :size, :size]

    scene = Scene(repeat(field.images), repeat(field.variance), field.psfs, field.bands, repeat(field.mask))
    corners = [(side * row, side * column) for row in range(n) for column in range(n)]
    places = [(peak.y + y, peak.x + x) for y, x in corners for peak in found.peaks]
    inside = [(y, x) for y, x in places if y < size and x < size]
    return scene, repeat(model), [Peak(number, y, x) for number, (y, x) in enumerate(inside, start=1)]


def run_detector(name: str, model_name: str, size: int, seed: int, pipe: Connection) -> None:
    """Make the patch, look at it, and send seconds by the clock and of the
    processor, megabytes and the number of candidates.
    """
    scene, model, peaks = make_patch(size, seed)
    detector = load_detector(name, model_name)
    # Loads the network, which a pipeline does once for many patches.
    corner = scene.images.shape[0], min(64, size)
    small = Scene(
        scene.images[:, : corner[1], : corner[1]],
        scene.variance[:, : corner[1], : corner[1]],
        scene.psfs,
        scene.bands,
    )
    detector.detect(small, model[:, : corner[1], : corner[1]], [])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter(), time.process_time()
    found = detector.detect(scene, model, peaks)
    seconds = time.perf_counter() - start[0]
    of_processor = time.process_time() - start[1]
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    pipe.send((seconds, of_processor, growth, len(found)))


@click.command()
@click.option("--size", default=4000, show_default=True, help="Side of the patch in pixels.")
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    type=click.Choice(detector_names()),
    default=("onnx", "matched_filter"),
    show_default=True,
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=(DEFAULT_MODEL,),
    show_default=True,
    help="Model package; of several, each goes with each detector.",
)
@click.option("--turns", default=1, show_default=True, help="How often each detector runs.")
@click.option("--seed", default=1, show_default=True, help="Random seed.")
def main(size: int, detectors: tuple[str, ...], models: tuple[str, ...], turns: int, seed: int) -> None:
    """Compare detectors over a patch of SIZE x SIZE pixels in six bands."""
    context = multiprocessing.get_context("spawn")
    both = list(product(detectors, models))
    results: dict[tuple[str, str], list[tuple[float, float, float, int]]] = {key: [] for key in both}
    for _ in range(turns):
        for name, model in both:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=run_detector, args=(name, model, size, seed, sender))
            process.start()
            sender.close()
            results[name, model].append(receiver.recv())
            process.join()
    table = Table(
        title=f"{size} x {size} pixels, 6 bands, {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads"
    )
    names = "detector", "model"
    for column in (*names, "s", "times", "CPU s", "MiB more", "candidates"):
        table.add_column(column, justify="left" if column in names else "right")
    first = min(results[both[0]])[0]
    for key in both:
        seconds, of_processor, growth, n_found = min(results[key])
        numbers = f"{seconds:.1f}", f"{seconds / first:.2f}", f"{of_processor:.1f}", f"{growth:.0f}"
        table.add_row(key[0], Path(key[1]).name, *numbers, str(n_found))
    Console().print(table)


if __name__ == "__main__":
    main()
