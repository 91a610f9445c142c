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


"""Style of the report's plots, and their way into the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["TEXT", "svg_figure"]

# No figure uses this colour for anything but text and axes; the page's own
# text colour takes its place.
TEXT = "#010203"

_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
}


def svg_figure(name: str, draw: Callable[..., None], *arguments: Any) -> str:
    """A plot as an SVG element for an HTML page, which needs no name spaces and
    lends it the colour and font of its text.

    Parameters
    ----------
    name : `str`
        Different for each figure of a page.
    draw : `~collections.abc.Callable`
        Draws on the `matplotlib.axes.Axes` that it is given first.
    *arguments
        What else it is given.

    Returns
    -------
    svg : `str`
        The element.
    """
    buffer = io.StringIO()
    # The salt keeps ids of figures on one page apart, and a figure the same
    # from run to run.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name, "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.2, 3.7), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(color="#8888", linewidth=0.5, alpha=0.4)
        axes.set_axisbelow(True)
        draw(axes, *arguments)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(TEXT, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
