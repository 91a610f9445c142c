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


"""A picture of what was found in a residual."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plots.markers import Window
from ..plots.pictures import colour_picture, residual_picture, smoothed_significance, white_balance
from ..scene import Array
from .missing import Missing

__all__ = ["missing_figure", "missing_html", "missing_png"]

_KNOWN: Mapping[str, Any] = {"marker": "x", "color": "lime", "s": 20, "linewidths": 0.8}
_NEW: Mapping[str, Any] = {"marker": "o", "edgecolors": "red", "facecolors": "none", "s": 70}

# Of a parent's surroundings, in pixels.
_MARGIN = 10

_SMOOTHING_PIX = 1.0
_LIMIT_SIGMA = 5.0
_PANEL_INCHES = 5.0
_LEAST_DPI, _MOST_PIXELS = 100, 2000


def _marked(axes: Axes, missing: Missing, window: Window, title: str) -> None:
    axes.set_title(title, fontsize="medium")
    for peaks, style in ((missing.before.peaks, _KNOWN), (missing.new_peaks, _NEW)):
        places = np.array([(peak.y, peak.x) for peak in peaks]).reshape(-1, 2)
        y, x = places[window.holds(*places.T)].T
        axes.scatter(x, y, **style)


def missing_figure(missing: Missing, parent: int | None = None, model_after: Array | None = None) -> Figure:
    """The coadd in colour (Lupton et al. 2004, PASP 116, 133) and what its
    model leaves; green crosses are known sources, red circles new ones.

    Parameters
    ----------
    missing : `Missing`
        What a look at a residual gave.
    parent : `int`, optional
        Id of the parent to show; the whole scene if absent.
    model_after : `numpy.ndarray`, (band, y, x), float32, optional
        Model of known and new sources, for a third panel.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
        Axes in patch coordinates.

    Raises
    ------
    ValueError
        Raised if there is no such parent.
    """
    scene = missing.scene
    (height, width), origin = scene.shape, scene.origin
    top, left, bottom, right = origin[0], origin[1], origin[0] + height, origin[1] + width
    if parent is not None:
        boxes = {one.id: one.footprint.bbox for one in (*missing.before, *missing.detections)}
        if parent not in boxes:
            raise ValueError(f"scene {scene.name!r} has no parent {parent}")
        rows, columns = boxes[parent]
        top, bottom = max(top, rows.start - _MARGIN), min(bottom, rows.stop + _MARGIN)
        left, right = max(left, columns.start - _MARGIN), min(right, columns.stop + _MARGIN)
    window = Window(top, left, bottom - top, right - left)
    shown = window.cut(scene)
    y, x = top - origin[0], left - origin[1]
    pixels = (slice(None), slice(y, y + window.height), slice(x, x + window.width))
    gains = white_balance(scene)
    panels = [("coadd", colour_picture(shown.images, gains, scene.bands))]
    models = [("residual", missing.model_image)]
    if model_after is not None:
        models = [("residual before", missing.model_image), ("residual after", model_after)]
    for title, model in models:
        significance = smoothed_significance(shown, model[pixels], _SMOOTHING_PIX)
        panels.append((title, residual_picture(significance, scene.bands, _LIMIT_SIGMA)))

    tall = _PANEL_INCHES * min(max((bottom - top) / (right - left), 0.3), 3)
    figure = Figure(figsize=(_PANEL_INCHES * len(panels), tall + 0.6), layout="constrained")
    for number, (title, picture) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        axes.imshow(picture, origin="lower", extent=(left - 0.5, right - 0.5, top - 0.5, bottom - 0.5))
        _marked(axes, missing, window, title)
        axes.set_xlim(left - 0.5, right - 0.5)
        axes.set_ylim(top - 0.5, bottom - 0.5)
        axes.set_xlabel("x (pixels)")
    figure.axes[0].set_ylabel("y (pixels)")
    return figure


def missing_png(missing: Missing, parent: int | None = None, model_after: Array | None = None) -> bytes:
    """`missing_figure` as a PNG with a dot for each pixel, as far as it stays
    of reasonable size.
    """
    figure = missing_figure(missing, parent, model_after)
    side = max(missing.scene.shape) if parent is None else 0
    dpi = max(_LEAST_DPI, min(side, _MOST_PIXELS) / _PANEL_INCHES)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def missing_html(missing: Missing) -> str:
    """The new sources as a table, under a picture, for notebooks."""
    table = missing.table
    new = table[table["peak"] > 0]
    name = escape(missing.scene.name or "scene")
    head = (
        f"<p><b>{name}</b>: {len(new)} new of {len(table)} candidates, {len(missing.before.peaks)} known; "
        f"score from {missing.score_threshold:.3g}</p>"
    )
    picture = base64.b64encode(missing_png(missing)).decode()
    return f'{head}<img style="max-width: 100%" src="data:image/png;base64,{picture}"/>{new._repr_html_()}'
