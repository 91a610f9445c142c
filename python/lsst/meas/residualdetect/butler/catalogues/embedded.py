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


"""Catalogues of the embedded repository, which are the core's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...detections import Detections

__all__ = ["ArrayCatalogues"]


class ArrayCatalogues:
    """See `~lsst.meas.residualdetect.butler.Catalogues`."""

    def __init__(self, init_inputs: Mapping[str, Any] | None, pseudo_columns: Sequence[str]) -> None:
        """Nothing to know beforehand; sky objects are marked already."""

    @property
    def init_outputs(self) -> Mapping[str, Any]:
        """None: the core types have no schemas."""
        return {}

    def read(self, catalogue: Detections) -> Detections:
        """The catalogue itself."""
        return catalogue

    def write(self, detections: Detections, original: Detections) -> Detections:
        """The core catalogue itself."""
        return detections
