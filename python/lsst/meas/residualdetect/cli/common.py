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

"""What several commands need: progress, options, the pipeline's files."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..io.package_files import find_file

__all__ = [
    "check_folder",
    "check_parent",
    "check_stems",
    "console",
    "ended_by_signals",
    "pipeline_path",
    "progress_bar",
]

console = Console(stderr=True, highlight=False)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; gives the function that moves it on.

    Where standard error is no terminal one line says what is under way.
    """
    if not console.is_terminal:
        console.print(f"{description} ({total})")
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a polite kill, or a terminal that closes, end the work as Ctrl-C
    does, so that what is half done is taken back.
    """

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_folder(path: Path) -> None:
    """Make a folder for output; refuse a path that is a file."""
    if path.exists() and not path.is_dir():
        raise click.UsageError(f"{path} is a file; expected a folder")
    path.mkdir(parents=True, exist_ok=True)


def check_parent(path: Path) -> None:
    """Refuse, before any work is done, a file whose folder is not there."""
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{path.parent} is no folder, so {path} cannot be written")


def check_stems(scenes: tuple[Path, ...]) -> None:
    """Refuse files whose results could not be told apart."""
    stems = [path.stem for path in scenes]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise click.UsageError(f"several scene files are named {', '.join(twice)}")


def pipeline_path(name: str) -> Path:
    """Where a pipeline of the package is; see `find_file`."""
    return find_file("pipelines", name)
