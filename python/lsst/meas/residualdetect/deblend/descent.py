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

"""Spectra and morphologies that fit better."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .chi_square import ChiSquare
from .monotonic import make_monotonic

__all__ = ["Iterate", "descend"]


@dataclass(frozen=True, eq=False)
class Iterate:
    """Where a descent is, and where it is heading.

    Parameters
    ----------
    spectra, morphologies : `torch.Tensor`, (component, band) and (value,)
        The unknowns.
    spectra_ahead, morphologies_ahead : `torch.Tensor`
        The unknowns extrapolated.
    momentum : `torch.Tensor`, (parent,)
        How far; 1 at the beginning.
    caution : `torch.Tensor`, (parent,)
        How many times shorter than they should be the steps are.
    """

    spectra: Tensor
    morphologies: Tensor
    spectra_ahead: Tensor
    morphologies_ahead: Tensor
    momentum: Tensor
    caution: Tensor


def descend(chi_square: ChiSquare, begin: Iterate, threshold: float, n_steps: int) -> Iterate:
    """Some steps of FISTA (Beck & Teboulle 2009, SIAM J. Imaging Sciences 2,
    183), each unknown with a step of its own, each parent with its own
    momentum.

    Spectra stay non-negative, morphologies non-negative and monotonic.

    Parameters
    ----------
    chi_square : `ChiSquare`
        What to minimise.
    begin : `Iterate`
        Where to begin.
    threshold : `float`
        Surface brightness below which there is no light, in standard
        deviations of the noise of a pixel: a pixel that is fainter in all
        bands is set to zero.
    n_steps : `int`
        How many.

    Returns
    -------
    end : `Iterate`
        Where they lead.
    """
    batch, stamps = chi_square.batch, chi_square.stamps
    owner = batch.owner[stamps.stamp]
    brightest = (begin.spectra * batch.depth.sqrt()[batch.owner]).amax(1)
    least = (threshold / brightest)[stamps.stamp]
    least[stamps.rank] = 0
    off = torch.where(stamps.free, 0.0, torch.inf)

    def constrain(values: Tensor) -> Tensor:
        # Pixels off the support do not stop a ray: beyond a gap the bound
        # goes on where it was.
        monotonic = make_monotonic(torch.maximum(values.clamp(min=0), off), stamps.counts)
        return torch.where(stamps.free & (monotonic > least), monotonic, 0.0)

    bounds = chi_square.curvature(begin.spectra, begin.morphologies)
    bounds = bounds[0] * begin.caution[batch.owner, None], bounds[1] * begin.caution[owner]
    steps = [torch.where(bound > 0, 1 / bound, 0.0) for bound in bounds]
    now, ahead = (begin.spectra, begin.morphologies), (begin.spectra_ahead, begin.morphologies_ahead)
    momentum = begin.momentum
    for _ in range(n_steps):
        gradients = chi_square.gradient(*ahead)
        moved = [
            where - step * gradient for where, step, gradient in zip(ahead, steps, gradients, strict=True)
        ]
        new = moved[0].clamp(min=0), constrain(moved[1])
        changes = [after - before for after, before in zip(new, now, strict=True)]
        # Forget the momentum where it leads uphill (O'Donoghue & Candes 2015,
        # Foundations of Computational Mathematics 15, 715).
        slopes = [
            bound * (where - after) * change
            for bound, where, after, change in zip(bounds, ahead, new, changes, strict=True)
        ]
        slope = torch.zeros_like(momentum)
        slope.index_add_(0, batch.owner, slopes[0].sum(1)).index_add_(0, owner, slopes[1])
        momentum = torch.where(slope > 0, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        push = (momentum - 1) / following
        ahead = (
            new[0] + push[batch.owner, None] * changes[0],
            new[1] + push.index_select(0, owner) * changes[1],
        )
        now, momentum = new, following
    return Iterate(*now, *ahead, momentum, begin.caution)
