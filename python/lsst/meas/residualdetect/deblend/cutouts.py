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

"""Parents cut out of their scenes, and which of them can be fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..boxes import Box, box_at, is_inside, nearest_pixel, overlap, shape_of
from ..detections import Parent, Peak
from ..scene import Array, Scene
from .options import DeblendOptions

__all__ = [
    "Component",
    "Cutout",
    "Field",
    "box_inside",
    "common_shape",
    "footprint_mask",
    "make_cutout",
    "make_cutouts",
    "noise_units",
]


class Component(IntEnum):
    """What a component of a source starts as."""

    POINT = 0
    EXTENDED = 1
    BULGE = 2
    DISK = 3


def noise_units(scene: Scene) -> npt.NDArray[np.float64]:
    """Flux of about the noise of a pixel in each band, to fit in numbers of
    order one whatever the images' unit: (band,), float64.

    Powers of two, which change no digit of what is fitted. The largest of the
    others in a band without data; 1 if none has any.
    """
    units = np.zeros(len(scene.bands))
    for band, variance in enumerate(scene.variance):
        # Some hundred thousand pixels say what the unit is.
        for sample in (variance.ravel()[:: max(variance.size // 100_000, 1)], variance):
            known = sample[np.isfinite(sample)]
            if known.size:
                units[band] = 2.0 ** np.rint(np.log2(np.median(known)) / 2)
                break
    return np.where(units > 0, units, units.max() or 1.0)


@dataclass(frozen=True, eq=False)
class Field:
    """A scene and what all its parents with the same PSFs share.

    Parameters
    ----------
    scene : `Scene`
        The coadds, with the PSFs of these parents.
    options : `DeblendOptions`
        What holds for all its parents.
    kernels : `numpy.ndarray`, (band, h, w), float32
        Difference kernels.
    units : `numpy.ndarray`, (band,)
        Flux that is 1 in the fit; see `noise_units`.
    """

    scene: Scene
    options: DeblendOptions
    kernels: Array
    units: npt.NDArray[np.floating]

    @cached_property
    def fault(self) -> str:
        """Why none of its parents can be fitted; empty if they can."""
        for band, kernel in zip(self.scene.bands, self.kernels, strict=True):
            if not (np.isfinite(kernel).all() and kernel.any()):
                return f"no usable PSF in band {band!r}"
        return ""


@dataclass(frozen=True, eq=False)
class Cutout:
    """One parent and where to cut it out.

    Parameters
    ----------
    index : `tuple` [`int`, `int`]
        Place of its scene, and its own in the scene, in the sequences given
        to the deblender.
    field : `Field`
        Its scene.
    parent : `Parent`
        The parent.
    box : `tuple` [`slice`, `slice`]
        Box of its footprint in array indices (y, x), inside the scene.
    weights : `numpy.ndarray`, (band, y, x), float32
        Inverse variance in the box, in the field's units; zero at bad pixels.
    components : `tuple` [`tuple` [`Peak`, `Component`]]
        What to model it with.
    unmodelled : `~collections.abc.Mapping` [`int`, `str`]
        Why a peak gets no model, by its id.
    """

    index: tuple[int, int]
    field: Field
    parent: Parent
    box: tuple[slice, slice]
    weights: Array
    components: tuple[tuple[Peak, Component], ...]
    unmodelled: Mapping[int, str]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the box."""
        return shape_of(self.box)

    @property
    def images(self) -> Array:
        """Pixels in the box, in the field's units; zero at bad pixels:
        (band, y, x), float32.
        """
        images = self.field.scene.images[:, *self.box] / self.field.units[:, None, None]
        return np.where(self.weights > 0, images, 0).astype(np.float32)

    @property
    def footprint(self) -> npt.NDArray[np.bool_]:
        """Which pixels of the box belong to the parent."""
        return footprint_mask(self.field.scene, self.parent, self.box)

    def sees(self, peak: Peak) -> bool:
        """Whether a peak of the box is on a pixel that is good in a band."""
        y, x = nearest_pixel((peak.y, peak.x), self.field.scene.origin)
        return bool(self.weights[:, y - self.box[0].start, x - self.box[1].start].any())


