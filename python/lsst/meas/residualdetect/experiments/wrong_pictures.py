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

"""The surest wrong candidates of a comparison, seen close."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from ..deblend import deblend
from ..detections import places_of, positions_of
from ..plots.close_ups import CloseUp, draw_close_ups, take_close_up
from ..plots.pictures import white_balance
from ..truth.evaluation import WRONG
from .comparison_options import ComparisonOptions
from .entry import Entry
from .skies import Sky

__all__ = ["draw_surest_wrong"]

_CLOSE_UPS = 12


def _surest_wrong(entry: Entry) -> Table:
    wrong = entry.candidates[np.isin(entry.candidates["class"], WRONG)]
    return wrong[np.argsort(-wrong["score"], kind="stable")][:_CLOSE_UPS]


def _close_ups(
    sky: Sky, number: int, options: ComparisonOptions, tables: Sequence[Table]
) -> list[list[tuple[float, CloseUp]]]:
    """Those of a scene, of each table, with their scores."""
    search = options.search
    known = sky.scene(number).without(search.bad_planes)
    scene, truth = known.scene, known.truth
    assert truth is not None
    model = deblend(scene, known.detections.parents, search.singles, engine=search.singles_engine)
    image, gains = model.image(scene), white_balance(scene)
    peaks = positions_of(known.detections.peaks)
    true = places_of(truth[truth["snr"] >= options.limits.faint_snr])

    def look(row: Table.Row) -> tuple[float, CloseUp]:
        title = f"{row['class']} {row['score']:.2f}, {number}"
        place = float(row["y"]), float(row["x"])
        return float(row["score"]), take_close_up(scene, image, gains, place, peaks, title, true=true)

    return [[look(row) for row in table[table["scene"] == number]] for table in tables]


def draw_surest_wrong(entries: Sequence[Entry], options: ComparisonOptions, folder: Path) -> list[Path]:
    """Draw what each detector is surest of among its wrong candidates.

    Parameters
    ----------
    entries : `~collections.abc.Sequence` [`Entry`]
        What `compare` gave.
    options : `ComparisonOptions`
        What it was given. Scenes with something to show are made and deblended
        once more.
    folder : `pathlib.Path`
        Where to write a PNG file for each sky and detector that has any.

    Returns
    -------
    paths : `list` [`pathlib.Path`]
        The files.
    """
    paths = []
    for sky in options.skies:
        own = [entry for entry in entries if entry.population == sky.name]
        tables = [_surest_wrong(entry) for entry in own]
        seen: list[list[tuple[float, CloseUp]]] = [[] for _ in own]
        for number in sorted({int(number) for table in tables for number in table["scene"]}):
            for pictures, more in zip(seen, _close_ups(sky, number, options, tables), strict=True):
                pictures += more
        for entry, pictures in zip(own, seen, strict=True):
            if pictures:
                paths.append(folder / f"wrong_{sky.name}_{entry.detector}.png")
                surest = sorted(pictures, key=lambda scored: -scored[0])
                draw_close_ups([close_up for _, close_up in surest], paths[-1])
    return paths
