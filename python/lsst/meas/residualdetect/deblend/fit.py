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

Spectra and morphologies take turns: some accelerated proximal gradient steps
of all the one, with the other fixed, each unknown with a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..scene import Array
from .batch import Batch
from .convolve import BandConvolver
from .descent import Iterate
from .initialize import initial_morphologies, points
from .morphologies import fit_morphologies
from .options import DeblendOptions
from .spectra import fit_spectra
from .stamps import Stamps, from_rows, make_stamps

__all__ = ["Fit", "fit_batch"]

# Steps of the morphologies between two fits of the spectra.
_STEPS_PER_CYCLE = 10

# Steps of the spectra in such a fit, and how many fits come first, each with
# better step sizes: bright blends end in a poor minimum if theirs begin badly.
_SPECTRA_STEPS = 5
_FIRST_FITS = 4

# Rings kept free beyond the light of a morphology: how far it may grow from
# one fit of the spectra to the next.
_MARGIN = 5


@dataclass(frozen=True, eq=False)
class Fit:
    """Where some parents of a batch ended.

    Parameters
    ----------
    index : `torch.Tensor`, (parent,), int64
        Places of these parents in the batch.
    owner : `torch.Tensor`, (component,), int64
        The parent, as a place in ``index``, of each component.
    spectra : `torch.Tensor`, (component, band)
        Factors of the morphologies.
    stamps : `Stamps`
        Stamps of the components.
    morphologies : `torch.Tensor`, (value,)
        Morphologies, peak 1.
    chi2 : `torch.Tensor`, (parent,)
        Chi-square of the model.
    converged : `torch.Tensor`, (parent,), bool
        Whether it had stopped improving.
    n_iterations : `int`
        Steps of the morphologies done.
    """

    index: Tensor
    owner: Tensor
    spectra: Tensor
    stamps: Stamps
    morphologies: Tensor
    chi2: Tensor
    converged: Tensor
    n_iterations: int


@dataclass(frozen=True, eq=False)
class _State:
    """Parents still being fitted."""

    index: Tensor
    batch: Batch
    stamps: Stamps
    spectra: Iterate
    morphologies: Iterate
    chi2: Tensor


def _begin(batch: Batch, options: DeblendOptions) -> _State:
    stamps, morphologies = initial_morphologies(batch, options)
    n_parents, n_bands = batch.depth.shape
    dark, rest = batch.depth.new_zeros(len(stamps), n_bands), batch.depth.new_ones(n_parents)
    state = _State(
        index=torch.arange(n_parents, device=batch.depth.device),
        batch=batch,
        stamps=stamps,
        spectra=Iterate(dark, dark, rest),
        morphologies=Iterate(morphologies, morphologies, rest),
        chi2=batch.depth.new_full((n_parents,), torch.inf),
    )
    return _select(state, torch.ones_like(state.chi2, dtype=torch.bool), options)


def _select(state: _State, keep: Tensor, options: DeblendOptions) -> _State:
    """The parents to keep, in stamps that leave each component a margin."""
    members = keep[state.batch.owner].nonzero()[:, 0]
    batch = state.batch.select(keep)
    extent = state.stamps.extent(state.morphologies.now)[members]
    radius = torch.minimum(extent + _MARGIN, batch.reach).clamp(max=options.max_radius_pix)
    stamps = make_stamps(batch.pixels, batch.owner, batch.support, radius)
    now, ahead = (
        stamps.move(values, state.stamps, members)
        for values in (state.morphologies.now, state.morphologies.ahead)
    )
    return _State(
        state.index[keep],
        batch,
        stamps,
        Iterate(state.spectra.now[members], state.spectra.ahead[members], state.spectra.momentum[keep]),
        Iterate(now, ahead, state.morphologies.momentum[keep]),
        state.chi2[keep],
    )


def _refit_spectra(
    state: _State, convolver: BandConvolver, envelope: BandConvolver, sigma_pix: float, n_fits: int
) -> _State:
    """Bring every peak to 1, solve for the spectra, and measure chi-square."""
    batch, stamps = state.batch, state.stamps
    height = state.morphologies.now[stamps.rank]
    lost = height <= 0
    height = torch.where(lost, 1.0, height)
    now, ahead = (
        values / height[stamps.stamp] for values in (state.morphologies.now, state.morphologies.ahead)
    )
    if lost.any():
        # A component that lost all its light may come back, as a point.
        fresh = points(batch, stamps, sigma_pix)
        now, ahead = (torch.where(lost[stamps.stamp], fresh, values) for values in (now, ahead))
    spectra = Iterate(
        state.spectra.now * height[:, None], state.spectra.ahead * height[:, None], state.spectra.momentum
    )
    if len(stamps) == len(batch):
        n_fits, n_steps = 1, 1  # exact for components alone
    else:
        n_steps = _SPECTRA_STEPS
    for _ in range(n_fits):
        spectra = fit_spectra(batch, stamps, now, spectra, convolver, envelope, n_steps)
    residual = batch.images - convolver.forward(from_rows(stamps.render(now, spectra.now), batch.images))
    chi2 = (batch.fit_weights * residual**2).sum((1, 2, 3))
    morphologies = replace(state.morphologies, now=now, ahead=ahead)
    return replace(state, spectra=spectra, morphologies=morphologies, chi2=chi2)


@torch.no_grad()
def fit_batch(
    batch: Batch, kernels: Array, options: DeblendOptions, give_back: Callable[[Fit], None]
) -> None:
    """Fit parents until each has converged or used up its iterations.

    Parameters
    ----------
    batch : `Batch`
        The parents.
    kernels : `numpy.ndarray`, (band, h, w), float32
        Difference kernels.
    options : `DeblendOptions`
        When to stop, and the background threshold.
    give_back : `~collections.abc.Callable`
        Called with the parents that are done, whenever some are; they leave
        the batch.
    """
    device = batch.images.device
    convolver = BandConvolver(kernels, batch.shape, device)
    envelope = BandConvolver(np.abs(kernels), batch.shape, device)
    state = _begin(batch, options)
    n_iterations = 0
    while True:
        previous = state.chi2
        n_fits = 1 if n_iterations else _FIRST_FITS
        state = _refit_spectra(state, convolver, envelope, options.sigma_pix, n_fits)
        converged = (previous - state.chi2).abs() < options.tolerance * state.chi2
        done = converged | (n_iterations >= options.max_iterations)
        if done.any():
            finished = _select(state, done, options)
            give_back(
                Fit(
                    finished.index,
                    finished.batch.owner,
                    finished.spectra.now,
                    finished.stamps,
                    finished.morphologies.now,
                    finished.chi2,
                    converged[done],
                    n_iterations,
                )
            )
        if done.all():
            break
        state = _select(state, ~done, options)
        n_steps = min(_STEPS_PER_CYCLE, options.max_iterations - n_iterations)
        morphologies = fit_morphologies(
            state.batch,
            state.stamps,
            state.spectra.now,
            state.morphologies,
            convolver,
            envelope,
            options.background_threshold,
            n_steps,
        )
        state = replace(state, morphologies=morphologies)
        n_iterations += n_steps
