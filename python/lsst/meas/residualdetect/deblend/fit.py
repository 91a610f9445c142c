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

Spectra and morphologies take turns. Given the morphologies, the best spectra
are a small non-negative least-squares problem. Given the spectra, all
morphologies of a parent take accelerated proximal gradient steps (FISTA; Beck
& Teboulle 2009, SIAM J. Imaging Sciences 2, 183) with a step of its own for
each pixel.
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
from .initialize import initial_morphologies, points
from .options import DeblendOptions
from .spectra import fit_spectra
from .stamps import PeakStamps

__all__ = ["Fit", "fit_batch"]

# Steps of the morphologies between two fits of the spectra.
_STEPS_PER_CYCLE = 10

# Part of a morphology's height that pixels without light count as having when
# step sizes are chosen: lower moves bright pixels faster, faint ones slower.
_STEP_FLOOR = 0.03


@dataclass(frozen=True, eq=False)
class Fit:
    """Where some parents of a batch ended.

    Parameters
    ----------
    index : `torch.Tensor`, (parent,), int64
        Places of these parents in the batch.
    spectra : `torch.Tensor`, (parent, slot, band)
        Factors of the morphologies.
    morphologies : `torch.Tensor`, (parent, slot, y, x)
        Morphologies, peak 1.
    chi2 : `torch.Tensor`, (parent,)
        Chi-square of the model.
    converged : `torch.Tensor`, (parent,), bool
        Whether it had stopped improving.
    n_iterations : `int`
        Steps of the morphologies done.
    """

    index: Tensor
    spectra: Tensor
    morphologies: Tensor
    chi2: Tensor
    converged: Tensor
    n_iterations: int


@dataclass(frozen=True, eq=False)
class _State:
    """Parents still being fitted; the first axis of every tensor is theirs.

    Images are (parent, band, y, x), morphologies (parent, slot, pixel).
    """

    index: Tensor
    batch: Batch
    weights: Tensor
    stamps: PeakStamps
    spectra: Tensor
    morphologies: Tensor
    ahead: Tensor  # FISTA's extrapolated morphologies
    momentum: Tensor
    chi2: Tensor

    def select(self, keep: Tensor) -> _State:
        """Some of the parents."""
        n_slots = self.batch.n_slots
        slots = (keep[:, None] * n_slots + torch.arange(n_slots, device=keep.device)).flatten()
        return _State(
            self.index[keep],
            self.batch.select(keep),
            self.weights[keep],
            self.stamps.select(slots),
            self.spectra[keep],
            self.morphologies[keep],
            self.ahead[keep],
            self.momentum[keep],
            self.chi2[keep],
        )


def _begin(batch: Batch, options: DeblendOptions) -> _State:
    n_parents, n_bands = batch.depth.shape
    stamps = PeakStamps(batch.pixels.flatten(0, 1), batch.shape, options.max_radius_pix)
    morphologies = initial_morphologies(batch, stamps, options)
    return _State(
        index=torch.arange(n_parents, device=batch.depth.device),
        batch=batch,
        weights=batch.fit_weights,
        stamps=stamps,
        spectra=batch.depth.new_zeros(n_parents, batch.n_slots, n_bands),
        morphologies=morphologies,
        ahead=morphologies,
        momentum=batch.depth.new_ones(n_parents),
        chi2=batch.depth.new_full((n_parents,), torch.inf),
    )


def _refit_spectra(state: _State, convolver: BandConvolver, sigma_pix: float) -> _State:
    """Bring every peak to 1, solve for the spectra, and measure chi-square."""
    batch = state.batch
    height = state.morphologies.amax(-1, keepdim=True)
    lost = height <= 0
    height = torch.where(lost, 1.0, height)
    morphologies, ahead = state.morphologies / height, state.ahead / height
    # A component that lost all its light may come back, as a point.
    lost &= (batch.components > 0)[..., None]
    if lost.any():
        fresh = points(batch, sigma_pix)
        morphologies, ahead = torch.where(lost, fresh, morphologies), torch.where(lost, fresh, ahead)
    planes = morphologies.reshape(*morphologies.shape[:2], *batch.shape)
    spectra = fit_spectra(convolver, planes, batch.images, state.weights, state.spectra * height)
    residual = batch.images - convolver.forward(_cube(spectra, morphologies, batch.shape))
    chi2 = (state.weights * residual**2).sum((1, 2, 3))
    return replace(state, spectra=spectra, morphologies=morphologies, ahead=ahead, chi2=chi2)


