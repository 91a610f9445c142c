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


"""A plot as a PNG file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["png_figure"]

_STYLE: Any = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@contextmanager
def png_figure(path: Path, title: str = "") -> Iterator[Axes]:
    """Axes to draw on; the file is written at the end of the scope.

    Parameters
    ----------
    path : `pathlib.Path`
        File to write, 960 x 600 pixels.
    title : `str`, optional
        Heading.

    Yields
    ------
    axes : `matplotlib.axes.Axes`
        What has a label is named above them.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        axes.grid(color="#808080", linewidth=0.5, alpha=0.25)
        axes.set_axisbelow(True)
        yield axes
        figure.legend(loc="outside upper right", ncols=2)
        figure.savefig(path, dpi=120)
