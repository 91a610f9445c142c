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


"""How much a report shows."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ReportOptions"]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How much a report shows.

    Parameters
    ----------
    max_peaks, max_others : `int`
        Candidates listed with close-ups, surest first: those that became
        peaks, and those that did not.
    max_patches : `int`
        Patches shown, the first ones of the run.
    patch_pix : `int`
        Longest side of a patch's pictures; of a larger patch the window
        with the most sources to find and new peaks is shown.
    zoom_pix : `int`
        Side of a close-up.
    max_unrecovered : `int`
        Close-ups of sources of each class that were not recovered.
    residual_sigma : `float`
        Stretch of the residuals, in units of their noise.
    residual_smoothing_pix : `float`
        Standard deviation of the Gaussian that residuals are smoothed with.

    Raises
    ------
    ValueError
        Raised if a number is not positive.
    """

    max_peaks: int = 5000
    max_others: int = 500
    max_patches: int = 8
    patch_pix: int = 220
    zoom_pix: int = 48
    max_unrecovered: int = 6
    residual_sigma: float = 8.0
    residual_smoothing_pix: float = 1.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise ValueError(f"{item.name} is {getattr(self, item.name)}; it must be positive")
