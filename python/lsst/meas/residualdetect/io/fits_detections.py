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

"""A detection catalogue as a FITS file of tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from ..detections import Detections, Footprint, Parent, Peak, peak_columns
from .fits_common import naming_the_file, native, table

__all__ = ["read_detections", "write_detections"]


def write_detections(path: Path, detections: Detections) -> None:
    """Write a detection catalogue: tables of parents, peaks and spans.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    detections : `Detections`
        Catalogue. The bands of its peaks become columns
        ``merge_peak_<band>``, as in the stack.
    """
    peaks = detections.peaks
    owners = [parent.id for parent in detections for _ in parent.peaks]
    spans = np.concatenate(
        [np.zeros((0, 3), np.int32), *(parent.footprint.spans for parent in detections)], dtype=np.int32
    )
    span_owners = [parent.id for parent in detections for _ in parent.footprint.spans]
    bands = sorted({band for peak in peaks for band in peak.bands})
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            table(
                "PARENTS",
                {
                    "id": np.array([parent.id for parent in detections], np.int64),
                    "is_sky": np.array([parent.is_sky for parent in detections], bool),
                },
            ),
            table(
                "PEAKS",
                {
                    "parent": np.array(owners, np.int64),
                    **peak_columns(peaks),
                    "merge_peak_residual": np.array([peak.from_residual for peak in peaks], bool),
                }
                | {f"merge_peak_{band}": np.array([band in p.bands for p in peaks], bool) for band in bands},
            ),
            table(
                "SPANS",
                {
                    "parent": np.array(span_owners, np.int64),
                    "y": spans[:, 0],
                    "x_first": spans[:, 1],
                    "x_after": spans[:, 2],
                },
            ),
        ]
    ).writeto(path, overwrite=True)


@naming_the_file
def read_detections(path: Path) -> Detections:
    """Read what `write_detections` wrote; `FitsError` if it cannot."""
    with fits.open(path, memmap=False) as hdus:
        ids = native(hdus["PARENTS"].data["id"], np.int64)
        # Files of older versions have no such column.
        sky = set(ids[hdus["PARENTS"].data["is_sky"]] if "is_sky" in hdus["PARENTS"].columns.names else ())
        rows = hdus["PEAKS"].data
        bands = [
            name.removeprefix("merge_peak_")
            for name in rows.names
            if name.startswith("merge_peak_") and name != "merge_peak_residual"
        ]
        peaks: dict[int, list[Peak]] = {int(parent): [] for parent in ids}
        for row in rows:
            seen = frozenset(band for band in bands if row[f"merge_peak_{band}"])
            peaks[int(row["parent"])].append(
                Peak(
                    int(row["id"]),
                    float(row["y"]),
                    float(row["x"]),
                    seen,
                    int(row["iteration"]),
                    None if np.isnan(row["score"]) else float(row["score"]),
                )
            )
        rows = hdus["SPANS"].data
        owners = native(rows["parent"], np.int64)
        spans = np.stack([native(rows[name], np.int32) for name in ("y", "x_first", "x_after")], axis=1)
    # A parent's spans stand together.
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    by_parent = (
        dict(zip(owners[first].tolist(), np.split(spans, first[1:]), strict=True)) if len(first) else {}
    )
    nothing = np.zeros((0, 3), np.int32)
    return Detections(
        tuple(
            Parent(parent, Footprint(by_parent.get(parent, nothing)), tuple(peaks[parent]), parent in sky)
            for parent in ids.tolist()
        )
    )
