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

"""The deblenders' options as a config, for every task that deblends."""

from __future__ import annotations

from collections.abc import Sequence

from lsst.pex.config import ChoiceField

from ..deblend import DeblendOptions, engine_names
from .options_config import OptionsConfig, with_options

__all__ = ["DeblendOptionsConfig"]


@with_options(DeblendOptions, "bad_planes")
class DeblendOptionsConfig(OptionsConfig):
    """Which deblender, and its options."""

    engine = ChoiceField[str](
        doc="Which deblender.",
        default="factorized",
        allowed={name: name for name in engine_names()},
    )

    def deblend_options(self, bad_planes: Sequence[str]) -> DeblendOptions:
        """The same as the core's options, leaving out some mask planes."""
        options: DeblendOptions = self.options(bad_planes=tuple(bad_planes))
        return options
