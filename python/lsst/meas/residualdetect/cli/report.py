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

"""``residualdetect report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import console, options_of, values_option

if TYPE_CHECKING:
    from ..report import ReportOptions

__all__ = ["make_report", "report"]


def make_report(
    repo: Path,
    collection: str,
    out: Path,
    *,
    suffix: str | None = None,
    command: str = "",
    options: ReportOptions | None = None,
) -> None:
    """Write a run's report, ``summary.json`` beside it, and print the table.

    Parameters
    ----------
    repo : `~pathlib.Path`
        Embedded repository.
    collection : `str`
        Output of the run.
    out : `~pathlib.Path`
        HTML file to write.
    suffix : `str`, optional
        Iteration to report on; the last one if absent.
    command : `str`, optional
        What the user typed, to stand in the report.
    options : `~lsst.meas.residualdetect.report.ReportOptions`, optional
        How much to show; the defaults if absent.
    """
    from ..butler.repository import open_repository
    from ..io.whole_file import write_whole
    from ..release import __version__
    from ..report import write_report
    from ..tasks.read_run import last_iteration, read_patches, run_detector, task_usage
    from ..truth import strict_json, summarise
    from .run_table import print_summary

    with console.status("Making the report"):
        butler = open_repository(repo)
        if suffix is None:
            suffix = last_iteration(butler, collection)
        patches = read_patches(butler, collection, suffix)
        usage = task_usage(butler, collection)
        seconds = {label: used.seconds for label, used in usage.items()}
        detector = run_detector(butler, collection, suffix)
        summary = summarise([patch.evaluation for patch in patches])
        out.parent.mkdir(parents=True, exist_ok=True)
        write_report(
            out,
            patches,
            seconds,
            title=f"Residual detection: {collection}",
            detector=detector,
            version=__version__,
            command=command or f"residualdetect report {repo} {collection}",
            options=options,
        )
        facts = {**summary, "seconds": seconds, "detector": detector, "version": __version__}
        write_whole(out.with_name("summary.json"), strict_json(facts))
    print_summary(summary, usage, detector)
    click.echo(f"report: {out}")


@click.command()
@click.argument("repo", type=click.Path(file_okay=False, path_type=Path))
@click.argument("collection")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Page to write; summary.json is written beside it.",
)
@click.option("--iteration", type=click.IntRange(min=1), help="Which iteration; the last one if not given.")
@values_option("--show", text="How much to show, such as max_peaks=20000 or zoom_pix=64; see ReportOptions.")
def report(repo: Path, collection: str, out: Path, iteration: int | None, show: tuple[str, ...]) -> None:
    """Make the HTML report of a run in an embedded repository.

    The page opens on its candidates, to be sorted, filtered, looked at and
    marked; `residualdetect marks` reads the marks. Below them are pictures of
    patches and, where the scenes came with a truth, how the run holds against
    it.

    \b
    Example:
      residualdetect report repo residuals --out report.html
    """
    from ..report import ReportOptions

    suffix = None if iteration is None else "_residual" + ("" if iteration == 1 else str(iteration))
    make_report(repo, collection, out, suffix=suffix, options=options_of(ReportOptions, show, "--show"))
