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


"""How many cores are used, and by what.

Arrays here are small, and threads that share one spend more time waiting for
each other than working: much more where other processes want the same cores.
So a piece of work (a batch of blends, a band, a scene) has one thread, and
several cores work at several pieces.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["default_threads", "in_parallel", "in_processes", "one_thread", "usable_cores", "worker_processes"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Processor time allowed in, and length of, a period of this container.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# In one of several threads at work here, how many it may use itself.
_here = threading.local()


def usable_cores() -> int:
    """Number of cores that this process may use."""
    # Fewer than the machine has in a batch job; macOS cannot tell.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _QUOTA.read_text().partition(" ") if _QUOTA.is_file() else ("max", "", "")
    return cores if quota == "max" else max(min(cores, int(quota) // int(period)), 1)


def default_threads() -> int:
    """As many as OpenMP would use: what the user asks for with
    ``OMP_NUM_THREADS`` (``pipetask`` asks for one), else all usable cores. Of
    these its part, in a piece of work of `in_parallel`.
    """
    if n_threads := getattr(_here, "n_threads", 0):
        return int(n_threads)
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(wanted) if wanted.isdecimal() and int(wanted) else usable_cores()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within this scope an operation on arrays has one thread, in torch and
    in numpy's linear algebra. Afterwards all is as it was.
    """
    # Where torch has not been imported there is nothing to do, and it takes
    # seconds to import.
    torch: Any = sys.modules.get("torch")
    n_before = torch.get_num_threads() if torch else 1
    with threadpool_limits(1, user_api="blas"):
        try:
            if n_before > 1:
                torch.set_num_threads(1)
            yield
        finally:
            if n_before > 1:
                torch.set_num_threads(n_before)


def _start_thread(n_threads: int) -> None:
    _here.n_threads = n_threads
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def in_parallel(
    function: Callable[[_Item], _Result], items: Iterable[_Item], n_threads: int | None = None
) -> list[_Result]:
    """Apply a function to independent pieces of work, each on one thread.

    The threads share the interpreter, so it is array operations of some size
    that run side by side. Within a function that is itself run here, there is
    one thread.

    Parameters
    ----------
    function : `~collections.abc.Callable`
        What to do with a piece.
    items : `~collections.abc.Iterable`
        The pieces, begun in this order: the longest first is fastest.
    n_threads : `int`, optional
        At how many to work at a time; `default_threads` if absent.

    Returns
    -------
    results : `list`
        In the order of the pieces.

    Raises
    ------
    Exception
        What ``function`` raises; pieces that are not begun by then are left.
    """
    pieces = list(items)
    n = (
        1
        if hasattr(_here, "n_threads") or len(pieces) < 2
        else min(n_threads or default_threads(), len(pieces))
    )
    with one_thread():
        if n == 1:
            return [function(piece) for piece in pieces]
        pool = ThreadPoolExecutor(n, initializer=_start_thread, initargs=(max(default_threads() // n, 1),))
        try:
            return list(pool.map(function, pieces))
        finally:
            pool.shutdown(cancel_futures=True)


def _start_process(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _start_thread(1)
    if initializer is not None:
        initializer(*arguments)


@contextmanager
def worker_processes(
    jobs: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each; what they have not begun at the end of the
    scope is not done.

    They are spawned, so a script that uses them needs the usual ``if __name__
    == "__main__"``.

    Parameters
    ----------
    jobs : `int`
        How many.
    initializer : `~collections.abc.Callable`, optional
        Called with ``arguments`` in each of them first.
    arguments : `tuple`, optional
        Its arguments.

    Yields
    ------
    executor : `concurrent.futures.ProcessPoolExecutor`
        Where to submit work.
    """
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(
        jobs, context, initializer=_start_process, initargs=(initializer, arguments)
    )
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def in_processes(
    function: Callable[..., _Result],
    pieces: Iterable[tuple[Any, ...]],
    jobs: int,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[int, _Result]]:
    """Apply a function to independent pieces of work, each in a process of
    `worker_processes`.

    Parameters
    ----------
    function : `~collections.abc.Callable`
        What to do with a piece; of a module, so that it can be sent.
    pieces : `~collections.abc.Iterable` [`tuple`]
        Its arguments, piece by piece.
    jobs, initializer, arguments
        As for `worker_processes`.

    Yields
    ------
    number, result : `int`, object
        Which piece is done, and what came of it, in the order in which they
        are done.
    """
    with worker_processes(jobs, initializer, arguments) as executor:
        futures = {executor.submit(function, *piece): number for number, piece in enumerate(pieces)}
        for future in as_completed(futures):
            yield futures[future], future.result()
