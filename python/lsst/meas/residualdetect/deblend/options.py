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

"""What a scientist may want to change about a deblend."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..scene import DEFAULT_BAD_PLANES, Scene

__all__ = ["DeblendError", "DeblendOptions"]

# Part of the model PSF's width that an observed PSF may be narrower.
_AS_WIDE = 0.98


class DeblendError(ValueError):
    """A deblend that cannot begin: an unknown engine or an impossible option."""


@dataclass(frozen=True)
class DeblendOptions:
    """Options of a deblend, the same for all parents of a scene.

    Parameters
    ----------
    sigma_pix : `float`
        Standard deviation of the Gaussian model PSF, in pixels. Wide enough
        to be sampled; where an observed PSF is narrower, that of the
        sharpest.
    max_iterations : `int`
        Iterations after which a parent is given back as it is, not
        converged.
    tolerance : `float`, optional
        A parent is done when an iteration lowers its chi-square by less
        than this fraction of it. If absent, 0.003 for ``factorized``, whose
        iterations do more, and the stack's 0.001 for ``scarlet_lite``.
    bad_planes : `tuple` [`str`]
        Mask planes whose pixels are left out of the fit.
    point_snr : `float`
        Sources below this signal-to-noise ratio (of a PSF fit to all bands
        at the peak) start as a point; those above start from the data.
    min_snr : `float`
        Signal-to-noise ratio that each component must have: sources above
        twice this value may have two.
    max_components : `int`
        1, or 2 to give bright sources a bulge and a disk of different
        colours.
    background_threshold : `float`
        Surface brightness below which there is no light: a morphology is set
        to zero where it is fainter than this in all bands, in standard
        deviations of the noise of a pixel. The default is the stack's. A
        lower one finds the flux of wings, but also lets sources take up the
        light of neighbours that nobody detected, out of the residual.
    max_radius_pix : `int`
        Greatest distance from its peak, along either axis, at which a
        source may have light.
    batch_mbytes : `float`
        Working memory of a batch of parents, in 2^20 bytes. A parent that
        needs more is fitted alone. On the CPU more is not faster, as caches
        are small; a GPU wants some thousand.
    device : `str`
        Where to compute, in torch's words: ``"cpu"``, ``"cuda"``,
        ``"cuda:1"``.
    n_threads : `int`, optional
        How many batches to fit at a time on the CPU, each on one thread. If
        absent, ``OMP_NUM_THREADS`` of the environment, which is 1 in
        ``pipetask``, or else one for each core. The models are the same.

    Raises
    ------
    DeblendError
        Raised if a value makes no sense.
    """

    sigma_pix: float = 0.8
    max_iterations: int = 200
    tolerance: float | None = None
    bad_planes: tuple[str, ...] = DEFAULT_BAD_PLANES
    point_snr: float = 20.0
    min_snr: float = 50.0
    max_components: int = 2
    background_threshold: float = 1.0
    max_radius_pix: int = 100
    batch_mbytes: float = 32.0
    device: str = "cpu"
    n_threads: int | None = None

    def for_scene(self, scene: Scene) -> DeblendOptions:
        """The same, with a model PSF that is no wider than any PSF of a scene.

        What is convolved with a wider one shows no pixel as sharp as the
        image does. Widths are `Scene.psf_sigmas_pix`, where the PSF changes
        on a grid of 4 x 4 places, too.
        """
        seen = [scene]
        if scene.psf_fields:
            grid = np.add(np.outer((0.5, 1.5, 2.5, 3.5), np.divide(scene.shape, 4)), scene.origin).T
            seen += [scene.at(y, x) for y in grid[0].tolist() for x in grid[1].tolist()]
        with np.errstate(divide="ignore"):
            # Of a band without a usable PSF, which is found later, NaN or infinite.
            sharpest = float(np.nanmin([there.psf_sigmas_pix for there in seen], initial=np.inf))
        return replace(self, sigma_pix=sharpest) if sharpest < _AS_WIDE * self.sigma_pix else self

    def __post_init__(self) -> None:
        if not isinstance(self.bad_planes, tuple):
            raise DeblendError(f"bad_planes is {self.bad_planes!r}; expected a tuple of plane names")
        for name in (
            "sigma_pix",
            "max_iterations",
            "tolerance",
            "max_radius_pix",
            "batch_mbytes",
            "n_threads",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DeblendError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("point_snr", "min_snr", "background_threshold"):
            if not getattr(self, name) >= 0:
                raise DeblendError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.max_components not in (1, 2):
            raise DeblendError(f"max_components is {self.max_components}; it must be 1 or 2")
