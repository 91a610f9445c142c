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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ..io.whole_file import whole_file
from ..plots.markers import class_label
from ..plots.pictures import white_balance
from ..plots.run_figures import PEAK_COLOURS, run_figures
from ..truth.evaluation import Evaluation, PatchResult, PeakClass, TruthClass
from ..truth.metrics import ratio
from ..truth.pooling import pooled_column
from ..truth.summary import summarise
from .report_options import ReportOptions
from .views import Canvas, View, close_ups, patch_view

__all__ = ["write_report"]


@dataclass(frozen=True)
class Gallery:
    """Close-ups of one class, of ``total`` there are."""

    title: str
    views: list[View]
    total: int


def _number(value: float | None, digits: int = 2) -> str:
    """A number for people; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.{digits}g}"


def _percent(value: float | None, digits: int = 0) -> str:
    return _number(None) if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def _galleries(
    canvases: Sequence[Canvas], evaluations: Sequence[Evaluation], options: ReportOptions
) -> list[Gallery]:
    galleries = []
    for title, kind, wanted in (
        ("New peaks", PeakClass.UNLABELLED, options.max_unlabelled),
        ("Right: new peaks on sources that had none", PeakClass.RIGHT, options.max_right),
        ("Not recovered: unrecognised", TruthClass.UNRECOGNIZED, options.max_unrecovered),
        ("Not recovered: partially deblended", TruthClass.PARTIALLY_DEBLENDED, options.max_unrecovered),
        ("Shreds", PeakClass.SHRED, options.max_wrong),
        ("Spurious", PeakClass.SPURIOUS, options.max_wrong),
    ):
        table = "peaks" if isinstance(kind, PeakClass) else "truth"
        rows = pooled_column(evaluations, table, "class") == kind
        if table == "truth":
            rows = rows & (pooled_column(evaluations, "truth", "new_peak_id") < 0)
        if rows.any():
            views = close_ups(canvases, kind, wanted=wanted, size=options.zoom_pix)
            galleries.append(Gallery(title, views, int(rows.sum())))
    return galleries


def _peak_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """New peaks of all patches, highest score first."""
    rows = [{**dict(row), "patch": evaluation.name} for evaluation in evaluations for row in evaluation.peaks]
    return sorted(rows, key=lambda row: -math.inf if math.isnan(row["score"]) else row["score"], reverse=True)


def write_report(
    path: str | Path,
    results: Sequence[PatchResult],
    evaluations: Sequence[Evaluation],
    seconds: Mapping[str, float],
    *,
    title: str,
    detector: str,
    version: str,
    command: str = "",
    options: ReportOptions | None = None,
) -> None:
    """Write the report of a run.

    The page holds its pictures, plots and style; it fetches nothing and runs
    no script.

    Parameters
    ----------
    path : `str` or `~pathlib.Path`
        HTML file to write.
    results : `~collections.abc.Sequence` [`PatchResult`]
        The patches.
    evaluations : `~collections.abc.Sequence` [`Evaluation`]
        What `evaluate_patch` made of each, in the same order.
    seconds : `~collections.abc.Mapping` [`str`, `float`]
        Wall-clock time of each task, in the order to show.
    title : `str`
        Heading.
    detector : `str`
        Detector and model that found the new peaks.
    version : `str`
        Version of the package.
    command : `str`, optional
        Command that gave the results, to be shown; left out if absent.
    options : `ReportOptions`, optional
        How much to show; the defaults if absent.

    Raises
    ------
    ValueError
        Raised if results and evaluations are not of the same patches.
    """
    options = ReportOptions() if options is None else options
    names = [[item.name for item in items] for items in (results, evaluations)]
    if names[0] != names[1]:
        raise ValueError(f"results are of patches {names[0]}, but evaluations of {names[1]}")
    summary = summarise(evaluations)
    canvases = [
        Canvas(
            result,
            evaluation,
            white_balance(result.scene),
            limit=options.residual_sigma,
            smoothing_pix=options.residual_smoothing_pix,
        )
        for result, evaluation in zip(results, evaluations, strict=True)
    ]
    rows = _peak_rows(evaluations)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=_number, percent=_percent, class_label=class_label)
    page = environment.get_template("page.html.j2").render(
        title=title,
        detector=detector,
        version=version,
        command=command,
        options=options,
        summary=summary,
        limits=summary["options"],
        has_truth=summary["n_truth"] is not None,
        bands=list(dict.fromkeys(band for evaluation in evaluations for band in evaluation.bands)),
        views=[patch_view(canvas, options.patch_pix) for canvas in canvases[: options.max_patches]],
        galleries=_galleries(canvases, evaluations, options),
        figures=run_figures(evaluations, summary),
        rows=rows[: options.max_rows],
        n_rows=len(rows),
        seconds=dict(seconds),
        share=lambda value: ratio(value, sum(seconds.values())),
        colours=PEAK_COLOURS,
    )
    with whole_file(Path(path)) as temporary:
        temporary.write_text(page, encoding="utf-8")
