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

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from ..plots.png import png_figure
from ..plots.shares import GREY, coloured, draw_binned, draw_purity, draw_reliability
from ..truth.evaluation import COUNTED, PeakClass
from ..truth.metrics import are_probabilities, bin_label, binned_recovery, median
from .entry import Entry

__all__ = ["write_figures"]

_PROPERTIES = {
    "snr": ("snr_edges", "signal-to-noise ratio, all bands"),
    "separation_fwhm": (
        "separation_edges_fwhm",
        "separation from the nearest brighter source / FWHM of the PSF",
    ),
    "flux_ratio": ("flux_ratio_edges", "flux / flux of the nearest brighter source"),
}
_FLUX_ERROR_SNR = np.array([8.0, 12, 20, 40, 80, 200, 1000])


def _purity_recovery(entries: Sequence[Entry], path: Path) -> None:
    """The dots are the detectors' own thresholds."""
    with png_figure(path, entries[0].population) as axes:
        draw_purity(
            axes,
            [
                (
                    f"{entry.detector}, average precision {entry.curve.average_precision:.2f}",
                    entry.curve,
                    (entry.iterations[0]["recovery"], entry.iterations[0]["purity"]),
                )
                for entry in entries
            ],
            entries[0].options.target_purity,
        )
        axes.set(xlabel="recovered share of the sources to be found", ylabel="purity of the new peaks")


def _recovered(entry: Entry, threshold: float) -> npt.NDArray[np.bool_]:
    """Sources found by candidates of at least a score; none for NaN."""
    found = entry.candidates[np.asarray(entry.candidates["score"]) >= threshold]
    found = found[np.asarray(found["target"]).astype(bool)]
    pairs = set(zip(found["scene"].tolist(), found["true_id"].tolist(), strict=True))
    sources = zip(entry.truth["scene"].tolist(), entry.truth["id"].tolist(), strict=True)
    return np.array([pair in pairs for pair in sources], bool)


def _recovery(entries: Sequence[Entry], column: str, path: Path) -> None:
    options = entries[0].options
    edges, xlabel = _PROPERTIES[column]
    series = []
    for entry in entries:
        threshold = entry.curve.at_purity(options.target_purity)[1]
        bins = binned_recovery(
            np.asarray(entry.truth[column])[entry.target],
            _recovered(entry, threshold)[entry.target],
            getattr(options, edges),
        )
        n, k = (np.array([getattr(item, name) for item in bins]) for name in ("n", "n_recovered"))
        label = entry.detector if np.isfinite(threshold) else f"{entry.detector} (never so pure)"
        series.append((label, k, n))
    with png_figure(path, entries[0].population) as axes:
        names = [f"{bin_label(item.low, item.high)}\n{item.n} sources" for item in bins]
        draw_binned(axes, series, names, xlabel)
        axes.set_ylabel(f"recovered at {options.target_purity:.0%} purity")


def _counted(entry: Entry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Scores of the candidates that count, and which are right."""
    name = np.asarray(entry.candidates["class"])
    counted = np.isin(name, COUNTED)
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
    with png_figure(path, entries[0].population) as axes:
        axes.plot(centres, _median_errors(entries[0], "before"), "o-", color=GREY, label="before")
        for colour, entry in coloured(entries):
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
            with png_figure(paths[-1], name) as axes:
                draw_reliability(axes, [(entry.detector, *_counted(entry)) for entry in calibrated])
                axes.set_ylabel("right share of the candidates")
    return paths
