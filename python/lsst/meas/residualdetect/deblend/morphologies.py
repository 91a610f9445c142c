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

"""The best monotonic morphologies for given spectra."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Batch
from .convolve import BandConvolver
from .descent import Iterate, descend
from .monotonic import make_monotonic
from .stamps import Stamps, from_rows, to_rows

__all__ = ["fit_morphologies"]

# Part of a morphology's height that pixels without light count as having when
# step sizes are chosen: lower moves bright pixels faster, faint ones slower.
_STEP_FLOOR = 0.03


def _curvature(
    batch: Batch, stamps: Stamps, spectra: Tensor, values: Tensor, envelope: BandConvolver
) -> Tensor:
    """A diagonal that bounds the Hessian of chi2 / 2 in the morphologies.

    For a symmetric H without negative elements and any positive v,
    diag(H v / v) - H is positive semi-definite (the separable surrogate of
    De Pierro 1995, IEEE Trans. Medical Imaging 14, 132). H v is cheap, and a
    v like the solution makes long steps where the light is. ``envelope`` has
    the kernels' absolute values.
    """
    cube = from_rows(stamps.render(values, spectra), batch.images)
    # The floor of every component counts on the whole footprint. In a crowded
    # one faint components move slowly then, and the fit ends before they have
    # taken up the light of neighbours that nobody detected.
    total = torch.zeros_like(batch.depth).index_add_(0, batch.owner, spectra)
    floor = _STEP_FLOOR * total[:, :, None, None] * batch.support[:, None]
    seen = envelope.forward(cube + floor)
    back = stamps.weigh(to_rows(envelope.adjoint(batch.fit_weights * seen)), spectra)
    return torch.where(stamps.free, back / (values + _STEP_FLOOR), 0.0)


def fit_morphologies(
    batch: Batch,
    stamps: Stamps,
    spectra: Tensor,
    begin: Iterate,
    convolver: BandConvolver,
    envelope: BandConvolver,
    threshold: float,
    n_steps: int,
) -> Iterate:
    """Improve morphologies by least squares; they stay non-negative and
    monotonic.

    Parameters
    ----------
    batch : `Batch`
        The pixels.
    stamps : `Stamps`
        Stamps of all components.
    spectra : `torch.Tensor`, (component, band)
        Factors of the morphologies.
    begin : `Iterate`, (value,)
        Where to begin, peak 1; the momentum is that of each parent.
    convolver, envelope : `BandConvolver`
        Take the model PSF to each band, and the same with the kernels'
        absolute values.
    threshold : `float`
        Surface brightness below which there is no light, in standard
        deviations of the noise of a pixel, all bands combined.
    n_steps : `int`
        Steps of the descent.

    Returns
    -------
    morphologies : `Iterate`, (value,)
        The morphologies.
    """
    weights = batch.fit_weights
    significance = (spectra**2 * batch.depth[batch.owner]).sum(1).sqrt()
    least = (threshold / significance)[stamps.stamp]

    def gradient(values: Tensor) -> Tensor:
        seen = convolver.forward(from_rows(stamps.render(values, spectra), batch.images))
        return stamps.weigh(to_rows(convolver.adjoint(weights * (seen - batch.images))), spectra)

    def constrain(values: Tensor) -> Tensor:
        # Pixels off the support do not stop a ray: beyond a gap the bound
        # goes on where it was.
        bound = torch.where(stamps.free, values.clamp(min=0), torch.inf)
        monotonic = make_monotonic(bound, stamps.counts)
        return torch.where(stamps.free & (monotonic > least), monotonic, 0.0)

    curvature = _curvature(batch, stamps, spectra, begin.now, envelope)
    owner = batch.owner[stamps.stamp]
    return descend(begin, owner, curvature, gradient, constrain, n_steps)
