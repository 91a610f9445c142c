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


"""Rows of pictures: whole patches and close-ups of single sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..plots.markers import (
    Marker,
    Window,
    busiest_window,
    class_label,
    outline_path,
    patch_markers,
    window_around,
)
from ..plots.pictures import colour_picture, png_data_uri, residual_picture, smoothed_significance
from ..scene import Array
from ..truth.evaluation import Evaluation, PatchResult, PeakClass, TruthClass

__all__ = ["Canvas", "Panel", "View", "close_ups", "patch_view"]


@dataclass(frozen=True)
class Panel:
    """One picture.

    Parameters
    ----------
    title : `str`
        What it shows.
    uri : `str`
        The PNG, one pixel of it for one of the data.
    markers : `tuple` [`Marker`, ...]
        Marks on it.
    outlines : `str`
        Data of an SVG path round the footprints; empty for none.
    """

    title: str
    uri: str
    markers: tuple[Marker, ...]
    outlines: str = ""


@dataclass(frozen=True)
class View:
    """Data, model and residuals of one window.

    Parameters
    ----------
    title : `str`
        Heading.
    caption : `tuple` [`str`, ...]
        Facts, one after the other.
    kind : `str`
        Class shown, as in the style sheet; empty for a patch.
    window : `Window`
        Pixels shown.
    panels : `tuple` [`Panel`, ...]
        The pictures, in order.
    pix_per_arcsec : `float`
        Their scale.
    """

    title: str
    caption: tuple[str, ...]
    kind: str
    window: Window
    panels: tuple[Panel, ...]
    pix_per_arcsec: float


@dataclass(frozen=True, eq=False)
class Canvas:
    """A patch and how to draw it.

    Parameters
    ----------
    result : `PatchResult`
        The patch.
    evaluation : `Evaluation`
        Its sources and peaks.
    gains : `numpy.ndarray`, (band,)
        Factors of the bands in pictures of fluxes.
    limit : `float`
        Stretch of the residuals, in units of their noise.
    smoothing_pix : `float`
        Standard deviation of the Gaussian that residuals are smoothed with.
    """

    result: PatchResult
    evaluation: Evaluation
    gains: Array
    limit: float
    smoothing_pix: float


def _view(
    canvas: Canvas,
    window: Window,
    title: str,
    caption: Sequence[str],
    kind: str = "",
    always: tuple[Marker, ...] = (),
) -> View:
    """Pictures of a window, with ``always`` on each of them."""
    result, bands = canvas.result, canvas.result.scene.bands
    markers = patch_markers(result, canvas.evaluation, window)
    # The pictures are to be seen: what was known is marked on the model, what
    # was missing and what was found on the others.
    known = tuple(mark for mark in markers if mark.kind in ("old", "truth"))
    missing = tuple(mark for mark in markers if mark not in known)
    # Only the window is rendered, however large the patch.
    scene = window.cut(result.scene)
    before, after = result.model_before.image(scene), result.model_after.image(scene)

    def flux(images: Array) -> str:
        return png_data_uri(colour_picture(images, canvas.gains, bands))

    def residual(model: Array) -> str:
        significance = smoothed_significance(scene, model, canvas.smoothing_pix)
        return png_data_uri(residual_picture(significance, bands, canvas.limit))

    panels = (
        Panel("Data", flux(scene.images), missing + always, outline_path(result.before, window)),
        Panel("Model before", flux(before), known + always),
        Panel("Residual before", residual(before), missing + always),
        Panel("Residual after", residual(after), missing + always),
    )
    return View(title, tuple(caption), kind, window, panels, 1.0 / scene.pixel_scale_arcsec)


def patch_view(canvas: Canvas, max_pix: int) -> View:
    """Pictures of a patch, or of the part of it where most happens.

    Parameters
    ----------
    canvas : `Canvas`
        The patch.
    max_pix : `int`
        Longest side shown.

    Returns
    -------
    view : `View`
        The window with the largest number of new peaks and of sources to
        find.
    """
    result, evaluation = canvas.result, canvas.evaluation
    places = [np.stack([evaluation.peaks["y"], evaluation.peaks["x"]], axis=1)]
    facts = [f"{evaluation.n_peaks} peaks, {len(evaluation.peaks)} new"]
    if evaluation.truth is not None:
        kinds = [TruthClass.UNRECOGNIZED, TruthClass.PARTIALLY_DEBLENDED]
        targets = evaluation.truth[np.isin(evaluation.truth["class"], kinds)]
        places.append(np.stack([targets["y"], targets["x"]], axis=1))
        facts.append(f"{len(targets)} unrecognised sources, {(targets['new_peak_id'] >= 0).sum()} recovered")
    window = busiest_window(result.scene, np.concatenate(places).astype(np.float64), max_pix)
    height, width = result.scene.shape
    if (window.height, window.width) != (height, width):
        facts.append(
            f"shown: {window.width} x {window.height} of {width} x {height} pixels, "
            f"from x {window.left}, y {window.top}, where most of them are"
        )
    return _view(canvas, window, result.name, facts)


def _spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """At most ``wanted`` of ``count`` ranks, evenly from first to last."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def _source_facts(row: dict[str, float]) -> list[str]:
    facts = [f"SNR {row['snr']:.0f}"]
    if np.isfinite(row["separation_pix"]):
        facts.append(
            f"{row['separation_pix']:.1f} pix ({row['separation_fwhm']:.1f} FWHM) from a brighter source"
        )
    if np.isfinite(row["flux_ratio"]):
        facts.append(f"flux ratio {row['flux_ratio']:.2g}")
    return facts


def close_ups(canvases: Sequence[Canvas], name: str, *, wanted: int, size: int) -> list[View]:
    """Pictures of the new peaks of a class, or of sources not recovered.

    Parameters
    ----------
    canvases : `~collections.abc.Sequence` [`Canvas`]
        The patches.
    name : `str`
        A `PeakClass`, ranked by score, or a `TruthClass`: its sources
        without a new peak, ranked by signal to noise.
    wanted : `int`
        How many at most, spread evenly through the ranking, so that they are
        typical and not the best.
    size : `int`
        Side in pixels.

    Returns
    -------
    views : `list` [`View`]
        Highest rank first.
    """
    of_peaks = name in list(PeakClass)
    found = []
    for place, canvas in enumerate(canvases):
        table = canvas.evaluation.peaks if of_peaks else canvas.evaluation.truth
        if table is None:
            continue
        for row in table[table["class"] == name]:
            if of_peaks or row["new_peak_id"] < 0:
                rank = row["score"] if of_peaks else row["snr"]
                found.append((-np.nan_to_num(rank, nan=-np.inf), place, dict(row)))
    found.sort(key=lambda item: (item[0], item[1], item[2]["id"]))

    views = []
    for rank in _spread(len(found), wanted):
        _, place, row = found[rank]
        canvas = canvases[place]
        facts = []
        if of_peaks:
            facts.append(f"score {row['score']:.2f}")
            truth = canvas.evaluation.truth
            if truth is not None and row["true_id"] >= 0:
                source = truth[truth["id"] == row["true_id"]][0]
                facts += _source_facts(dict(source))
                facts.append(f"{row['distance_pix']:.1f} pix off the true place")
        else:
            facts += _source_facts(row)
        facts.append(f"{canvas.result.name}, x {row['x']:.1f}, y {row['y']:.1f}")
        window = window_around(canvas.result.scene, row["y"], row["x"], size)
        subject = Marker("subject", *window.to_picture(row["y"], row["x"]), "")
        views.append(_view(canvas, window, class_label(name), facts, str(name), (subject,)))
    return views
