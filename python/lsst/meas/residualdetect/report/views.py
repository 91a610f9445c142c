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


"""Rows of pictures: whole patches and single places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..detections import places_of
from ..plots.markers import (
    Marker,
    Window,
    busiest_window,
    class_label,
    outline_path,
    patch_markers,
    window_around,
)
from ..plots.pictures import (
    Picture,
    colour_picture,
    png_data_uri,
    residual_picture,
    smoothed_significance,
    white_balance,
)
from ..scene import Array
from ..truth.evaluation import TARGETS, Evaluation, PatchResult
from .report_options import ReportOptions

__all__ = ["TITLES", "Canvas", "Panel", "View", "patch_view", "source_view"]

# What the pictures of a place show, in the order of `Canvas.pictures`.
TITLES = ("Data", "Model", "Residual", "Residual after")


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
    options : `ReportOptions`
        How to draw.
    """

    result: PatchResult
    evaluation: Evaluation
    options: ReportOptions

    @cached_property
    def gains(self) -> Array:
        """Factors of the bands in pictures of fluxes: (band,)."""
        return white_balance(self.result.scene)

    @cached_property
    def before(self) -> Array:
        """Image of the first model: (band, y, x)."""
        return self.result.model_before.image(self.result.scene)

    @cached_property
    def after(self) -> Array:
        """Image of the model that has the new peaks: (band, y, x)."""
        return self.result.model_after.image(self.result.scene)

    def pictures(self, window: Window) -> tuple[Picture, ...]:
        """Data, model, residual, and residual after: (y, x, 3), uint8."""
        bands, scene = self.result.scene.bands, window.cut(self.result.scene)
        before, after = (model[:, *window.box(self.result.scene)] for model in (self.before, self.after))

        def residual(model: Array) -> Picture:
            significance = smoothed_significance(scene, model, self.options.residual_smoothing_pix)
            return residual_picture(significance, bands, self.options.residual_sigma)

        return (
            colour_picture(scene.images, self.gains, bands),
            colour_picture(before, self.gains, bands),
            residual(before),
            residual(after),
        )

    def markers(self, window: Window) -> tuple[tuple[Marker, ...], tuple[Marker, ...]]:
        """Marks of what was known, and of what was missing or found.

        The pictures are to be seen: the first belong on the model, the
        others on the rest.
        """
        markers = patch_markers(self.result, self.evaluation, window)
        known = tuple(mark for mark in markers if mark.kind in ("old", "truth"))
        return known, tuple(mark for mark in markers if mark not in known)


def _view(
    canvas: Canvas,
    window: Window,
    title: str,
    caption: Sequence[str],
    kind: str = "",
    always: tuple[Marker, ...] = (),
) -> View:
    """Pictures of a window, with ``always`` on each of them."""
    known, missing = canvas.markers(window)
    outlines = outline_path(canvas.result.before, window)
    panels = tuple(
        Panel(
            name,
            png_data_uri(picture),
            (known if place == 1 else missing) + always,
            outlines if place == 0 else "",
        )
        for place, (name, picture) in enumerate(zip(TITLES, canvas.pictures(window), strict=True))
    )
    return View(title, tuple(caption), kind, window, panels, 1.0 / canvas.result.scene.pixel_scale_arcsec)


def patch_view(canvas: Canvas) -> View:
    """Pictures of a patch, or of the part of it where most happens.

    Parameters
    ----------
    canvas : `Canvas`
        The patch.

    Returns
    -------
    view : `View`
        The window with the largest number of new peaks and of sources to
        find.
    """
    result, evaluation = canvas.result, canvas.evaluation
    places = [places_of(evaluation.peaks)]
    facts = [f"{evaluation.n_peaks} peaks, {len(evaluation.peaks)} new"]
    if evaluation.truth is not None:
        targets = evaluation.truth[np.isin(evaluation.truth["class"], TARGETS)]
        places.append(places_of(targets))
        facts.append(f"{len(targets)} unrecognised sources, {(targets['new_peak_id'] >= 0).sum()} recovered")
    window = busiest_window(result.scene, np.concatenate(places).astype(np.float64), canvas.options.patch_pix)
    height, width = result.scene.shape
    if (window.height, window.width) != (height, width):
        facts.append(
            f"shown: {window.width} x {window.height} of {width} x {height} pixels, "
            f"from x {window.left}, y {window.top}, where most of them are"
        )
    return _view(canvas, window, result.name, facts)


def _source_facts(row: dict[str, float]) -> list[str]:
    facts = [f"SNR {row['snr']:.0f}"]
    if np.isfinite(row["separation_pix"]):
        facts.append(
            f"{row['separation_pix']:.1f} pix ({row['separation_fwhm']:.1f} FWHM) from a brighter source"
        )
    if np.isfinite(row["flux_ratio"]):
        facts.append(f"flux ratio {row['flux_ratio']:.2g}")
    return facts


def source_view(canvas: Canvas, row: Mapping[str, Any]) -> View:
    """Pictures of a true source that was not recovered.

    Parameters
    ----------
    canvas : `Canvas`
        Its patch.
    row : `~collections.abc.Mapping`
        Its row of the evaluation's table of true sources.

    Returns
    -------
    view : `View`
        A close-up.
    """
    window = window_around(canvas.result.scene, row["y"], row["x"], canvas.options.zoom_pix)
    facts = [*_source_facts(dict(row)), f"{canvas.result.name}, x {row['x']:.1f}, y {row['y']:.1f}"]
    subject = Marker("subject", *window.to_picture(row["y"], row["x"]), "")
    return _view(canvas, window, class_label(row["class"]), facts, str(row["class"]), (subject,))
