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

"""Matching, the taxonomy of blends, figures of merit."""

from .evaluate_patch import evaluate_patch
from .evaluation import EvaluatedPatch, Evaluation, EvaluationOptions, PatchResult, PeakClass, TruthClass
from .summary import strict_json, summarise

__all__ = [
    "EvaluatedPatch",
    "Evaluation",
    "EvaluationOptions",
    "PatchResult",
    "PeakClass",
    "TruthClass",
    "evaluate_patch",
    "strict_json",
    "summarise",
]
