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

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..scene import Array, Positions, Scene
from .markers import Window
from .pictures import colour_picture, residual_picture, smoothed_significance, white_balance

__all__ = ["found_figure"]

_KNOWN: Mapping[str, Any] = {"marker": "x", "color": "lime", "s": 20, "linewidths": 0.8}
_NEW: Mapping[str, Any] = {"marker": "o", "edgecolors": "red", "facecolors": "none", "s": 70}

_SMOOTHING_PIX = 1.0
_LIMIT_SIGMA = 5.0
_PANEL_INCHES = 5.0
_LEAST_DPI, _MOST_PIXELS = 100, 2000


def found_figure(
    scene: Scene, models: Mapping[str, Array], known: Positions, new: Positions, window: Window
) -> Figure:
    """The coadd in colour (Lupton et al. 2004, PASP 116, 133) and what models
    leave; green crosses are known sources, red circles new ones.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    models : `~collections.abc.Mapping` [`str`, `numpy.ndarray`]
        Models of all sources, (band, y, x), float32, by the title of the panel
        that shows what each leaves.
    known, new : `numpy.ndarray`, (n, 2)
        Positions (y, x) in patch coordinates.
    window : `Window`
        What to show.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
        Axes in patch coordinates; a dot for each pixel, as far as it stays of
        reasonable size.
    """
    shown = window.cut(scene)
    panels = [("coadd", colour_picture(shown.images, white_balance(scene), scene.bands))]
    for title, model in models.items():
        significance = smoothed_significance(shown, model[:, *window.box(scene)], _SMOOTHING_PIX)
        panels.append((title, residual_picture(significance, scene.bands, _LIMIT_SIGMA)))

    height, width = window.height, window.width
    tall = _PANEL_INCHES * min(max(height / width, 0.3), 3)
    dpi = max(_LEAST_DPI, min(max(height, width), _MOST_PIXELS) / _PANEL_INCHES)
    figure = Figure(figsize=(_PANEL_INCHES * len(panels), tall + 0.6), dpi=dpi, layout="constrained")
    edges = np.array([window.left, window.left + width, window.top, window.top + height]) - 0.5
    for axes, (title, picture) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.imshow(picture, origin="lower", extent=edges)
        for places, style in ((known, _KNOWN), (new, _NEW)):
            y, x = places[window.holds(*places.T)].T
            axes.scatter(x, y, **style)
        axes.set(title=title, xlabel="x (pixels)", xlim=edges[:2], ylim=edges[2:])
    figure.axes[0].set_ylabel("y (pixels)")
    return figure
