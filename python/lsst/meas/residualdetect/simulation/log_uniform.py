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

"""Numbers that may be of any order of magnitude."""

from __future__ import annotations

import numpy as np

__all__ = ["log_uniform"]


def log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniform between those of two limits.

    Parameters
    ----------
    limits : `tuple` [`float`, `float`]
        Lowest and highest, positive.
    rng : `numpy.random.Generator`
        Source of randomness.
    """
    return float(np.exp(rng.uniform(*np.log(limits))))
