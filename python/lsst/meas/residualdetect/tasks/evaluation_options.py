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

"""What an evaluation counts, as a config, for every task that evaluates."""

from __future__ import annotations

from lsst.pex.config import ChoiceField, ListField

from ..scene import DEFAULT_BAD_PLANES
from ..truth import EvaluationOptions
from ..truth.matching import MATCH_RULES
from .options_config import OptionsConfig, with_options

__all__ = ["EvaluationOptionsConfig"]


@with_options(EvaluationOptions)
class EvaluationOptionsConfig(OptionsConfig):
    """Limits and bins of an evaluation."""

    match_rule = ChoiceField[str](
        doc="Which source a peak belongs to, if several are that near.",
        default=EvaluationOptions.match_rule,
        allowed={name: str(rule.__doc__) for name, rule in MATCH_RULES.items()},
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels say nothing; as the residual detection has them.",
        default=list(DEFAULT_BAD_PLANES),
    )
