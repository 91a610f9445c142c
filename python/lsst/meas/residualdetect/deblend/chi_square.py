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

"""Chi-square of a batch of parents, its gradient and its curvature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import Batch
from .stamps import Stamps, from_rows, to_rows

__all__ = ["ChiSquare"]

# Part of a morphology's height that a pixel without light counts as having
# when step sizes are chosen: lower moves bright pixels faster, faint slower.
_FLOOR = 0.1

# Spectra and morphologies are corrected from one gradient, and each must leave
# room for what the other does: factors a and b of their own bounds with
# 1 / a + 1 / b = 1 bound the Hessian of both together. Spectra begin well and
# may be slow, 4 and 4 / 3. The bound of the morphologies is far from tight, and
# half of it is seldom too little; descents that fail are repeated with more.
_SPECTRA_FACTOR = 4.0
_MORPHOLOGY_FACTOR = 0.7


@dataclass(frozen=True, eq=False)
class ChiSquare:
    """Half of the chi-square of all parents, as a function of the spectra
    (component, band) and the morphologies (value,) of their components.

    Parameters
    ----------
    batch : `Batch`
        The pixels.
    stamps : `Stamps`
        Where the morphologies are.
    """

    batch: Batch
    stamps: Stamps

    def residual(self, spectra: Tensor, morphologies: Tensor) -> Tensor:
        """Model minus pixels: (parent, band, y, x)."""
        model = from_rows(self.stamps.render(morphologies, spectra), self.batch.images)
        return self.batch.convolver.forward(model) - self.batch.images

    def value(self, spectra: Tensor, morphologies: Tensor) -> Tensor:
        """The chi-square itself: (parent,)."""
        residual = self.residual(spectra, morphologies)
        return (self.batch.fit_weights * residual.square()).sum((1, 2, 3))

    def gradient(self, spectra: Tensor, morphologies: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives in the spectra and in the morphologies."""
        weighted = self.batch.fit_weights * self.residual(spectra, morphologies)
        rows = to_rows(self.batch.convolver.adjoint(weighted))
        return self.stamps.project(morphologies, rows), self.stamps.weigh(rows, spectra)

    def curvature(self, spectra: Tensor, morphologies: Tensor) -> tuple[Tensor, Tensor]:
        """Diagonals about as large as bound the Hessian; zero for a spectrum in
        a band without weight and off the support.

        For a symmetric H without negative elements and any positive v,
        diag(H v / v) - H is positive semi-definite (the separable surrogate
        of De Pierro 1995, IEEE Trans. Medical Imaging 14, 132). H v is cheap,
        and a v like the solution makes long steps where the light is.
        """
        batch, stamps = self.batch, self.stamps
        noise = torch.where(batch.depth > 0, batch.depth.rsqrt(), 0.0)
        trial_spectra = spectra + noise[batch.owner]
        trial = torch.where(stamps.free, morphologies + _FLOOR, 0.0)
        cube = from_rows(stamps.render(trial, trial_spectra), batch.images)
        seen = batch.fit_weights * batch.envelope.forward(cube)
        rows = to_rows(batch.envelope.adjoint(seen))
        of_spectra = _SPECTRA_FACTOR * stamps.project(morphologies, rows)
        of_morphologies = _MORPHOLOGY_FACTOR * stamps.weigh(rows, spectra)
        return (
            torch.where(trial_spectra > 0, of_spectra / trial_spectra, 0.0),
            torch.where(stamps.free, of_morphologies / (morphologies + _FLOOR), 0.0),
        )
