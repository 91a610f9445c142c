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


"""How many injected companions of which kind were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from ..truth.evaluation import TARGETS, EvaluationOptions, PeakClass, TruthClass
from ..truth.metrics import binned_recovery

__all__ = ["DELTA_MAG_EDGES", "summarise_companions"]

DELTA_MAG_EDGES = (0.5, 1.0, 1.5, 2.0, 2.5)

Booleans = npt.NDArray[np.bool_]


def _recovery_by(
    companions: Table, column: str, edges: Sequence[float], rows: Booleans
) -> dict[str, list[Any]]:
    bins = binned_recovery(
        np.asarray(companions[column], dtype=np.float64)[rows],
        np.asarray(companions["recovered"])[rows],
        edges,
    )
    return {
        "edges": [float(edge) for edge in edges],
        "n": [item.n for item in bins],
        "n_recovered": [item.n_recovered for item in bins],
    }


def summarise_companions(
    companions: Table, peaks: Table, options: EvaluationOptions | None = None
) -> dict[str, Any]:
    """Counts of one patch, or of several end to end.

    Parameters
    ----------
    companions, peaks : `astropy.table.Table`
        Of `InjectedResult`.
    options : `EvaluationOptions`, optional
        Bin edges.

    Returns
    -------
    summary : `dict`
        ``n_companions``; ``n_faint``, ``n_missed`` and ``n_confused`` of
        them, which do not count; ``n_to_find``, which do, and
        ``n_recovered``; of those that ordinary detection does not recognise
        either, ``n_to_find_unrecognized`` and ``n_recovered_unrecognized``;
        of the new peaks that were not there without companions, ``n_right``,
        ``n_shreds`` and ``n_spurious``, and of those that were,
        ``n_unlabelled``. ``recovery_by_<property>`` and
        ``recovery_unrecognized_by_<property>``, for ``separation_fwhm``,
        ``snr`` and ``delta_mag``: ``edges`` of bins, of which the first and
        last are open, and in each ``n`` and ``n_recovered``.
    """
    options = EvaluationOptions() if options is None else options
    name, peak_name = np.asarray(companions["class"]), np.asarray(peaks["class"])
    counted, recovered, confused, recognized = (
        np.asarray(companions[column]).astype(bool)
        for column in ("counted", "recovered", "confused", "recognized")
    )
    summary: dict[str, Any] = {
        "n_companions": len(companions),
        "n_faint": int((name == TruthClass.FAINT).sum()),
        "n_missed": int((name == TruthClass.MISSED).sum()),
        "n_confused": int((confused & np.isin(name, TARGETS)).sum()),
        "n_to_find": int(counted.sum()),
        "n_recovered": int(recovered.sum()),
        "n_to_find_unrecognized": int((counted & ~recognized).sum()),
        "n_recovered_unrecognized": int((recovered & ~recognized).sum()),
        "n_right": int((peak_name == PeakClass.RIGHT).sum()),
        "n_shreds": int((peak_name == PeakClass.SHRED).sum()),
        "n_spurious": int((peak_name == PeakClass.SPURIOUS).sum()),
        "n_unlabelled": int((peak_name == PeakClass.UNLABELLED).sum()),
    }
    for prefix, rows in (("recovery", counted), ("recovery_unrecognized", counted & ~recognized)):
        for column, edges in (
            ("separation_fwhm", options.separation_edges_fwhm),
            ("snr", options.snr_edges),
            ("delta_mag", DELTA_MAG_EDGES),
        ):
            summary[f"{prefix}_by_{column}"] = _recovery_by(companions, column, edges, rows)
    return summary
