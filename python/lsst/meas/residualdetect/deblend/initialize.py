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

"""First guess of each source's morphology.

The rules are lsst.scarlet.lite's: a faint source starts as a point, a
brighter one from the data made symmetric and monotonic about its peak, and a
still brighter one as the inner and the outer part of that.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..footprint import Peak
from ..scene import Array, Scene
from .batch import Batch, Component
from .monotonic import make_monotonic
from .options import DeblendOptions
from .stamps import PeakStamps

__all__ = ["choose_components", "initial_morphologies", "points", "signal_to_noise"]

# Part of the peak's height at which a bright source is cut into two.
_DISK_HEIGHT = 0.25


def signal_to_noise(scene: Scene, weights: Array, y: int, x: int) -> float:
    """Signal-to-noise ratio of a PSF at a pixel, all bands together.

    Parameters
    ----------
    scene : `Scene`
        The coadds.
    weights : `numpy.ndarray`, (band, y, x), float32
        Inverse variance, zero at bad pixels.
    y, x : `int`
        Array indices of the pixel.

    Returns
    -------
    snr : `float`
        Inverse-variance weighted sum of image times PSF, over its standard
        deviation; 0 where no pixel is good.
    """
    half = scene.psfs.shape[1] // 2, scene.psfs.shape[2] // 2
    there, psf_part = [], []
    for centre, reach, size in zip((y, x), half, scene.shape, strict=True):
        first, after = max(centre - reach, 0), min(centre + reach + 1, size)
        there.append(slice(first, after))
        psf_part.append(slice(first - centre + reach, after - centre + reach))
    weighted = scene.psfs[:, *psf_part].astype(np.float64) * weights[:, *there]
    variance = (weighted * scene.psfs[:, *psf_part]).sum()
    return float((weighted * scene.images[:, *there]).sum() / np.sqrt(variance)) if variance > 0 else 0.0


def choose_components(
    scene: Scene, weights: Array, peak: Peak, options: DeblendOptions
) -> tuple[Component, ...]:
    """The components to model a peak with, by its signal-to-noise ratio."""
    y, x = round(peak.y) - scene.origin[0], round(peak.x) - scene.origin[1]
    snr = signal_to_noise(scene, weights, y, x)
    if snr < options.min_snr:
        return (Component.POINT,)
    if snr < 2 * options.min_snr or options.max_components == 1:
        return (Component.EXTENDED,)
    return (Component.BULGE, Component.DISK)


def points(batch: Batch, sigma_pix: float) -> Tensor:
    """The model PSF at each peak, cut to the footprint: (parent, slot, pixel)."""
    axes = [torch.arange(size, device=batch.images.device) for size in batch.shape]
    y, x = (
        torch.exp(-0.5 * ((axis - centre[..., None]) / sigma_pix) ** 2)
        for axis, centre in zip(axes, batch.positions.unbind(-1), strict=True)
    )
    return (y[..., :, None] * x[..., None, :] * batch.support[:, None]).flatten(2)


def _from_data(batch: Batch, stamps: PeakStamps, threshold: float) -> Tensor:
    """What the data allow a monotonic, symmetric source to be, in standard
    deviations of the noise: (parent, slot, pixel).
    """
    # A pixel that is bad in some bands is scaled up from the others.
    depth = batch.depth.sum(1)[:, None, None]
    weight = batch.weights.sum(1)
    significance = (batch.weights * batch.images).sum(1) / weight * depth.sqrt()
    unknown = torch.where(batch.support, torch.inf, 0.0)
    boxes = torch.where(weight > 0, significance, unknown).flatten(1)
    boxes = boxes.repeat_interleave(batch.n_slots, dim=0)
    seen = stamps.to_stamps(boxes, 0.0)
    symmetric = torch.minimum(seen, stamps.opposite(seen)).clamp(min=0)
    monotonic = stamps.to_boxes(make_monotonic(symmetric))
    return torch.where(monotonic > threshold, monotonic, 0.0).reshape(*batch.components.shape, -1)


def initial_morphologies(batch: Batch, stamps: PeakStamps, options: DeblendOptions) -> Tensor:
    """First guess of every component.

    Parameters
    ----------
    batch : `Batch`
        The parents.
    stamps : `PeakStamps`
        Stamps of all slots of all parents.
    options : `DeblendOptions`
        Model PSF and background threshold.

    Returns
    -------
    morphologies : `torch.Tensor`, (parent, slot, pixel)
        Peak 1; zero in empty slots.
    """
    point = points(batch, options.sigma_pix)
    extended = _from_data(batch, stamps, options.background_threshold)
    height = extended.amax(-1, keepdim=True)
    extended = torch.where(height > 0, extended / height, point)
    guesses = {
        Component.POINT: point,
        Component.EXTENDED: extended,
        Component.BULGE: (extended - _DISK_HEIGHT).clamp(min=0),
        Component.DISK: extended.clamp(max=_DISK_HEIGHT),
    }
    morphologies = torch.zeros_like(point)
    for component, guess in guesses.items():
        morphologies = torch.where((batch.components == component)[..., None], guess, morphologies)
    return morphologies * batch.support.flatten(1)[:, None]
