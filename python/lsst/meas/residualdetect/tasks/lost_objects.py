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

"""Objects that a second deblend lacks, and what of the first to put back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import lsst.pipe.base as pipe_base
from lsst.afw.detection import Footprint
from lsst.afw.table import SourceCatalog, SourceRecord
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

__all__ = ["Lost", "family", "known_parts", "lost_objects", "object_ids"]


def family(record: SourceRecord) -> int:
    """Id of the top-level parent of an object, or its own."""
    return int(record.getParent() or record.getId())


def object_ids(catalogue: SourceCatalog) -> dict[tuple[int, int], int]:
    """Ids of objects by the ids of their parent and peak."""
    return {(family(r), int(r["deblend_peakId"])): r.getId() for r in catalogue}


def _is_object(record: SourceRecord) -> bool:
    """Whether a record is an object's, not that of a parent or a part."""
    return "deblend_blendId" in record.schema


@dataclass(frozen=True)
class Lost:
    """What is to be put back.

    Parameters
    ----------
    parents : `set` [`int`]
        Top-level parents that are to be as they were.
    parts : `dict` [`int`, `set` [`int`]]
        Parts of other top-level parents, into which the deblender divided
        them, by the parent's id.
    peaks : `dict` [`int`, `set` [`int`]]
        Peaks that have no object any more, by the top-level parent's id.
    """

    parents: set[int] = field(default_factory=set)
    parts: dict[int, set[int]] = field(default_factory=dict)
    peaks: dict[int, set[int]] = field(default_factory=dict)

    def has_part(self, record: SourceRecord) -> bool:
        """Whether an object, or a parent's record, of the deblend before is of
        such a part.
        """
        part = record["deblend_blendId"] if _is_object(record) else record.getId()
        return part in self.parts.get(record.getParent(), ())

    def replaces(self, record: SourceRecord) -> bool:
        """Whether such a part takes the place of a fresh record of a part."""
        if _is_object(record) or record.getParent() not in self.parts:
            return False
        peaks = (peak.getId() for peak in record.getFootprint().peaks)
        return not self.peaks[record.getParent()].isdisjoint(peaks)


def _parts(models: LsstScarletModelData, parent: int) -> dict[int, set[int]]:
    """Peaks of the parts of a parent that have models."""
    blends: dict[int, Any] = {int(number): blend for number, blend in models.blends.items()}
    children = blends[parent].children if parent in blends else {}
    return {
        int(number): {source.metadata["peak_id"] for source in blend.sources.values()}
        for number, blend in children.items()
    }


def lost_objects(old: pipe_base.Struct, fresh: pipe_base.Struct, changed: set[int]) -> Lost:
    """What of a deblend to put back, as the objects of its peaks are gone.

    Where the deblender was not given a part of a parent, failed on it, or left
    it out, that part alone; where it made nothing of the parent, or has
    divided it otherwise, the parent.

    Parameters
    ----------
    old, fresh : `lsst.pipe.base.Struct`
        Of a former deblend ``old_objects`` and ``old_models``, of a fresh one
        ``deblendedCatalog`` and ``scarletModelData``.
    changed : `set` [`int`]
        Ids of the top-level parents that were deblended afresh.
    """
    lost = Lost(peaks=defaultdict(set))
    for parent, peak in object_ids(old.old_objects).keys() - object_ids(fresh.deblendedCatalog).keys():
        if parent in changed:
            lost.peaks[parent].add(peak)
    for parent, peaks in lost.peaks.items():
        parts = {part: of for part, of in _parts(old.old_models, parent).items() if of & peaks}
        if _parts(fresh.scarletModelData, parent) and set().union(*parts.values()) == peaks:
            lost.parts[parent] = set(parts)
        else:
            lost.parents.add(parent)
    return lost


def known_parts(old: pipe_base.Struct) -> dict[int, list[Footprint]]:
    """Footprints of the parts that a deblend made models of, by the
    top-level parent's id.
    """
    known = defaultdict(list)
    for record in old.old_parents:
        if record.getParent() and record["deblend_nChild"]:
            known[int(record.getParent())].append(record.getFootprint())
    return known
