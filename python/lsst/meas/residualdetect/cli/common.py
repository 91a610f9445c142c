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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin, get_type_hints

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..deblend import engine_names

if TYPE_CHECKING:
    from ..find_missing import FindMissingOptions
    from ..truth.evaluation import EvaluationOptions

__all__ = [
    "check_folder",
    "check_parent",
    "check_stems",
    "console",
    "detection_option",
    "ended_by_signals",
    "engine_option",
    "engines_option",
    "folder_option",
    "jobs_option",
    "limit_option",
    "limits_of",
    "number_of",
    "number_option",
    "options_of",
    "progress_bar",
    "search_of",
    "search_option",
    "seed_option",
    "share_option",
    "size_option",
    "values_option",
]

_Options = TypeVar("_Options")

console = Console(stderr=True, highlight=False)


def _all_cores(context: click.Context, parameter: click.Parameter, jobs: int | None) -> int:
    from ..threads import usable_cores

    return jobs or usable_cores()


jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    callback=_all_cores,
    help="Processes; as many as there are cores if not given.",
)

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A decorator of a command."""


def folder_option(of: str) -> Option:
    """``--out``: the folder of what a command makes."""
    return click.option("--out", required=True, type=click.Path(path_type=Path), help=f"Folder for the {of}.")


def number_option(default: int, text: str) -> Option:
    """``-n``: how many to make."""
    return click.option(
        *("-n", "--number"), type=click.IntRange(min=1), default=default, show_default=True, help=text
    )


def size_option(default: int, least: int, of: str) -> Option:
    """``--size``: the side of what is simulated."""
    kind, text = click.IntRange(min=least), f"Side of a {of} in pixels."
    return click.option("--size", type=kind, default=default, show_default=True, help=text)


def share_option(name: str, default: float, text: str) -> Option:
    """An option for a share above 0, up to 1."""
    kind = click.FloatRange(0, 1, min_open=True)
    return click.option(name, type=kind, default=default, show_default=True, help=text)


def seed_option(default: int) -> Option:
    """``--seed``: what is drawn."""
    kind = click.IntRange(min=0)
    return click.option("--seed", type=kind, default=default, show_default=True, help="Random seed.")


def values_option(name: str, *names: str, text: str, metavar: str = "NAME=VALUE") -> Option:
    """An option for texts like ``NAME=VALUE``, of which several are possible."""
    text = f"{text} Several are possible."
    return click.option(name, *names, multiple=True, metavar=metavar, help=text)


def _engine_option(text: str, *names: str, **facts: Any) -> Option:
    kind = click.Choice(engine_names())
    return click.option("--engine", *names, type=kind, show_default=True, help=text, **facts)


engine_option = _engine_option("Deblender.", default="factorized")

engines_option = _engine_option(
    *("Deblender of the tiles; several take turns, one named twice more often.", "engines"),
    multiple=True,
    default=("factorized",),
)

limit_option = values_option(
    *("--limit", "limits"),
    text="What counts, such as min_snr=5 or snr_edges=10,100; see EvaluationOptions.",
)


def limits_of(given: Sequence[str]) -> EvaluationOptions:
    """`EvaluationOptions` of what `limit_option` gave; see `options_of`."""
    from ..truth.evaluation import EvaluationOptions

    return options_of(EvaluationOptions, given, "--limit")


search_option = values_option(
    "--search",
    text="How candidates become peaks and how sources are deblended, such as min_distance_pix=2,"
    " bad_planes=SAT,CR or singles.max_iterations=100; see FindMissingOptions.",
)


def search_of(given: Sequence[str], **others: Any) -> FindMissingOptions:
    """`FindMissingOptions` of what `search_option` gave, and of what other
    command-line options say; see `options_of`.
    """
    from ..find_missing import FindMissingOptions

    twice = sorted({text.partition("=")[0] for text in given} & others.keys())
    if twice:
        raise click.UsageError(f"--search: there is an option of its own for {', '.join(twice)}")
    options = replace(options_of(FindMissingOptions, given, "--search"), **others)
    return replace(options, singles=replace(options.singles, bad_planes=options.bad_planes))


detection_option = values_option(
    "--detection",
    text="How sources are detected where none are given, such as threshold=4 or"
    " cull_peaks.rank_sufficient=10; see DetectionOptions.",
)


def options_of(cls: type[_Options], given: Sequence[str], option: str) -> _Options:
    """Options of texts like ``min_snr=5``, ``snr_edges=10,100``, or
    ``singles.max_iterations=100`` for those of options within.

    Raises
    ------
    click.UsageError
        Raised with the option's name if there is none of a name, or a value
        is not of its kind or makes no sense.
    """
    from pydantic import TypeAdapter, ValidationError

    kinds = get_type_hints(cls)
    values: dict[str, Any] = {}
    within: dict[str, list[str]] = {}
    for text in given:
        name, _, value = text.partition("=")
        name, _, rest = name.partition(".")
        kind = kinds.get(name)
        if kind is None or is_dataclass(kind) != bool(rest):
            known = ", ".join(f"{name}.…" if is_dataclass(kind) else name for name, kind in kinds.items())
            raise click.UsageError(f"{option}: unknown {text.partition('=')[0]!r}; known: {known}")
        if rest:
            within.setdefault(name, []).append(f"{rest}={value}")
            continue
        parts = [part for part in value.split(",") if part] if get_origin(kind) is tuple else value
        try:
            values[name] = TypeAdapter(kind).validate_python(parts)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise click.UsageError(f"{option} {text}: {reason[0].lower()}{reason[1:]}") from error
    values |= {name: options_of(kinds[name], texts, f"{option} {name}.") for name, texts in within.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def number_of(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number} {what}{'s' * (number != 1)}"


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
