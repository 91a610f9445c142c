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

"""Deblenders side by side: time, memory, chi-square, and fluxes against the
truth.

    python benchmarks/deblenders.py
    python benchmarks/deblenders.py --scene hsc_cosmos_35.npz
    python benchmarks/deblenders.py --device cuda

Simulates LSST coadds, detects in them as the stack does, and takes as many
blends of one source as of two, three ... ten. Every deblender gets the same
ones, in as many processes of one thread each as asked for, in turns; the best
turn of each counts. lsst.scarlet.lite takes part where it can be imported.
"""

from __future__ import annotations

import os

# Before numpy and torch: a process has one thread.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from lsst.meas.residualdetect import Parent
from lsst.meas.residualdetect.cli.scene_arguments import detections_of
from lsst.meas.residualdetect.deblend import (
    DeblendError,
    DeblendOptions,
    check_engine,
    deblend,
    deblend_scenes,
)
from lsst.meas.residualdetect.io.scene_file import SceneFile, read_scene_file, write_scene_file
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scenes
from lsst.meas.residualdetect.truth.matching import match_peaks
from lsst.meas.residualdetect.truth.measures import psf_sigma_pix

MOST_PEAKS = 10
MATCH_RADIUS_PIX = 2.5
SNR_EDGES = (5, 20, 50, 200, np.inf)


@dataclass(frozen=True)
class Contestant:
    """A deblender and how it is set up."""

    name: str
    engine: str
    options: DeblendOptions


@dataclass(frozen=True)
class Job:
    """Parents of one scene file."""

    path: Path
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Result:
    """What a deblender made of all jobs; rows of ``fluxes`` are peaks."""

    seconds: float
    mbytes: float
    chi2: np.ndarray
    n_iterations: np.ndarray
    n_failed: int
    fluxes: tuple[np.ndarray, ...]


def contestants(device: str) -> list[Contestant]:
    """Both deblenders with their defaults; lsst.scarlet.lite with a tenth of
    its tolerance; and both with fainter wings.
    """
    default, stack = DeblendOptions(), DeblendOptions(max_iterations=300)
    wings = 0.25
    found = [
        Contestant("factorized", "factorized", default),
        Contestant("scarlet_lite", "scarlet_lite", stack),
        Contestant("scarlet_lite, tolerance 1e-4", "scarlet_lite", replace(stack, tolerance=1e-4)),
        Contestant(
            f"factorized, threshold {wings}", "factorized", replace(default, background_threshold=wings)
        ),
        Contestant(
            f"scarlet_lite, threshold {wings}", "scarlet_lite", replace(stack, background_threshold=wings)
        ),
    ]
    if device != "cpu":
        there = replace(default, device=device, batch_mbytes=4096.0)
        found.insert(1, Contestant(f"factorized, {device}", "factorized", there))
    try:
        check_engine("scarlet_lite")
    except DeblendError as error:
        click.echo(error)
        return [contestant for contestant in found if contestant.engine != "scarlet_lite"]
    return found


