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

from .batch import Batch
from .convolve import BandConvolver
from .descent import Iterate, descend
from .stamps import Stamps, from_rows, to_rows

__all__ = ["fit_spectra"]


def fit_spectra(
    batch: Batch,
    stamps: Stamps,
    morphologies: Tensor,
    start: Iterate,
    convolver: BandConvolver,
    envelope: BandConvolver,
    n_steps: int,
) -> Iterate:
    """Improve spectra by weighted non-negative least squares.

    Parameters
    ----------
    batch : `Batch`
        The pixels.
    stamps : `Stamps`
        Stamps of all components.
    morphologies : `torch.Tensor`, (value,)
        Morphologies in the model PSF.
    start : `Iterate`, (component, band)
        Where to start; the momentum is that of each parent.
    convolver, envelope : `BandConvolver`
        Take the model PSF to each band, and the same with the kernels'
        absolute values.
    n_steps : `int`
        Steps of the descent. One is exact for a component alone.

    Returns
    -------
    spectra : `Iterate`, (component, band)
        The spectra; zero in a band where none of the component's pixels has
        any weight.
    """
    weights = batch.fit_weights

    def gradient(spectra: Tensor) -> Tensor:
        seen = convolver.forward(from_rows(stamps.render(morphologies, spectra), batch.images))
        return stamps.project(morphologies, to_rows(convolver.adjoint(weights * (seen - batch.images))))

    # The separable surrogate of morphologies._curvature, now for the spectra.
    noise = torch.where(batch.depth > 0, batch.depth.rsqrt(), 0.0)
    trial = start.now + noise[batch.owner]
    seen = envelope.forward(from_rows(stamps.render(morphologies, trial), batch.images))
    back = stamps.project(morphologies, to_rows(envelope.adjoint(weights * seen)))
    curvature = torch.where(trial > 0, back / trial, 0.0)
    now, ahead = (torch.where(curvature > 0, spectra, 0.0) for spectra in (start.now, start.ahead))
    begin = Iterate(now, ahead, start.momentum)
    return descend(begin, batch.owner, curvature, gradient, lambda s: s.clamp(min=0), n_steps)
