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

"""The PSF of a band where a source lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .psf_images import is_usable_psf, to_centered_shape

__all__ = ["ChangedPsf", "PsfField", "PsfSamples", "moved"]

Array = npt.NDArray[np.float32]
Positions = npt.NDArray[np.float64]


class PsfField(Protocol):
    """The PSF of one band by position."""

    def at(self, y: float, x: float) -> npt.NDArray[np.floating]:
        """The PSF at a place.

        Parameters
        ----------
        y, x : `float`
            Patch coordinates, in the scene or not.

        Returns
        -------
        psf : `numpy.ndarray`, (h, w)
            Image of the PSF, centred, odd sides. One that is not usable (see
            `is_usable_psf`) means that none is known there.
        """


@dataclass(eq=False)
class PsfSamples:
    """PSFs of some places; elsewhere that of the nearest is taken.

    With the centres of square cells for places this is a PSF for each cell,
    and in a cell without a PSF that of a cell beside it.

    Parameters
    ----------
    places : `numpy.ndarray`, (n, 2), float64
        Positions (y, x) in patch coordinates.
    images : `numpy.ndarray`, (n, h, w), float32
        The PSF at each; those that are not usable are left out.

    Raises
    ------
    ValueError
        Raised if the shapes disagree, or no image is usable.
    """

    places: Positions
    images: Array

    def __post_init__(self) -> None:
        places, images = np.asarray(self.places, np.float64), np.asarray(self.images, np.float32)
        if images.ndim != 3 or places.shape != (len(images), 2):
            raise ValueError(
                f"PSF images have shape {images.shape}, their places {places.shape}; expected (n, h, w) "
                "and (n, 2)"
            )
        usable = np.array([is_usable_psf(image) for image in images], bool)
        if not usable.any():
            raise ValueError(f"none of {len(images)} PSF images is finite with a positive sum")
        self.places = places if usable.all() else places[usable]
        self.images = images if usable.all() else images[usable]

    @classmethod
    def of(
        cls, psf: PsfField, shape: tuple[int, int], origin: tuple[int, int] = (0, 0), side_pix: int = 100
    ) -> PsfSamples:
        """Another field, sampled in the middles of squares.

        Parameters
        ----------
        psf : `PsfField`
            The other; given back if it is of samples.
        shape, origin : `tuple` [`int`, `int`]
            The pixels to sample it for: their number, and patch coordinates
            of the first, (y, x).
        side_pix : `int`, optional
            Side of the squares, at most.
        """
        if isinstance(psf, cls):
            return psf
        middles = []
        for first, size in zip(origin, shape, strict=True):
            side = size / -(-size // side_pix)
            middles.append(first - 0.5 + np.arange(side / 2, size, side))
        places = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
        images = [psf.at(y, x) for y, x in places.tolist()]
        largest = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
        return cls(places, np.stack([to_centered_shape(image, largest) for image in images]))

    def at(self, y: float, x: float) -> Array:
        """The PSF of the nearest place: (h, w), float32."""
        image: Array = self.images[np.square(self.places - (y, x)).sum(axis=1).argmin()]
        return image


@dataclass(frozen=True, eq=False)
class _MovedPsf:
    """Another field, in other coordinates."""

    field: PsfField
    origin: tuple[float, float]

    def at(self, y: float, x: float) -> npt.NDArray[np.floating]:
        """The PSF at a place."""
        return self.field.at(y + self.origin[0], x + self.origin[1])


def moved(field: PsfField, origin: tuple[float, float]) -> PsfField:
    """The same PSFs for positions that are counted from ``origin`` (y, x)."""
    if isinstance(field, PsfSamples):
        return PsfSamples(field.places - origin, field.images)
    return _MovedPsf(field, origin)


@dataclass(frozen=True, eq=False)
class ChangedPsf:
    """The PSFs of another field, each changed in the same way.

    Parameters
    ----------
    field : `PsfField`
        The other.
    change : `~collections.abc.Callable`
        Takes an image of a PSF (h, w) and gives one.
    """

    field: PsfField
    change: Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]]

    def at(self, y: float, x: float) -> npt.NDArray[np.floating]:
        """The changed PSF at a place: (h, w)."""
        return self.change(self.field.at(y, x))