def simulated_jobs(folder: Path, n_blends: int, size: int, seed: int) -> list[Job]:
    """Scene files and the blends to take from them."""
    wanted = np.full(MOST_PEAKS + 1, n_blends // MOST_PEAKS)
    jobs = []
    for scene, truth in simulate_scenes(20, SimulationOptions(shape=(size, size)), seed):
        path = folder / f"{scene.name}.npz"
        content = SceneFile(scene, truth=truth)
        chosen = []
        for parent in detections_of(content, path):
            if len(parent.peaks) <= MOST_PEAKS and wanted[len(parent.peaks)]:
                wanted[len(parent.peaks)] -= 1
                chosen.append(parent)
        write_scene_file(path, content)
        jobs.append(Job(path, tuple(chosen)))
        if not wanted[1:].any():
            break
    return jobs


def _peak_mbytes(*, reset: bool = False) -> float:
    with suppress(OSError):  # not on Linux
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


_together: Barrier


def _start(barrier: Barrier) -> None:
    global _together
    _together = barrier


def _work(contestant: Contestant, jobs: Sequence[Job]) -> Result:
    import torch

    torch.set_num_threads(1)
    scenes = [read_scene_file(job.path).scene for job in jobs]
    # What is loaded or compiled on first use is no part of the throughput.
    deblend(scenes[0], jobs[0].parents[:2], contestant.options, engine=contestant.engine)
    before = _peak_mbytes(reset=True)
    _together.wait(timeout=600)
    start = time.perf_counter()
    blends = [(scene, job.parents) for scene, job in zip(scenes, jobs, strict=True)]
    models = deblend_scenes(blends, contestant.options, engine=contestant.engine)
    seconds = time.perf_counter() - start
    mbytes = _peak_mbytes() - before
    fluxes = tuple(
        model.peak_fluxes([peak.id for parent in job.parents for peak in parent.peaks])
        for model, job in zip(models, jobs, strict=True)
    )
    parents = [parent for model in models for parent in model]
    chi2 = np.array([parent.reduced_chi2 for parent in parents])
    n_iterations = np.array([parent.n_iterations for parent in parents])
    n_failed = sum(bool(parent.failure) for parent in parents)
    return Result(seconds, mbytes, chi2, n_iterations, n_failed, fluxes)


def run(contestant: Contestant, jobs: Sequence[Job], n_processes: int) -> Result:
    """Every process takes each n-th parent of every scene."""
    context = multiprocessing.get_context("spawn")
    shares = [
        [replace(job, parents=job.parents[first::n_processes]) for job in jobs]
        for first in range(n_processes)
    ]
    with ProcessPoolExecutor(n_processes, context, _start, (context.Barrier(n_processes),)) as pool:
        results = list(pool.map(_work, repeat(contestant), shares))
    fluxes = tuple(np.concatenate(of_scene) for of_scene in zip(*(r.fluxes for r in results), strict=True))
    return Result(
        max(result.seconds for result in results),
        max(result.mbytes for result in results),
        np.concatenate([result.chi2 for result in results]),
        np.concatenate([result.n_iterations for result in results]),
        sum(result.n_failed for result in results),
        fluxes,
    )


def true_fluxes(jobs: Sequence[Job], n_processes: int) -> tuple[np.ndarray, np.ndarray]:
    """True flux and its signal-to-noise ratio of each peak and band, in the
    order of `Result.fluxes`; NaN for a peak of no source.
    """
    fluxes, ratios = [], []
    for job in jobs:
        content = read_scene_file(job.path)
        scene, truth = content.scene, content.truth
        parents = [parent for first in range(n_processes) for parent in job.parents[first::n_processes]]
        positions = np.array([(peak.y, peak.x) for parent in parents for peak in parent.peaks])
        flux = np.full((len(positions), len(scene.bands)), np.nan)
        if truth is not None:
            table = np.stack([truth[f"flux_{band}"] for band in scene.bands], axis=1).astype(np.float64)
            matched = match_peaks(
                np.stack([truth["y"], truth["x"]], axis=1).astype(np.float64),
                table.sum(axis=1),
                positions,
                radius_pix=MATCH_RADIUS_PIX,
                sigma_pix=psf_sigma_pix(scene),
            )
            flux[matched[matched >= 0]] = table[matched >= 0]
        variance = np.array([np.median(pixels[np.isfinite(pixels)]) for pixels in scene.variance])
        fluxes.append(flux)
        ratios.append(flux * np.sqrt((scene.psfs**2).sum((1, 2)) / variance))
    return np.concatenate(fluxes), np.concatenate(ratios)


def print_tables(results: dict[str, Result], n: int, jobs: Sequence[Job], n_processes: int) -> None:
    console = Console(width=140)
    first, *_ = results
    speed = Table(title=f"{n} blends, {n_processes} processes of one thread", title_justify="left")
    for heading in ("", "ms a blend", "blends/s", f"time / {first}", "iterations", "MB", "failed"):
        speed.add_column(heading, justify="right" if heading else "left", no_wrap=not heading)
    for heading in ("chi2 median", f"/ {first}", "95 %", f"/ {first}"):
        speed.add_column(heading, justify="right")
    for name, result in results.items():
        median, high = np.nanpercentile(result.chi2, [50, 95])
        median_0, high_0 = np.nanpercentile(results[first].chi2, [50, 95])
        speed.add_row(
            name,
            f"{1e3 * result.seconds * n_processes / n:.1f}",
            f"{n / result.seconds:.1f}",
            f"{result.seconds / results[first].seconds:.2f}",
            f"{result.n_iterations.mean():.0f}",
            f"{result.mbytes:.0f}",
            str(result.n_failed),
            f"{median:.4f}",
            f"{median / median_0:.4f}",
            f"{high:.3f}",
            f"{high / high_0:.3f}",
        )
    console.print(speed)

    true, snr = true_fluxes(jobs, n_processes)
    fluxes = {name: np.concatenate(result.fluxes) for name, result in results.items()}
    if np.isfinite(true).any():
        against = Table(
            title="Flux over true flux, every source and band: median (median absolute error)",
            title_justify="left",
        )
        against.add_column("", no_wrap=True)
        for low, high in pairwise(SNR_EDGES):
            inside = (snr >= low) & (snr < high)
            against.add_column(f"SNR {low:g} to {high:g} (n = {inside.sum()})", justify="right")
        for name, flux in fluxes.items():
            cells = []
            for low, high in pairwise(SNR_EDGES):
                inside = (snr >= low) & (snr < high)
                ratio = np.nan_to_num(flux[inside]) / true[inside]
                cells.append(f"{np.median(ratio):.3f} ({np.median(np.abs(ratio - 1)):.3f})")
            against.add_row(name, *cells)
        console.print(against)
        chosen = snr > 20
    else:
        chosen = fluxes[first] > 0
    between = Table(
        title="Median |difference of flux| / flux of two deblenders"
        + (", SNR > 20" if np.isfinite(true).any() else ""),
        title_justify="left",
    )
    between.add_column("", no_wrap=True)
    for name in fluxes:
        between.add_column(name, justify="right")
    for name, flux in fluxes.items():
        cells = []
        for other in fluxes.values():
            larger = np.maximum(flux, other)
            both = chosen & (larger > 0)
            cells.append(f"{np.median(np.abs(flux - other)[both] / larger[both]):.4f}")
        between.add_row(name, *cells)
    console.print(between)


@click.command(context_settings={"show_default": True})
@click.option("--blends", default=500, type=click.IntRange(MOST_PEAKS), help="How many blends.")
@click.option("--size", default=2000, type=click.IntRange(100), help="Side of a simulated coadd in pixels.")
@click.option("--seed", default=1, type=click.IntRange(0), help="Random seed of the simulation.")
@click.option("--processes", default=2, type=click.IntRange(1), help="Processes of one thread each.")
@click.option("--turns", default=2, type=click.IntRange(1), help="How often each deblender runs.")
@click.option("--device", default="cpu", help="A further device for factorized: cuda, cuda:1, ...")
@click.option(
    "--scene",
    "scenes",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use the peaks of scene files, not a simulation.",
)
def main(
    blends: int, size: int, seed: int, processes: int, turns: int, device: str, scenes: tuple[Path, ...]
) -> None:
    """Deblend the same blends with all deblenders and print ratios."""
    with tempfile.TemporaryDirectory() as folder:
        if scenes:
            jobs = [Job(path, detections_of(read_scene_file(path), path).parents) for path in scenes]
            processes = 1
        else:
            jobs = simulated_jobs(Path(folder), blends, size, seed)
        n = sum(len(job.parents) for job in jobs)
        click.echo(f"{n} blends in {len(jobs)} scenes")
        best: dict[str, Result] = {}
        for turn in range(turns):
            for contestant in contestants(device):
                result = run(contestant, jobs, processes)
                click.echo(f"turn {turn + 1}: {contestant.name}: {result.seconds:.1f} s")
                if contestant.name not in best or result.seconds < best[contestant.name].seconds:
                    best[contestant.name] = result
        print_tables(best, n, jobs, processes)


if __name__ == "__main__":
    main()
