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

"""The best non-negative spectra for given morphologies."""

from __future__ import annotations

import torch
from torch import Tensor

from .convolve import BandConvolver

__all__ = ["fit_spectra"]

_SWEEPS = 20


def _non_negative_solution(gram: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """Minimise s.gram.s / 2 - target.s over s >= 0 by coordinate descent.

    Exact for one unknown; for more it is refined from one call to the next
    by starting where the last one ended. Unknowns with a zero on the diagonal
    of ``gram`` stay zero. ``gram`` is (..., k, k), the others (..., k).
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    known = diagonal > 0
    inverse = torch.where(known, 1 / diagonal, 0.0)
    solution = torch.where(known, start, 0.0)
    n_unknowns = solution.shape[-1]
    for _ in range(_SWEEPS if n_unknowns > 1 else 1):
        for k in range(n_unknowns):
            slope = target[..., k] - (gram[..., k, :] * solution).sum(-1)
            solution[..., k] = (solution[..., k] + slope * inverse[..., k]).clamp(min=0)
    return solution


def fit_spectra(
    convolver: BandConvolver, morphologies: Tensor, images: Tensor, weights: Tensor, start: Tensor
) -> Tensor:
    """Solve weighted non-negative least squares in each band.

    Parameters
    ----------
    convolver : `BandConvolver`
        Takes a morphology to each band.
    morphologies : `torch.Tensor`, (parent, slot, y, x)
        Morphologies in the model PSF.
    images, weights : `torch.Tensor`, (parent, band, y, x)
        Pixels and inverse variances.
    start : `torch.Tensor`, (parent, slot, band)
        Where to start.

    Returns
    -------
    spectra : `torch.Tensor`, (parent, slot, band)
        The spectra; zero in a band where none of the component's pixels has
        any weight.
    """
    grams, targets = [], []
    for band, templates in enumerate(convolver.each_band(morphologies)):
        template = templates.flatten(2)
        weighted = template * weights[:, band].flatten(1)[:, None]
        grams.append(weighted @ template.transpose(1, 2))
        targets.append((weighted @ images[:, band].flatten(1)[..., None])[..., 0])
    solution = _non_negative_solution(torch.stack(grams, 1), torch.stack(targets, 1), start.transpose(1, 2))
    return solution.transpose(1, 2)
