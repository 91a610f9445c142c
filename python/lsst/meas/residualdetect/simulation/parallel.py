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


"""Many scenes on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from astropy.table import Table

from ..scene import Scene
from ..threads import usable_cores, worker_processes
from .simulate import Truth, simulate_scene
from .simulation_options import SimulationError, SimulationOptions

__all__ = ["simulate_scenes"]

# The catalogue of a worker process, sent to it once and not with every scene.
_worker_catalogue: Table | None = None


def _start_worker(catalogue: Table | None) -> None:
    global _worker_catalogue
    _worker_catalogue = catalogue


def _simulate_numbered(
    options: SimulationOptions, seed: int, number: int, catalogue: Table | None = None
) -> tuple[Scene, Truth]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    catalogue = _worker_catalogue if catalogue is None else catalogue
    return simulate_scene(options, rng, f"{seed}-{number:05d}", catalogue)


def simulate_scenes(
    n: int,
    options: SimulationOptions,
    seed: int,
    *,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
    catalogue: Table | None = None,
) -> Iterator[tuple[Scene, Truth]]:
    """Simulate many scenes on all cores.

    Worker processes are spawned, so a script that calls this with more than
    one job needs the usual ``if __name__ == "__main__"``.

    Parameters
    ----------
    n : `int`
        How many scenes.
    options : `SimulationOptions`
        Survey and population.
    seed : `int`
        Scene k depends on ``seed`` and k only, whatever ``n`` and ``jobs``.
    jobs : `int`, optional
        Number of processes; all cores this process may use if absent.
    progress : `~collections.abc.Callable`, optional
        Called with the number of scenes just done, before each is yielded.
    catalogue : `astropy.table.Table`, optional
        Galaxies to draw from; see `simulate_scene`.

    Yields
    ------
    scene, truth : `Scene`, `numpy.ndarray`
        See `simulate_scene`, in order, named ``<seed>-<k>``; a few scenes
        are computed ahead of the one yielded.

    Raises
    ------
    SimulationError
        Raised if ``n`` or ``jobs`` is out of range, and by `simulate_scene`.
    """
    if n < 0 or (jobs is not None and jobs < 1):
        raise SimulationError(f"n is {n} and jobs is {jobs}; expected at least 0 and at least 1")
    jobs = min(jobs or usable_cores(), max(n, 1))
    if jobs == 1:
        for number in range(n):
            result = _simulate_numbered(options, seed, number, catalogue)
            progress(1)
            yield result
        return
    with worker_processes(jobs, _start_worker, (catalogue,)) as executor:
        submitted = (executor.submit(_simulate_numbered, options, seed, number) for number in range(n))
        pending = deque(islice(submitted, 2 * jobs))
        while pending:
            result = pending.popleft().result()
            pending.extend(islice(submitted, 1))
            progress(1)
            yield result
