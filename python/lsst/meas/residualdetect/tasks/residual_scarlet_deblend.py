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


"""The stack's deblender, with the two changes that a second pass needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lsst.afw.detection import Footprint
from lsst.afw.table import SourceCatalog
from lsst.meas.extensions.scarlet import ScarletDeblendTask

__all__ = ["ResidualScarletDeblendTask", "same_footprint"]


def same_footprint(one: Footprint, other: Footprint) -> bool:
    """Whether two footprints have the same pixels and peaks."""
    ids = ([peak.getId() for peak in footprint.peaks] for footprint in (one, other))
    return bool(one.spans == other.spans) and next(ids) == next(ids)


class ResidualScarletDeblendTask(ScarletDeblendTask):
    """ScarletDeblendTask whose children keep ``merge_peak_residual``.

    A child first gets the flags of its own peak, then, in ScarletDeblendTask,
    all ``merge_peak`` flags of its parent, which are those of the parent's
    first peak. That is an old one, and no child of a parent with several
    peaks would be known to come from a residual.

    A parent is divided into parts, which are fitted each by itself. Those of
    ``known_parts``, by the parent's id, are left out.
    """

    known_parts: Mapping[int, Sequence[Footprint]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "merge_peak_residual" in self.toCopyFromParent:
            self.toCopyFromParent.remove("merge_peak_residual")

    def _addBlendRecord(
        self,
        parentId: int,
        parentCatalog: SourceCatalog,
        footprint: Footprint,
    ) -> None:
        """Add a part of a parent, unless it is known."""
        if not any(same_footprint(footprint, known) for known in self.known_parts.get(parentId, ())):
            super()._addBlendRecord(parentId, parentCatalog, footprint)
