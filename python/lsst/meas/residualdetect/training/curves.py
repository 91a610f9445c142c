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

"""The picture of how a training run went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["plot_curves", "read_metrics"]

_LOSS = "total_loss"
_MEASURES = {"average_precision": "average precision", "recovery90": "recovery at 90 % purity"}


def read_metrics(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """What Detectron2 wrote into ``metrics.json``, by name.

    Parameters
    ----------
    path : `pathlib.Path`
        One JSON object a line; a line that was cut off is left out.

    Returns
    -------
    curves : `dict` [`str`, `tuple`]
        Iterations, rising, and values. Where a run went back to a
        checkpoint the later values count.
    """
    curves: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines():
        try:
            row: Mapping[str, Any] = json.loads(line)
        except ValueError:
            continue
        iteration = int(row.get("iteration", -1))
        for name, value in row.items():
            if name != "iteration" and isinstance(value, (int, float)):
                curves.setdefault(name, {})[iteration] = float(value)
    return {
        name: ([int(k) for k in sorted(points)], [points[k] for k in sorted(points)])
        for name, points in curves.items()
    }


def _smooth(values: Sequence[float], n: int = 9) -> np.ndarray:
    """Running mean over n points, fewer at the ends."""
    n = min(n, len(values))  # np.convolve gives the longer of the two
    total = np.convolve(values, np.ones(n), mode="same")
    return np.asarray(total / np.convolve(np.ones(len(values)), np.ones(n), mode="same"))


def plot_curves(run: Path) -> Path:
    """Draw loss, average precision and recovery over the iterations.

    Parameters
    ----------
    run : `pathlib.Path`
        Folder with ``metrics.json``; ``curves.png`` is written beside it.

    Returns
    -------
    path : `pathlib.Path`
        The picture.
    """
    from matplotlib.figure import Figure

    curves = read_metrics(run / "metrics.json")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 1 + len(_MEASURES))
    if _LOSS in curves:
        iterations, values = curves[_LOSS]
        panels[0].plot(iterations, values, color="0.8", linewidth=0.8)
        panels[0].plot(iterations, _smooth(values), color="C0", label="running mean")
        panels[0].legend(frameon=False)
    panels[0].set_ylabel("loss")
    for panel, (key, label) in zip(panels[1:], _MEASURES.items(), strict=True):
        for name, (iterations, values) in sorted(curves.items()):
            parts = name.split("/")
            if parts[-1] == key:
                panel.plot(iterations, values, marker="o", markersize=3, label=parts[0])
        panel.set_ylabel(label)
        panel.set_ylim(0, 1)
        if panel.lines:
            panel.legend(frameon=False)
    for panel in panels:
        panel.set_xlabel("iteration")
    path = run / "curves.png"
    figure.savefig(path, dpi=110)
    return path
