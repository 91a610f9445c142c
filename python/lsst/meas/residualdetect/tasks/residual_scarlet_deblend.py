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


"""The stack's deblender, with the one change that a second pass needs."""

from __future__ import annotations

from typing import Any

from lsst.meas.extensions.scarlet import ScarletDeblendTask

__all__ = ["ResidualScarletDeblendTask"]


class ResidualScarletDeblendTask(ScarletDeblendTask):
    """ScarletDeblendTask whose children keep ``merge_peak_residual``.

    A child first gets the flags of its own peak, then, in ScarletDeblendTask,
    all ``merge_peak`` flags of its parent, which are those of the parent's
    first peak. That is an old one, and no child of a parent with several
    peaks would be known to come from a residual.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "merge_peak_residual" in self.toCopyFromParent:
            self.toCopyFromParent.remove("merge_peak_residual")
