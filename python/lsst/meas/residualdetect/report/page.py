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


"""The report of a run: one HTML page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..io.whole_file import whole_file
from ..plots.markers import class_label
from ..plots.run_figures import PEAK_COLOURS, run_figures
from ..truth.evaluation import EvaluatedPatch
from ..truth.metrics import ratio
from ..truth.summary import summarise
from .contents import Contents, draw_contents
from .report_options import ReportOptions
from .views import TITLES

__all__ = ["write_page", "write_report"]


def _number(value: float | None, digits: int = 2) -> str:
    """A number for people; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.{digits}g}"


def _percent(value: float | None, digits: int = 0) -> str:
    return _number(None) if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def write_report(
    path: str | Path,
    patches: Sequence[EvaluatedPatch],
    seconds: Mapping[str, float],
    *,
    title: str,
    detector: str,
    version: str,
    command: str = "",
    options: ReportOptions | None = None,
) -> None:
    """Write the report of a run.

    The page holds its pictures, plots, style and script; it fetches nothing.

    Parameters
    ----------
    path : `str` or `~pathlib.Path`
        HTML file to write.
    patches : `~collections.abc.Sequence` [`EvaluatedPatch`]
        The run. The pixels of one patch at a time are in memory.
    seconds : `~collections.abc.Mapping` [`str`, `float`]
        Wall-clock time of each task, in the order to show.
    title : `str`
        Heading; a browser keeps marks by it.
    detector : `str`
        Detector and model that found the new peaks.
    version : `str`
        Version of the package.
    command : `str`, optional
        Command that gave the results, to be shown; left out if absent.
    options : `ReportOptions`, optional
        How much to show; the defaults if absent.
    """
    options = ReportOptions() if options is None else options
    evaluations = [patch.evaluation for patch in patches]
    summary = summarise(evaluations)
    write_page(
        path,
        draw_contents(patches, options),
        title=title,
        detector=detector,
        version=version,
        command=command,
        options=options,
        summary=summary,
        bands=list(dict.fromkeys(band for evaluation in evaluations for band in evaluation.bands)),
        figures=run_figures(evaluations, summary),
        seconds=dict(seconds),
    )


def write_page(path: str | Path, contents: Contents, *, seconds: dict[str, float], **words: Any) -> None:
    """Fill the template.

    Parameters
    ----------
    path : `str` or `~pathlib.Path`
        HTML file to write.
    contents : `Contents`
        Pictures and candidates.
    seconds : `dict` [`str`, `float`]
        Wall-clock time of each task.
    **words
        Other names that the template needs.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=_number, percent=_percent, class_label=class_label)
    names = list(contents.drawn[0].facts) if contents.drawn else []
    page = environment.get_template("page.html.j2").stream(
        **words,
        contents=contents,
        titles=TITLES,
        facts={"names": names, "rows": [list(item.facts.values()) for item in contents.drawn]},
        reasons=list(dict.fromkeys(item.facts["reason"] for item in contents.drawn)),
        kinds=list(dict.fromkeys(item.facts["class"] for item in contents.drawn if item.facts["class"])),
        limits=words["summary"]["options"],
        has_truth=words["summary"]["n_truth"] is not None,
        seconds=seconds,
        share=lambda value: ratio(value, sum(seconds.values())),
        colours=PEAK_COLOURS,
    )
    with whole_file(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(page)
