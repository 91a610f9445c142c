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


"""Close-ups of single places: data, model and residual side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..scene import Array, Scene
from .markers import window_around
from .pictures import Picture, colour_picture, residual_picture, smoothed_significance

__all__ = ["CloseUp", "draw_close_ups", "take_close_up"]

_TITLES = ("data", "model", "residual")
_LIMIT_SIGMA = 6.0
_SMOOTHING_PIX = 1.0
_COLUMNS = 3
_NOWHERE = np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class CloseUp:
    """Pictures of a place.

    Parameters
    ----------
    title : `str`
        What is there.
    pictures : `tuple` [`numpy.ndarray`, ...]
        Data, model and residual, (y, x, 3), uint8.
    place : `tuple` [`float`, `float`]
        What to look at, (y, x) in pixels of the pictures.
    known : `numpy.ndarray`, (n, 2), float64
        Known peaks, likewise.
    true : `numpy.ndarray`, (m, 2), float64
        True sources, likewise.
    """

    title: str
    pictures: tuple[Picture, ...]
    place: tuple[float, float]
    known: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]


def take_close_up(
    scene: Scene,
    model: Array,
    gains: Array,
    place: tuple[float, float],
    known: npt.NDArray[np.float64],
    title: str,
    size: int = 48,
    true: npt.NDArray[np.float64] = _NOWHERE,
) -> CloseUp:
    """Cut a place out of a scene and its model.

    Parameters
    ----------
    scene : `Scene`
        Pixels.
    model : `numpy.ndarray`, (band, y, x)
        Their model.
    gains : `numpy.ndarray`, (band,)
        Factors of the bands in pictures of fluxes; see `white_balance`.
    place : `tuple` [`float`, `float`]
        What to look at, (y, x) in patch coordinates.
    known : `numpy.ndarray`, (n, 2)
        Known peaks, likewise.
    title : `str`
        What is there.
    size : `int`, optional
        Side in pixels.
    true : `numpy.ndarray`, (m, 2), optional
        True sources, in patch coordinates.

    Returns
    -------
    close_up : `CloseUp`
        The pictures.
    """
    window = window_around(scene, *place, size)
    corner = np.array([window.top, window.left])
    part, its_model = window.cut(scene), model[:, *window.box(scene)]
    pictures = (
        colour_picture(part.images, gains, scene.bands),
        colour_picture(its_model, gains, scene.bands),
        residual_picture(smoothed_significance(part, its_model, _SMOOTHING_PIX), scene.bands, _LIMIT_SIGMA),
    )
    marks = (places[window.holds(*places.T)] - corner for places in (known, true))
    return CloseUp(title, pictures, (place[0] - float(corner[0]), place[1] - float(corner[1])), *marks)


def draw_close_ups(close_ups: Sequence[CloseUp], path: Path) -> None:
    """Draw close-ups on one page, three side by side.

    Parameters
    ----------
    close_ups : `~collections.abc.Sequence` [`CloseUp`]
        In the order in which to draw them; at least one.
    path : `pathlib.Path`
        PNG file to write. Circles are what to look at, upright crosses known
        peaks, slanted ones true sources.
    """
    n_rows = -(-len(close_ups) // _COLUMNS)
    n_columns = len(_TITLES) * min(len(close_ups), _COLUMNS)
    figure = Figure(figsize=(1.6 * n_columns, 1.9 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, close_up in enumerate(close_ups):
        row, column = divmod(number, _COLUMNS)
        for place, (picture, what) in enumerate(zip(close_up.pictures, _TITLES, strict=True)):
            axes = grid[row, len(_TITLES) * column + place]
            axes.imshow(picture, origin="lower", interpolation="nearest")
            axes.set_title(close_up.title if place == 0 else what, fontsize=7, loc="left")
            axes.plot(*close_up.known.T[::-1], "+", color="#7fd0ff", markersize=5, markeredgewidth=0.8)
            axes.plot(*close_up.true.T[::-1], "x", color="#86e57f", markersize=4, markeredgewidth=0.8)
            axes.plot(
                *close_up.place[::-1], "o", markersize=11, markerfacecolor="none", markeredgecolor="#ffdd33"
            )
    figure.savefig(path, dpi=130)
