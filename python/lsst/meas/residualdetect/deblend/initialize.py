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

import math

import torch
from torch import Tensor

from ..detections import Peak, positions_of
from ..noise import flat_spectrum_snr
from .batch import Batch
from .cutouts import Component, Cutout
from .monotonic import make_monotonic
from .options import DeblendOptions
from .stamps import Stamps, make_stamps

__all__ = ["choose_components", "initial_morphologies", "points"]

# Part of the peak's height at which a bright source is cut into two.
_DISK_HEIGHT = 0.25

# Radius of a point in standard deviations of the model PSF, and that in which
# the extent of other sources is looked for first, in pixels.
_POINT_SIGMAS = 5
_FIRST_RADIUS = 8


def choose_components(cutout: Cutout) -> tuple[tuple[Peak, Component], ...]:
    """The components to model each peak with, by its signal-to-noise ratio."""
    peaks, options = cutout.parent.peaks, cutout.field.options
    snr = flat_spectrum_snr(cutout.field.scene, *positions_of(peaks).T, bad_planes=options.bad_planes)

    def kinds(peak: Peak, snr: float) -> tuple[Component, ...]:
        # Of a peak behind a mask only its wings are seen: the less it may be,
        # the better it is known.
        if snr < options.point_snr or not cutout.sees(peak):
            return (Component.POINT,)
        if snr < 2 * options.min_snr or options.max_components == 1:
            return (Component.EXTENDED,)
        return (Component.BULGE, Component.DISK)

    return tuple((peak, kind) for peak, own in zip(peaks, snr, strict=True) for kind in kinds(peak, own))


def points(batch: Batch, stamps: Stamps, sigma_pix: float) -> Tensor:
    """The model PSF at each peak, cut to the footprint: (value,)."""
    height, width = batch.shape
    pixels = torch.stack([stamps.pixel // width % height, stamps.pixel % width], dim=1)
    distance2 = ((pixels - batch.positions[stamps.stamp]) ** 2).sum(1)
    return torch.where(stamps.free, torch.exp(-0.5 * distance2 / sigma_pix**2), 0.0)


def _from_data(batch: Batch, stamps: Stamps, threshold: float) -> Tensor:
    """What the data allow a monotonic, symmetric source to be, in standard
    deviations of the noise: (value,).
    """
    # In units of each band's own noise, lest the unit of flux weigh the bands. A
    # pixel that is bad in some is scaled up from the others.
    depth = batch.depth[:, :, None, None]
    weights = torch.where(depth > 0, batch.weights / depth, 0.0)
    weight, n_bands = weights.sum(1), (depth > 0).sum(1)
    significance = (weights * batch.images * depth.sqrt()).sum(1) / weight * n_bands.sqrt()
    unknown = torch.where(batch.support, torch.inf, 0.0)
    image = torch.where(weight > 0, significance, unknown).flatten()
    seen = torch.where(stamps.inside, image[stamps.pixel], 0.0)
    symmetric = torch.minimum(seen, stamps.opposite(seen)).clamp(min=0)
    monotonic = make_monotonic(symmetric, stamps.counts)
    return torch.where(monotonic > threshold, monotonic, 0.0)


def initial_morphologies(batch: Batch, options: DeblendOptions) -> tuple[Stamps, Tensor]:
    """First guess of every component, in stamps that hold it.

    Parameters
    ----------
    batch : `Batch`
        The parents.
    options : `DeblendOptions`
        Model PSF, background threshold and largest radius.

    Returns
    -------
    stamps : `Stamps`
        Stamps of all components.
    morphologies : `torch.Tensor`, (value,)
        Peak 1.
    """
    reach = batch.reach.clamp(max=options.max_radius_pix)
    point_radius = math.ceil(_POINT_SIGMAS * options.sigma_pix)
    radius = torch.where(batch.components == Component.POINT, point_radius, _FIRST_RADIUS)
    radius = torch.minimum(radius, reach)
    while True:
        stamps = make_stamps(batch.pixels, batch.owner, batch.support, radius)
        extended = _from_data(batch, stamps, options.background_threshold)
        # A ring without light ends a monotonic source.
        cut = (stamps.extent(extended) == radius) & (radius < reach) & (batch.components > Component.POINT)
        if not cut.any():
            break
        radius = torch.where(cut, torch.minimum(2 * radius, reach), radius)
    height = extended[stamps.rank][stamps.stamp]
    component = batch.components[stamps.stamp]
    point = points(batch, stamps, options.sigma_pix)
    extended = torch.where(height > 0, extended / height, point)
    guesses = {
        Component.EXTENDED: extended,
        Component.BULGE: (extended - _DISK_HEIGHT).clamp(min=0) / (1 - _DISK_HEIGHT),
        Component.DISK: extended.clamp(max=_DISK_HEIGHT) / _DISK_HEIGHT,
    }
    morphologies = point
    for kind, guess in guesses.items():
        morphologies = torch.where(component == kind, guess, morphologies)
    return stamps, torch.where(stamps.free, morphologies, 0.0)
