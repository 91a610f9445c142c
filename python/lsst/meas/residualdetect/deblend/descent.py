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

"""Accelerated proximal gradient descent with a step for each unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Iterate", "descend"]


@dataclass(frozen=True, eq=False)
class Iterate:
    """Unknowns of many problems, and where their descent is heading.

    Parameters
    ----------
    now : `torch.Tensor`, (n, ...)
        The unknowns.
    ahead : `torch.Tensor`, (n, ...)
        The unknowns extrapolated.
    momentum : `torch.Tensor`, (problem,)
        How far; 1 at the beginning.
    """

    now: Tensor
    ahead: Tensor
    momentum: Tensor


def descend(
    begin: Iterate,
    problem: Tensor,
    curvature: Tensor,
    gradient: Callable[[Tensor], Tensor],
    constrain: Callable[[Tensor], Tensor],
    n_steps: int,
) -> Iterate:
    """Some steps of FISTA (Beck & Teboulle 2009, SIAM J. Imaging Sciences 2,
    183), each problem with its own momentum.

    Parameters
    ----------
    begin : `Iterate`
        Where to begin.
    problem : `torch.Tensor`, (n,), int64
        The problem that each unknown belongs to.
    curvature : `torch.Tensor`, (n, ...)
        A diagonal that bounds the Hessian; unknowns where it is zero do not
        move.
    gradient : `~collections.abc.Callable`
        Gradient of the objective at given unknowns.
    constrain : `~collections.abc.Callable`
        Takes unknowns to where they are allowed.
    n_steps : `int`
        How many.

    Returns
    -------
    end : `Iterate`
        Where they lead.
    """
    now, ahead, momentum = begin.now, begin.ahead, begin.momentum
    step = torch.where(curvature > 0, 1 / curvature, 0.0)
    for _ in range(n_steps):
        new = constrain(ahead - step * gradient(ahead))
        change = new - now
        # Forget the momentum where it leads uphill (O'Donoghue & Candes 2015,
        # Foundations of Computational Mathematics 15, 715).
        slope = (curvature * (ahead - new) * change).reshape(len(problem), -1).sum(1)
        uphill = torch.zeros_like(momentum).index_add_(0, problem, slope) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        push = ((momentum - 1) / following)[problem]
        ahead = new + push.reshape(-1, *[1] * (change.ndim - 1)) * change
        now, momentum = new, following
    return Iterate(now, ahead, momentum)