def _cube(spectra: Tensor, morphologies: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sum of all components before convolution: (parent, band, y, x)."""
    return (spectra.transpose(1, 2) @ morphologies).reshape(len(spectra), -1, *shape)


def _curvature(state: _State, envelope: BandConvolver) -> Tensor:
    """A diagonal that bounds the Hessian of chi2 / 2 in the morphologies.

    For a symmetric H without negative elements and any positive v,
    diag(H v / v) - H is positive semi-definite (the separable surrogate of
    De Pierro 1995, IEEE Trans. Medical Imaging 14, 132). H v is cheap, and a
    v like the solution makes long steps where the light is. ``envelope`` has
    the kernels' absolute values.
    """
    batch = state.batch
    height = state.morphologies.amax(-1, keepdim=True)
    trial = state.morphologies + _STEP_FLOOR * height * batch.support.flatten(1)[:, None]
    seen = envelope.forward(_cube(state.spectra, trial, batch.shape))
    back = envelope.adjoint(state.weights * seen).flatten(2)
    return torch.where(trial > 0, state.spectra @ back / trial, 0.0)


def _descend(
    state: _State, convolver: BandConvolver, envelope: BandConvolver, threshold: float, n_steps: int
) -> _State:
    """Steps of the morphologies with fixed spectra."""
    batch = state.batch
    n_slots = batch.n_slots
    curvature = _curvature(state, envelope)
    step = torch.where(curvature > 0, 1 / curvature, 0.0)
    support = batch.support.flatten(1).repeat_interleave(n_slots, dim=0)
    significance = (state.spectra**2 * batch.depth[:, None]).sum(-1, keepdim=True).sqrt()
    morphologies, ahead, momentum = state.morphologies, state.ahead, state.momentum
    for _ in range(n_steps):
        seen = convolver.forward(_cube(state.spectra, ahead, batch.shape))
        back = convolver.adjoint(state.weights * (seen - batch.images)).flatten(2)
        free = ahead - step * (state.spectra @ back)
        new = state.stamps.project(free.flatten(0, 1), support).reshape(free.shape)
        new = torch.where(new * significance > threshold, new, 0.0)
        # Forget the momentum where it leads uphill (O'Donoghue & Candes 2015,
        # Foundations of Computational Mathematics 15, 715).
        uphill = (curvature * (ahead - new) * (new - morphologies)).sum((1, 2)) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = new + ((momentum - 1) / following)[:, None, None] * (new - morphologies)
        morphologies, momentum = new, following
    return replace(state, morphologies=morphologies, ahead=ahead, momentum=momentum)


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
    while len(state.index):
        previous = state.chi2
        state = _refit_spectra(state, convolver, options.sigma_pix)
        converged = (previous - state.chi2).abs() < options.tolerance * state.chi2
        over = n_iterations >= options.max_iterations
        done, rest = (torch.nonzero(which)[:, 0] for which in (converged | over, ~(converged | over)))
        if len(done):
            give_back(
                Fit(
                    state.index[done],
                    state.spectra[done],
                    state.morphologies[done].reshape(len(done), -1, *batch.shape),
                    state.chi2[done],
                    converged[done],
                    n_iterations,
                )
            )
            state = state.select(rest)
        if len(rest):
            n_steps = min(_STEPS_PER_CYCLE, options.max_iterations - n_iterations)
            state = _descend(state, convolver, envelope, options.background_threshold, n_steps)
            n_iterations += n_steps
