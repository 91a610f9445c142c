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

"""From a network's scores to probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

__all__ = ["fit_calibration"]

_MIN_PER_BIN = 30


def fit_calibration(
    scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], n_bins: int = 30
) -> tuple[list[float], list[float]]:
    """Fit the probability that a detection is right as a rising function of
    its score.

    Bins of equally many detections, made monotonic by isotonic regression
    (Zadrozny & Elkan 2002, KDD), joined by straight lines.

    Parameters
    ----------
    scores : `numpy.ndarray`, (n,)
        Scores from 0 to 1 of detections on validation data.
    right : `numpy.ndarray`, (n,), bool
        Which of them are right.
    n_bins : `int`, optional
        Number of bins, fewer if there are not 30 detections for each.

    Returns
    -------
    score, probability : `list` [`float`]
        Corners of the function; scores increase, probabilities do not fall.

    Raises
    ------
    ValueError
        Raised if there are fewer than 30 detections.
    """
    n_bins = min(n_bins, len(scores) // _MIN_PER_BIN)
    if not n_bins:
        raise ValueError(f"{len(scores)} detections are too few to calibrate with; expected {_MIN_PER_BIN}")
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, n_bins)
    centre = np.array([scores[rows].mean(dtype=float) for rows in bins])
    # One wrong and one right more: no bin is sure of anything.
    share = np.array([(right[rows].sum() + 0.5) / (len(rows) + 1) for rows in bins])
    size = np.array([len(rows) for rows in bins], float)
    rising = isotonic_regression(share, weights=size).x
    corner, first = np.unique(np.round(centre, 5), return_index=True)
    probability = np.round(rising[first], 5)
    inside = (corner > 0) & (corner < 1)
    corner, probability = corner[inside], probability[inside]
    # Beyond the last bin the line goes on towards certainty.
    last = float(probability[-1]) if len(probability) else 0.5
    return [0.0, *corner.tolist(), 1.0], [0.0, *probability.tolist(), round((1 + last) / 2, 5)]
