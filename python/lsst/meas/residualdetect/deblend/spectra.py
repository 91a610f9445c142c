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

"""The best spectra for given morphologies."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Batch
from .chi_square import ChiSquare
from .stamps import from_rows, to_rows

__all__ = ["solve_spectra"]

# Part of the chi-square that a further step must have lowered, and most steps.
_MUCH = 0.1
_MOST_STEPS = 30


def solve_spectra(chi_square: ChiSquare, morphologies: Tensor, n_steps: int) -> Tensor:
    """Least squares by conjugate gradients, each parent and band for itself.

    Parameters
    ----------
    chi_square : `ChiSquare`
        What to minimise.
    morphologies : `torch.Tensor`, (value,)
        Morphologies in the model PSF.
    n_steps : `int`
        Steps to take; as many as a parent has components are exact, and one
        that does not lower chi-square is the last. A parent whose chi-square
        they still lower much, as beside a very bright source, takes some
        more: faint spectra are nothing before.

    Returns
    -------
    spectra : `torch.Tensor`, (component, band)
        The spectra, negative ones set to zero; zero in a band where none of
        the component's pixels has any weight.
    """
    batch, stamps = chi_square.batch, chi_square.stamps
    # Larger components have more weight in the matrix.
    size = morphologies.new_zeros(len(stamps)).index_add_(0, stamps.stamp, morphologies.square())
    scale = (1 / size)[:, None]
    spectra = batch.depth.new_zeros(len(stamps), batch.depth.shape[1])
    residual, direction = batch.images, spectra
    slope = torch.full_like(batch.depth, torch.inf)
    chi2 = _chi_square(batch, residual)
    unfinished = torch.ones_like(batch.depth, dtype=torch.bool)
    for step in range(max(n_steps, _MOST_STEPS)):
        rows = to_rows(batch.convolver.adjoint(batch.fit_weights * residual))
        gradient = stamps.project(morphologies, rows)
        steepest = scale * gradient
        before = slope
        slope = torch.zeros_like(batch.depth).index_add_(0, batch.owner, gradient * steepest)
        direction = steepest + _ratio(slope, before)[batch.owner] * direction
        image = batch.convolver.forward(from_rows(stamps.render(morphologies, direction), batch.images))
        length = _ratio(slope, _chi_square(batch, image))
        left = residual - length[:, :, None, None] * image
        chi2_left = _chi_square(batch, left)
        # Where only rounding is left, further steps would lead anywhere.
        unfinished &= chi2_left < chi2
        spectra = torch.where(unfinished[batch.owner], spectra + length[batch.owner] * direction, spectra)
        residual = torch.where(unfinished[:, :, None, None], left, residual)
        chi2 = torch.where(unfinished, chi2_left, chi2)
        if step + 1 >= n_steps:
            unfinished &= slope * length > _MUCH * chi2
        if not unfinished.any():
            break
    return spectra.clamp(min=0)


def _chi_square(batch: Batch, residual: Tensor) -> Tensor:
    """Of each parent and band."""
    return (batch.fit_weights * residual.square()).sum((2, 3))


def _ratio(dividend: Tensor, divisor: Tensor) -> Tensor:
    """Zero where the divisor is."""
    return torch.where(divisor == 0, 0, dividend / divisor)