def box_inside(scene: Scene, parent: Parent) -> Box:
    """The part of a parent's box that lies inside its scene, in array indices
    (y, x).
    """
    return overlap(box_at(scene.origin, scene.shape), parent.footprint.bbox)[0]


def make_cutout(index: tuple[int, int], of: Field, parent: Parent) -> Cutout:
    """A parent's part of its scene."""
    box = box_inside(of.scene, parent)
    weights = of.scene.weights(of.options.bad_planes, box) * of.units[:, None, None] ** 2
    return Cutout(index, of, parent, box, weights.astype(np.float32), (), {})


def _find_fault(cutout: Cutout) -> str:
    """Why nothing can be fitted to a parent's pixels; empty if it can."""
    if not cutout.parent.peaks:
        return "no peaks"
    if cutout.field.fault:
        return cutout.field.fault
    if min(cutout.shape) <= 0:
        return "footprint outside the scene"
    if not (cutout.weights * cutout.footprint).any():
        return "no good pixels"
    return ""


def _leave_out_peaks(cutout: Cutout) -> Cutout:
    """The same without the peaks that nothing can be fitted to.

    Those on a pixel that is bad in all bands stay: what is left of their
    light must not end up in their neighbours.
    """
    parent, scene = cutout.parent, cutout.field.scene
    unmodelled, peaks = {}, []
    for peak in parent.peaks:
        where = f"peak {peak.id} at (y, x) = ({peak.y:.1f}, {peak.x:.1f})"
        if not is_inside(nearest_pixel((peak.y, peak.x), scene.origin), scene.shape):
            unmodelled[peak.id] = f"{where} is outside the scene"
        elif not parent.footprint.contains(peak.y, peak.x):
            unmodelled[peak.id] = f"{where} is outside the footprint"
        else:
            peaks.append(peak)
            if not cutout.sees(peak):
                unmodelled[peak.id] = f"{where} is on a pixel that is bad in all bands"
    return replace(cutout, parent=replace(parent, peaks=tuple(peaks)), unmodelled=unmodelled)


def make_cutouts(
    number: int, scene: Scene, parents: Sequence[Parent], make_field: Callable[[Scene], Field]
) -> Iterator[tuple[Cutout, str]]:
    """Every parent of a scene, and why it cannot be fitted; empty if it can.

    Parameters
    ----------
    number : `int`
        Place of the scene among those deblended together.
    scene : `Scene`
        The scene.
    parents : `~collections.abc.Sequence` [`Parent`]
        Its parents.
    make_field : `~collections.abc.Callable`
        Makes the `Field` of parents with the same PSFs from the scene with
        these.
    """
    fields: dict[bytes, Field] = {}
    for place, parent in enumerate(parents):
        there = scene.at(*parent.footprint.middle)
        psfs = there.psfs.tobytes()
        if psfs not in fields:
            fields[psfs] = make_field(there)
        cutout = make_cutout((number, place), fields[psfs], parent)
        fault = _find_fault(cutout)
        if not fault:
            cutout = _leave_out_peaks(cutout)
            if len(cutout.unmodelled) == len(parent.peaks):
                fault = next(iter(cutout.unmodelled.values()))
        yield cutout, fault


def common_shape(cutouts: Sequence[Cutout]) -> tuple[int, int]:
    """Height and width of a box that holds each of them."""
    return max(cutout.shape[0] for cutout in cutouts), max(cutout.shape[1] for cutout in cutouts)


def footprint_mask(scene: Scene, parent: Parent, box: tuple[slice, slice]) -> npt.NDArray[np.bool_]:
    """Which pixels of a box of a scene, in array indices (y, x), belong to a
    parent.
    """
    corner = box[0].start + scene.origin[0], box[1].start + scene.origin[1]
    return parent.footprint.to_mask(box_at(corner, shape_of(box)))
