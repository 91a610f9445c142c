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


"""What a reader read, had to assume, and doubts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from ..scene import SceneError

__all__ = ["Remarks", "reason_of"]

_LOG = logging.getLogger(__name__)


def reason_of(error: BaseException) -> str:
    """What an error says, in one line; its type if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@dataclass
class Remarks:
    """Collects what should be told about an input.

    Parameters
    ----------
    strict : `bool`
        Whether a doubt is an error.
    notes : `list` [`str`]
        What was assumed, estimated or left out.
    doubts : `list` [`str`]
        What is likely wrong.
    files : `list` [`str`]
        What was read.
    """

    strict: bool = False
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say what was assumed."""
        self.notes.append(text)
        _LOG.info("%s", text)

    def doubt(self, text: str) -> None:
        """Say what is likely wrong.

        Raises
        ------
        SceneError
            Raised with the text where doubts are errors.
        """
        if self.strict:
            raise SceneError(text)
        self.doubts.append(text)
        _LOG.warning("%s", text)

    def reads(self, path: Path) -> None:
        """Note that a file is read."""
        if str(path) not in self.files:
            self.files.append(str(path))
