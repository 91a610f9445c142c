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


"""One-to-one matching of peaks to true sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

__all__ = ["MATCH_RULES", "match_in_turn", "match_peaks"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def _by_light(brightness: Floats, distance: Floats, sigma_pix: float) -> Floats:
    """The light that the source gives at the peak's place."""
    return brightness * np.exp(-0.5 * (distance / sigma_pix) ** 2)


def _by_distance(brightness: Floats, distance: Floats, sigma_pix: float) -> Floats:
    """The nearer, the better, whatever the source."""
    return np.exp(-0.5 * (distance / sigma_pix) ** 2)


MATCH_RULES: Mapping[str, Callable[[Floats, Floats, float], Floats]] = {
    "light": _by_light,
    "nearest": _by_distance,
}
"""What a source and a peak are worth as a pair, of the source's brightness,
their distance, and the standard deviation of the PSF; above 0.
"""


def _pairs(
    sources: Floats, brightness: Floats, peaks: Floats, radius_pix: float, sigma_pix: float, rule: str
) -> tuple[Integers, Integers, Floats]:
    """Indices of the sources and peaks near each other, and their worth."""
    if not len(sources) or not len(peaks):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    pairs = KDTree(sources).sparse_distance_matrix(KDTree(peaks), radius_pix, output_type="ndarray")
    source, peak = pairs["i"].astype(np.int64), pairs["j"].astype(np.int64)
    return source, peak, MATCH_RULES[rule](brightness[source], pairs["v"], sigma_pix)


def match_peaks(
    sources: Floats,
    brightness: Floats,
    peaks: Floats,
    *,
    radius_pix: float,
    sigma_pix: float,
    rule: str = "light",
) -> Integers:
    """Give each peak to the true source that makes it.

    The nearest source is not always the one: in a close blend the peak of
    the brighter source may fall nearer to a faint companion, which would then
    pass for detected while the bright source is called unrecognised. A peak
    belongs to the source that gives the most light at its place, so a pair
    is worth the brightness times a Gaussian of the distance, as wide as the
    PSF, and the one-to-one assignment with the largest total worth is taken.
    For sources of like brightness this prefers the nearest.

    Parameters
    ----------
    sources : `numpy.ndarray`, (n, 2)
        Positions (y, x) of the true sources in pixels.
    brightness : `numpy.ndarray`, (n,)
        Their signal-to-noise ratios or fluxes.
    peaks : `numpy.ndarray`, (m, 2)
        Positions (y, x) of the peaks.
    radius_pix : `float`
        Farthest that a peak may lie from its source.
    sigma_pix : `float`
        Standard deviation of the PSF.
    rule : `str`, optional
        One of `MATCH_RULES`: ``"light"`` is what is said above, ``"nearest"``
        takes every source for as bright as any other.

    Returns
    -------
    matched : `numpy.ndarray`, (n,), int64
        Index of each source's peak, -1 for none.
    """
    matched = np.full(len(sources), -1, dtype=np.int64)
    source, peak, worth = _pairs(sources, brightness, peaks, radius_pix, sigma_pix, rule)
    if not len(worth):
        return matched

    # Groups of sources and peaks that touch nobody else are solved apart, so
    # that a patch of thousands costs no more than its largest group.
    size = len(sources) + len(peaks)
    graph = coo_array((np.ones(len(worth)), (source, len(sources) + peak)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][source]
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        group_sources, i = np.unique(source[rows], return_inverse=True)
        group_peaks, j = np.unique(peak[rows], return_inverse=True)
        table = np.zeros((len(group_sources), len(group_peaks)))
        table[i, j] = worth[rows]
        for a, b in zip(*linear_sum_assignment(table, maximize=True), strict=True):
            if table[a, b] > 0:
                matched[group_sources[a]] = group_peaks[b]
    return matched


def match_in_turn(
    sources: Floats,
    brightness: Floats,
    peaks: Floats,
    *,
    radius_pix: float,
    sigma_pix: float,
    rule: str = "light",
) -> Integers:
    """Let each peak in turn take the source that gives the most light at its
    place, of those not taken yet.

    For peaks in the order of their scores. What a peak is then does not
    depend on less sure ones, so that a ranking of all says what a run with
    any threshold finds. In an assignment of all at once like `match_peaks` a
    hardly probable peak that happens to be better placed would take the
    source from a sure one.

    Parameters
    ----------
    sources, brightness, radius_pix, sigma_pix, rule
        As for `match_peaks`.
    peaks : `numpy.ndarray`, (m, 2)
        Positions (y, x) of the peaks, surest first.

    Returns
    -------
    matched : `numpy.ndarray`, (n,), int64
        Index of each source's peak, -1 for none.
    """
    matched = np.full(len(sources), -1, dtype=np.int64)
    is_placed = np.zeros(len(peaks), dtype=bool)
    source, peak, worth = _pairs(sources, brightness, peaks, radius_pix, sigma_pix, rule)
    for pair in np.lexsort((-worth, peak)):
        if matched[source[pair]] < 0 and not is_placed[peak[pair]]:
            matched[source[pair]] = peak[pair]
            is_placed[peak[pair]] = True
    return matched
