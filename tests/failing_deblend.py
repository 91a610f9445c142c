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


"""The stack's deblender, failing where it is told to; needs the stack."""

from __future__ import annotations

from lsst.meas.extensions.scarlet.scarletDeblendTask import DeblenderError
from lsst.pex.config import ListField

from lsst.meas.residualdetect.tasks.residual_scarlet_deblend import ResidualScarletDeblendTask


class FailingDeblendConfig(ResidualScarletDeblendTask.ConfigClass):
    fails_on = ListField[int](doc="Ids of top-level parents.", default=[])
    fails_on_peaks = ListField[int](doc="Ids of peaks, of the parts to fail on.", default=[])


class FailingDeblendTask(ResidualScarletDeblendTask):
    """Raises what the stack's task makes of any error in a parent's fit."""

    ConfigClass = FailingDeblendConfig

    def _deblendParent(self, blendRecord):  # noqa: N802, N803
        number = blendRecord.getId()
        peaks = {peak.getId() for peak in blendRecord.getFootprint().peaks}
        if {number, blendRecord.getParent()} & set(self.config.fails_on) or peaks & set(
            self.config.fails_on_peaks
        ):
            raise DeblenderError(f"Unable to deblend parent {number}: MemoryError", number, "MemoryError")
        return super()._deblendParent(blendRecord)
