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

"""Figures of a comparison, as PNG files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from ..truth.evaluation import EvaluationOptions, PeakClass
from ..truth.metrics import are_probabilities, bin_label, binned_recovery, median, reliability, shares
from ..truth.pooling import WRONG
from .entry import Entry

__all__ = ["write_figures"]

_STYLE: Any = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
# Told apart by the colour-blind.
_COLOURS = ("#2f8fd8", "#ef9f1a", "#3d9970", "#dd4f9b", "#7a5fc4")
_GREY = "#808080"

_PROPERTIES = {
    "snr": ("snr_edges", "signal-to-noise ratio, all bands"),
    "separation_fwhm": (
        "separation_edges_fwhm",
        "separation from the nearest brighter source / FWHM of the PSF",
    ),
    "flux_ratio": ("flux_ratio_edges", "flux / flux of the nearest brighter source"),
}
_FLUX_ERROR_SNR = np.array([8.0, 12, 20, 40, 80, 200, 1000])


@contextmanager
def _figure(path: Path, title: str) -> Iterator[Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        axes.grid(color=_GREY, linewidth=0.5, alpha=0.25)
        axes.set_axisbelow(True)
        yield axes
        figure.legend(loc="outside upper right", ncols=2)
        figure.savefig(path, dpi=120)


def _coloured(entries: Sequence[Entry]) -> Iterator[tuple[str, Entry]]:
    return zip(cycle(_COLOURS), entries, strict=False)


def _purity_recovery(entries: Sequence[Entry], path: Path) -> None:
    """The dots are the detectors' own thresholds."""
    with _figure(path, entries[0].population) as axes:
        axes.axhline(EvaluationOptions().target_purity, color=_GREY, linestyle=":")
        for colour, entry in _coloured(entries):
            label = f"{entry.detector}, average precision {entry.curve.average_precision:.2f}"
            axes.plot(entry.curve.recovery, entry.curve.purity, color=colour, linewidth=2, label=label)
            run = entry.iterations[0]
            axes.plot(run["recovery"], run["purity"], "o", color=colour, markersize=8, clip_on=False)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.03))
        axes.set(xlabel="recovered share of the sources to be found", ylabel="purity of the new peaks")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _recovered(entry: Entry, threshold: float) -> npt.NDArray[np.bool_]:
    """Sources found by candidates of at least a score; none for NaN."""
    found = entry.candidates[np.asarray(entry.candidates["score"]) >= threshold]
    found = found[np.asarray(found["target"]).astype(bool)]
    pairs = set(zip(found["scene"].tolist(), found["true_id"].tolist(), strict=True))
    sources = zip(entry.truth["scene"].tolist(), entry.truth["id"].tolist(), strict=True)
    return np.array([pair in pairs for pair in sources], bool)


def _recovery(entries: Sequence[Entry], column: str, path: Path) -> None:
    options = EvaluationOptions()
    edges, xlabel = _PROPERTIES[column]
    purity = options.target_purity
    with _figure(path, entries[0].population) as axes:
        for place, (colour, entry) in enumerate(_coloured(entries)):
            threshold = entry.curve.at_purity(purity)[1]
            target = entry.target
            bins = binned_recovery(
                np.asarray(entry.truth[column])[target],
                _recovered(entry, threshold)[target],
                getattr(options, edges),
            )
            n, k = (np.array([getattr(item, name) for item in bins]) for name in ("n", "n_recovered"))
            full = np.flatnonzero(n)
            label = entry.detector if np.isfinite(threshold) else f"{entry.detector} (never so pure)"
            if len(full):
                share, bars = shares(k[full], n[full])
                x = full + 0.12 * (place - (len(entries) - 1) / 2)
                axes.errorbar(x, share, yerr=bars, fmt="o", color=colour, capsize=3, label=label)
        names = [f"{bin_label(item.low, item.high)}\n{item.n} sources" for item in bins]
        axes.set_xticks(range(len(names)), names, fontsize=10)
        axes.set(xlabel=xlabel, ylabel=f"recovered at {purity:.0%} purity", ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _reliability(entries: Sequence[Entry], path: Path) -> None:
    with _figure(path, entries[0].population) as axes:
        axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":")
        for colour, entry in _coloured(entries):
            score, right = _counted(entry)
            mean, n, k = reliability(score, right)
            share, bars = shares(k, n)
            axes.errorbar(mean, share, yerr=bars, fmt="o-", color=colour, capsize=3, label=entry.detector)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xlabel="mean score")
        axes.set_ylabel("right share of the candidates")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _counted(entry: Entry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Scores of the candidates that count, and which are right."""
    name = np.asarray(entry.candidates["class"])
    counted = np.isin(name, [PeakClass.RIGHT, *WRONG])
    return np.asarray(entry.candidates["score"])[counted], name[counted] == PeakClass.RIGHT


def _median_errors(entry: Entry, when: str) -> list[float]:
    """Median flux error of blended sources in bins of signal to noise."""
    truth = entry.truth[np.asarray(entry.truth["blended"]).astype(bool)]
    prefix = f"flux_{when}_"
    bands = [name.removeprefix(prefix) for name in truth.colnames if name.startswith(prefix)]
    true = np.stack([np.asarray(truth[f"flux_{band}"]) for band in bands])
    model = np.stack([np.asarray(truth[prefix + band]) for band in bands])
    error = np.abs(model / np.where(true > 0, true, np.nan) - 1)
    place = np.digitize(np.asarray(truth["snr"]), _FLUX_ERROR_SNR) - 1
    return [median(error[:, place == number]) for number in range(len(_FLUX_ERROR_SNR) - 1)]


def _flux_error(entries: Sequence[Entry], path: Path) -> None:
    centres = np.sqrt(_FLUX_ERROR_SNR[:-1] * _FLUX_ERROR_SNR[1:])
    with _figure(path, entries[0].population) as axes:
        axes.plot(centres, _median_errors(entries[0], "before"), "o-", color=_GREY, label="before")
        for colour, entry in _coloured(entries):
            label = f"after, {entry.detector}"
            axes.plot(centres, _median_errors(entry, "after"), "o-", color=colour, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_FLUX_ERROR_SNR.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlim(_FLUX_ERROR_SNR[0], _FLUX_ERROR_SNR[-1])
        axes.set_ylim(bottom=0)
        axes.set(xlabel="signal-to-noise ratio, all bands", ylabel="median flux error of blended sources")


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
        For each population: purity against recovery; recovery at a fixed
        purity against signal to noise, separation and flux ratio; flux
        errors; and how reliable the scores are of those detectors whose
        scores are probabilities.
    """
    paths = []
    for name in dict.fromkeys(entry.population for entry in entries):
        own = [entry for entry in entries if entry.population == name]
        paths.append(folder / f"purity_{name}.png")
        _purity_recovery(own, paths[-1])
        for column in _PROPERTIES:
            paths.append(folder / f"recovery_{column}_{name}.png")
            _recovery(own, column, paths[-1])
        paths.append(folder / f"flux_error_{name}.png")
        _flux_error(own, paths[-1])
        calibrated = [entry for entry in own if are_probabilities(_counted(entry)[0])]
        if calibrated:
            paths.append(folder / f"reliability_{name}.png")
            _reliability(calibrated, paths[-1])
    return paths
