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

"""One core, two cores, and two cores that two busy loops want as well.

    python benchmarks/threads.py
    python benchmarks/threads.py --size 300 --work deblend --turns 1

Each figure is that of a process of its own, which may use one core or two and
whose threads are the package's defaults: the best of some turns by the clock,
after one on a small field that loads everything. The busy loops have the same
two cores. On two idle cores two are to be 1.7 times as fast as one or more, and
beside the busy loops at most 2.5 times as slow.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.find_missing import find_missing
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene

SPAWN = multiprocessing.get_context("spawn")


def deblend_all(scene: Scene) -> Callable[[], object]:
    """Deblend what is detected."""
    parents = detect(scene).parents
    return lambda: deblend(scene, parents)


def look(scene: Scene) -> Callable[[], object]:
    """Look at the residual with the network."""
    catalogue = detect(scene)
    image = deblend(scene, catalogue.parents).image(scene)
    detector = load_detector("onnx")
    return lambda: find_missing(scene, catalogue, image, detector)


def detect_all(scene: Scene) -> Callable[[], object]:
    """Ordinary detection."""
    return lambda: detect(scene)


WORK = {"detect": detect_all, "deblend": deblend_all, "look": look}


def field(size: int, seed: int) -> Scene:
    """A simulated field."""
    return simulate_scene(SimulationOptions(shape=(size, size)), np.random.default_rng(seed))[0]


def run(work: str, cores: Sequence[int], size: int, seed: int, turns: int, pipe: Connection) -> None:
    """Do some work on these cores, and send the best time in seconds."""
    os.sched_setaffinity(0, cores)
    os.environ.pop("OMP_NUM_THREADS", None)
    WORK[work](field(64, seed))()
    job = WORK[work](field(size, seed))
    pipe.send("ready")
    pipe.recv()
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    pipe.send(min(seconds))


def spin(cores: Sequence[int]) -> None:
    """Use up a core."""
    os.sched_setaffinity(0, cores)
    while True:
        pass


@contextmanager
def busy_loops(cores: Sequence[int]) -> Iterator[None]:
    """As many of them as there are cores."""
    loops = [SPAWN.Process(target=spin, args=(cores,), daemon=True) for _ in cores]
    for loop in loops:
        loop.start()
    time.sleep(3)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def measure(work: str, cores: Sequence[int], size: int, seed: int, turns: int, *, busy: bool) -> float:
    """Best time of some work in seconds."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=run, args=(work, cores, size, seed, turns, theirs))
    process.start()
    theirs.close()
    ours.recv()
    if busy:
        with busy_loops(cores):
            ours.send("go")
            seconds = ours.recv()
    else:
        ours.send("go")
        seconds = ours.recv()
    process.join()
    return float(seconds)


@click.command()
@click.option("--size", default=1200, show_default=True, help="Side of the field in pixels.")
@click.option("--work", "works", multiple=True, type=click.Choice(tuple(WORK)), default=tuple(WORK))
@click.option("--turns", default=3, show_default=True, help="How often each is done.")
@click.option("--seed", default=1, show_default=True, help="Random seed.")
def main(size: int, works: tuple[str, ...], turns: int, seed: int) -> None:
    """Measure work on a field of SIZE x SIZE pixels in six bands."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise click.ClickException("this needs two cores")
    load = os.getloadavg()[0]
    table = Table(title=f"{size} x {size} pixels, 6 bands; load before {load:.1f}")
    for column in (
        "work",
        "one core, s",
        "two cores, s",
        "times as fast",
        "beside loops, s",
        "times as slow",
    ):
        table.add_column(column, justify="left" if column == "work" else "right")
    for work in works:
        one = measure(work, cores[:1], size, seed, turns, busy=False)
        two = measure(work, cores, size, seed, turns, busy=False)
        beside = measure(work, cores, size, seed, turns, busy=True)
        figures = (one, two, one / two, beside, beside / two)
        table.add_row(work, *(f"{figure:.2f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
