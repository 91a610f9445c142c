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

"""The fit of a batch of parents.

First morphologies are guessed and the spectra solved for; then both descend
together, a few accelerated proximal gradient steps at a time. In between the
stamps of the morphologies grow or shrink, parents that got worse go back and
take shorter steps, and those that are done leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .batch import Batch
from .chi_square import ChiSquare
from .descent import Iterate, descend
from .initialize import initial_morphologies, points
from .options import DeblendOptions
from .spectra import solve_spectra
from .stamps import Stamps, make_stamps

__all__ = ["Fit", "fit_batch"]

# Change of chi-square, relative, per step, at which a parent is done.
_TOLERANCE = 3e-3

# Steps between two measurements of chi-square.
_STEPS_PER_CYCLE = 4

# Steps towards the first spectra.
_SPECTRA_STEPS = 5

# A parent whose chi-square still rises with steps this many times shorter is
# as good as it gets.
_MOST_CAUTION = 100.0

# Rings kept free beyond the light of a morphology: how far it may grow from
# one measurement of chi-square to the next.
_MARGIN = 2


@dataclass(frozen=True, eq=False)
class Fit:
    """Where some parents of a batch ended.

    Parameters
    ----------
    index : `torch.Tensor`, (parent,), int64
        Places of these parents in the batch.
    spectra : `torch.Tensor`, (component, band)
        Factors of the morphologies, parent by parent.
    component, pixel : `torch.Tensor`, (value,), int64
        Component and pixel, in the flattened (..., y, x) of the batch, of
        every value of a morphology that is not zero; component by component.
    light : `torch.Tensor`, (value,)
        These values.
    chi2 : `torch.Tensor`, (parent,)
        Chi-square of the model.
    converged : `torch.Tensor`, (parent,), bool
        Whether it had stopped improving.
    n_iterations : `int`
        Steps done.
    """

    index: Tensor
    spectra: Tensor
    component: Tensor
    pixel: Tensor
    light: Tensor
    chi2: Tensor
    converged: Tensor
    n_iterations: int


@dataclass(frozen=True, eq=False)
class _State:
    """Parents still being fitted."""

    index: Tensor
    batch: Batch
    stamps: Stamps
    iterate: Iterate
    chi2: Tensor


def _begin(batch: Batch, options: DeblendOptions) -> _State:
    stamps, morphologies = initial_morphologies(batch, options)
    dark = batch.depth.new_zeros(len(stamps), batch.depth.shape[1])
    rest = batch.depth.new_ones(len(batch))
    everyone = torch.arange(len(batch), device=rest.device)
    state = _State(everyone, batch, stamps, Iterate(dark, morphologies, dark, morphologies, rest, rest), rest)
    state = _select(state, torch.ones_like(rest, dtype=torch.bool), options)
    chi_square, morphologies = ChiSquare(batch, state.stamps), state.iterate.morphologies
    spectra = solve_spectra(chi_square, morphologies, _SPECTRA_STEPS)
    return replace(
        state,
        iterate=replace(state.iterate, spectra=spectra, spectra_ahead=spectra),
        chi2=chi_square.value(spectra, morphologies),
    )


def _select(state: _State, keep: Tensor, options: DeblendOptions) -> _State:
    """The parents to keep, in stamps that leave each component a margin."""
    members = keep[state.batch.owner].nonzero()[:, 0]
    batch, iterate = state.batch.select(keep), state.iterate
    extent = state.stamps.extent(iterate.morphologies)[members]
    radius = torch.minimum(extent + _MARGIN, batch.reach).clamp(max=options.max_radius_pix)
    stamps = make_stamps(batch.pixels, batch.owner, batch.support, radius)
    now, ahead = (
        stamps.move(values, state.stamps, members)
        for values in (iterate.morphologies, iterate.morphologies_ahead)
    )
    iterate = Iterate(
        iterate.spectra[members],
        now,
        iterate.spectra_ahead[members],
        ahead,
        iterate.momentum[keep],
        iterate.caution[keep],
    )
    return _State(state.index[keep], batch, stamps, iterate, state.chi2[keep])


def _finish(state: _State, done: Tensor, converged: Tensor, n_iterations: int) -> Fit:
    stamps, values = state.stamps, state.iterate.morphologies
    members = done[state.batch.owner]
    lit = ((values > 0) & members[stamps.stamp]).nonzero()[:, 0]
    lit = lit[torch.argsort(stamps.stamp[lit], stable=True)]
    return Fit(
        state.index[done],
        state.iterate.spectra[members],
        (members.cumsum(0) - 1)[stamps.stamp[lit]],
        stamps.pixel[lit],
        values[lit],
        state.chi2[done],
        converged[done],
        n_iterations,
    )


def _normalize(chi_square: ChiSquare, iterate: Iterate, sigma_pix: float) -> Iterate:
    """Bring every peak to 1. A component that lost its light becomes a point
    of no flux, which may grow.
    """
    stamps = chi_square.stamps
    height = iterate.morphologies[stamps.rank]
    lost = height <= 0
    scale = torch.where(lost, 1.0, height)[stamps.stamp]
    now, ahead = iterate.morphologies / scale, iterate.morphologies_ahead / scale
    if lost.any():
        fresh = points(chi_square.batch, stamps, sigma_pix)
        now, ahead = (torch.where(lost[stamps.stamp], fresh, values) for values in (now, ahead))
    height = torch.where(lost, 0.0, height)[:, None]
    return replace(
        iterate,
        spectra=iterate.spectra * height,
        morphologies=now,
        spectra_ahead=iterate.spectra_ahead * height,
        morphologies_ahead=ahead,
    )


def _retreat(chi_square: ChiSquare, after: Iterate, before: Iterate, better: Tensor) -> Iterate:
    """Where steps were too long, go back and take shorter ones."""
    if better.all():
        return after
    owner = chi_square.batch.owner
    of_spectra, of_values = better[owner, None], better[owner][chi_square.stamps.stamp]
    return Iterate(
        torch.where(of_spectra, after.spectra, before.spectra),
        torch.where(of_values, after.morphologies, before.morphologies),
        torch.where(of_spectra, after.spectra_ahead, before.spectra),
        torch.where(of_values, after.morphologies_ahead, before.morphologies),
        torch.where(better, after.momentum, 1.0),
        torch.where(better, after.caution, 4 * before.caution),
    )


@torch.inference_mode()
def fit_batch(batch: Batch, options: DeblendOptions, give_back: Callable[[Fit], None]) -> None:
    """Fit parents until each has converged or used up its iterations.

    Parameters
    ----------
    batch : `Batch`
        The parents.
    options : `DeblendOptions`
        When to stop, and the background threshold.
    give_back : `~collections.abc.Callable`
        Called with the parents that are done, whenever some are; they leave
        the batch.
    """
    tolerance = options.tolerance or _TOLERANCE
    state = _begin(batch, options)
    n_iterations = 0
    while True:
        n_steps = min(_STEPS_PER_CYCLE, options.max_iterations - n_iterations)
        chi_square = ChiSquare(state.batch, state.stamps)
        iterate = descend(chi_square, state.iterate, options.background_threshold, n_steps)
        iterate = _normalize(chi_square, iterate, options.sigma_pix)
        chi2 = chi_square.value(iterate.spectra, iterate.morphologies)
        n_iterations += n_steps
        better = chi2 <= state.chi2
        converged = better & (state.chi2 - chi2 < n_steps * tolerance * chi2)
        iterate = _retreat(chi_square, iterate, state.iterate, better)
        state = replace(state, iterate=iterate, chi2=torch.where(better, chi2, state.chi2))
        done = converged | (iterate.caution > _MOST_CAUTION) | (n_iterations >= options.max_iterations)
        if done.any():
            give_back(_finish(state, done, converged, n_iterations))
        if done.all():
            break
        state = _select(state, ~done, options)
