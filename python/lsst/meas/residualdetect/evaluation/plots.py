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

"""Figures of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from astropy.stats import binom_conf_interval
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .comparison import Entry
from .metrics import reliability
from .pooling import WRONG
from .results import EvaluationOptions, PeakClass

__all__ = ["write_figures"]

_COLOURS = ("#2f8fd8", "#ef9f1a", "#3d9970", "#dd4f9b")
_PROPERTIES = {
    "snr": ("signal-to-noise ratio, all bands", (8, 12, 20, 40, 80, 1000)),
    "separation_fwhm": ("separation from the nearest brighter source, FWHM", (0, 0.5, 1, 1.5, 2, 3, 5)),
    "flux_ratio": ("flux over that of the nearest brighter source", (0.003, 0.03, 0.1, 0.3, 1.0)),
}


@contextmanager
def _figure(path: Path, n_columns: int = 1) -> Iterator[list[Axes]]:
    style: Any = {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(5 * n_columns + 1, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        yield [figure.add_subplot(1, n_columns, number + 1) for number in range(n_columns)]
        figure.savefig(path, dpi=110)


def _of_population(entries: Sequence[Entry], name: str) -> list[tuple[str, Entry]]:
    return list(zip(_COLOURS * 3, [e for e in entries if e.population == name], strict=False))


def _recovered(entry: Entry, threshold: float) -> npt.NDArray[np.bool_]:
    """Targets found by candidates of at least a score."""
    found = entry.candidates[np.asarray(entry.candidates["score"]) >= threshold]
    found = found[np.asarray(found["target"]).astype(bool)]
    pairs = set(zip(found["scene"].tolist(), found["true_id"].tolist(), strict=True))
    sources = zip(entry.truth["scene"].tolist(), entry.truth["id"].tolist(), strict=True)
    return np.array([pair in pairs for pair in sources], bool)


def _shares(
    axes: Axes, right: npt.NDArray[np.int_], n: npt.NDArray[np.int_], x: npt.ArrayLike, **kw: Any
) -> None:
    """Shares with Wilson 68 % intervals."""
    full = n > 0
    if not full.any():
        return
    low, high = binom_conf_interval(right[full], n[full], interval="wilson")
    mean = right[full] / n[full]
    bars = np.clip([mean - low, high - mean], 0, None)
    axes.errorbar(np.asarray(x)[full], mean, yerr=bars, capsize=3, **kw)


def _purity_recovery(entries: Sequence[Entry], name: str, path: Path) -> None:
    with _figure(path) as (axes,):
        for colour, entry in _of_population(entries, name):
            axes.plot(entry.curve.recovery, entry.curve.purity, color=colour, label=entry.detector, lw=2)
        axes.axhline(EvaluationOptions().target_purity, color="grey", ls=":", lw=1)
        axes.set(xlabel="recovered sources", ylabel="purity", xlim=(0, 1), ylim=(0, 1.02), title=name)
        axes.legend()


def _recovery(entries: Sequence[Entry], name: str, path: Path) -> None:
    purity = EvaluationOptions().target_purity
    with _figure(path, len(_PROPERTIES)) as panels:
        for axes, (column, (label, edges)) in zip(panels, _PROPERTIES.items(), strict=True):
            drawn = _of_population(entries, name)
            for place, (colour, entry) in enumerate(drawn):
                threshold = entry.curve.at_purity(purity)[1]
                values = np.asarray(entry.truth[column])
                hit = _recovered(entry, threshold) if np.isfinite(threshold) else np.zeros(len(values), bool)
                n = np.histogram(values[entry.target], edges)[0]
                k = np.histogram(values[entry.target & hit], edges)[0]
                x = np.arange(len(n)) + 0.12 * (place - (len(drawn) - 1) / 2)
                _shares(axes, k, n, x, fmt="o", color=colour, label=entry.detector)
            names = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
            axes.set_xticks(range(len(names)), names, fontsize=9)
            axes.set(xlabel=label, ylim=(-0.02, 1.02), title=name)
        panels[0].set_ylabel(f"recovered at {purity:.0%} purity")
        panels[0].legend()


def _reliability(entries: Sequence[Entry], path: Path) -> None:
    """Are scores probabilities?"""
    with _figure(path) as (axes,):
        axes.plot([0, 1], [0, 1], color="grey", ls=":", lw=1)
        for colour, entry in zip(_COLOURS * 3, entries, strict=False):
            name = np.asarray(entry.candidates["class"])
            counted = np.isin(name, [PeakClass.RIGHT, *WRONG])
            score = np.asarray(entry.candidates["score"])[counted]
            mean, n, k = reliability(score, name[counted] == PeakClass.RIGHT)
            label = f"{entry.detector}, {entry.population}"
            _shares(axes, k, n, mean, fmt="o-", ms=4, color=colour, label=label)
        axes.set(xlabel="score", ylabel="share of right candidates", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend()


def _flux_error(entries: Sequence[Entry], name: str, path: Path) -> None:
    edges = np.array([8, 12, 20, 40, 80, 200, 1000])
    with _figure(path) as (axes,):
        before_drawn = False
        for colour, entry in _of_population(entries, name):
            blended = np.asarray(entry.truth["blended"]).astype(bool)
            bands = [
                n.removeprefix("flux_before_") for n in entry.truth.colnames if n.startswith("flux_before_")
            ]
            snr = np.asarray(entry.truth["snr"])[blended]
            for when in ("before", "after"):
                if when == "before" and before_drawn:
                    continue
                true, model = (
                    np.stack([np.asarray(entry.truth[f"{kind}_{band}"])[blended] for band in bands])
                    for kind in ("flux", f"flux_{when}")
                )
                error = np.abs(model / np.where(true > 0, true, np.nan) - 1)
                place = np.digitize(snr, edges) - 1
                medians = [
                    np.nanmedian(error[:, place == b]) if (place == b).any() else np.nan
                    for b in range(len(edges) - 1)
                ]
                style: dict[str, Any] = {"color": "grey", "label": "before"} if when == "before" else {}
                style = style or {"color": colour, "label": f"after, {entry.detector}"}
                axes.plot(np.sqrt(edges[:-1] * edges[1:]), medians, "o-", **style)
            before_drawn = True
        axes.set(xlabel="signal-to-noise ratio, all bands", ylabel="median flux error of blended sources")
        axes.set(xscale="log", yscale="log", title=name)
        axes.legend()


def write_figures(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Draw the figures of a comparison.

    Parameters
    ----------
    entries : `~collections.abc.Sequence` [`Entry`]
        What `compare` gave.
    folder : `pathlib.Path`
        Where to write PNG files.

    Returns
    -------
    paths : `list` [`pathlib.Path`]
        Purity against recovery, recovery against properties and flux errors
        for each population; one reliability diagram of the detectors whose
        scores are probabilities.
    """
    paths = []
    for name in dict.fromkeys(entry.population for entry in entries):
        for draw, kind in (
            (_purity_recovery, "purity"),
            (_recovery, "recovery"),
            (_flux_error, "flux_error"),
        ):
            paths.append(folder / f"{kind}_{name}.png")
            draw(entries, name, paths[-1])
    # The oracle's scores rise with the signal-to-noise ratio, no more.
    calibrated = [
        entry
        for entry in entries
        if entry.detector != "oracle" and np.asarray(entry.candidates["score"]).max(initial=0) <= 1
    ]
    if calibrated:
        paths.append(folder / "reliability.png")
        _reliability(calibrated, paths[-1])
    return paths
