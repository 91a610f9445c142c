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

"""Pixels of one patch in several bands."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

__all__ = ["DEFAULT_BAD_PLANES", "MASK_PLANES", "Scene", "SceneError", "check_psfs"]

Array = npt.NDArray[np.float32]
Positions = npt.NDArray[np.float64]

# The bits that lsst.afw gives its mask planes unless told otherwise.
MASK_PLANES: Mapping[str, int] = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
}

# What the stack's scarlet deblender leaves out of its fit by default.
DEFAULT_BAD_PLANES: tuple[str, ...] = ("BAD", "NO_DATA", "SAT", "SUSPECT", "EDGE")

_EVERYWHERE = (slice(None), slice(None))


class SceneError(ValueError):
    """Pixels, PSFs or names that do not make a scene; the message says
    which band or array is wrong.
    """


def check_psfs(psfs: npt.NDArray[np.floating], bands: Sequence[str]) -> None:
    """Refuse PSF images that no model can be convolved with.

    Parameters
    ----------
    psfs : `numpy.ndarray`, (band, h, w)
        PSF images.
    bands : `~collections.abc.Sequence` [`str`]
        Band names, for the message.

    Raises
    ------
    SceneError
        Raised if a side is even, a pixel is not finite, or the sum is not
        positive.
    """
    height, width = psfs.shape[1:]
    if height % 2 == 0 or width % 2 == 0:
        raise SceneError(
            f"PSF images are {height} x {width} pixels (bands {', '.join(bands)}); "
            "both sides must be odd, so that the centre is a pixel"
        )
    for band, psf in zip(bands, psfs, strict=True):
        if not np.isfinite(psf).all():
            raise SceneError(f"PSF in band {band!r} has pixels that are not finite")
        if not psf.sum() > 0:
            raise SceneError(f"PSF in band {band!r} sums to {psf.sum():g}; it must be positive")


@dataclass(frozen=True, eq=False)
class Scene:
    """Coadds of one patch, or cutouts of one blend, in several bands.

    All bands share a pixel grid and a photometric zero point. A pixel that
    carries no information (not finite, or variance zero, negative or not
    finite) is given image 0, variance infinity and the mask plane
    ``NO_DATA``, so that ``image / sqrt(variance)`` and ``1 / variance`` can
    be used everywhere.

    Parameters
    ----------
    images : `numpy.ndarray`, (band, y, x), float32
        Background-subtracted pixels.
    variance : `numpy.ndarray`, (band, y, x), float32
        Variance of each pixel, in squared image units.
    psfs : `numpy.ndarray`, (band, h, w), float32
        PSF image of each band, centred, odd sides; normalised to unit sum
        here.
    bands : `~collections.abc.Sequence` [`str`]
        Band names, in the order of the first axis.
    mask : `numpy.ndarray`, (band, y, x), int32, optional
        Bit mask; no bits set if absent.
    name : `str`, optional
        What to call the scene in messages and tables.
    origin : `tuple` [`int`, `int`], optional
        Patch coordinates (y, x) of pixel ``[0, 0]``. Every position in
        peaks, footprints and models is in patch coordinates.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel; LSST's 0.2 arcsec if absent.
    mask_planes : `~collections.abc.Mapping` [`str`, `int`], optional
        Bit number of each named mask plane; lsst.afw's defaults if absent.
    sky_position : `~collections.abc.Callable`, optional
        Takes arrays y, x of patch coordinates and returns right ascension
        and declination in degrees; unknown if absent.

    Raises
    ------
    SceneError
        Raised if the shapes disagree, a band is named twice, or a PSF is
        unusable.
    """

    images: Array
    variance: Array
    psfs: Array
    bands: tuple[str, ...]
    mask: npt.NDArray[np.int32] = None  # type: ignore[assignment]  # filled in below
    name: str = ""
    origin: tuple[int, int] = (0, 0)
    pixel_scale_arcsec: float = 0.2
    mask_planes: Mapping[str, int] = field(default_factory=lambda: dict(MASK_PLANES))
    sky_position: Callable[[Positions, Positions], tuple[Positions, Positions]] | None = None

    def __post_init__(self) -> None:
        images = np.array(self.images, dtype=np.float32)
        variance = np.array(self.variance, dtype=np.float32)
        psfs = np.array(self.psfs, dtype=np.float32)
        bands = tuple(str(band) for band in self.bands)
        if images.ndim != 3 or 0 in images.shape:
            raise SceneError(f"images have shape {images.shape}; expected (band, y, x), none of them 0")
        mask = np.zeros(images.shape, np.int32) if self.mask is None else np.array(self.mask)
        if not np.issubdtype(mask.dtype, np.integer):
            raise SceneError(f"mask has type {mask.dtype}; expected integers")
        mask = mask.astype(np.int32)
        for what, array in (("variance", variance), ("mask", mask)):
            if array.shape != images.shape:
                raise SceneError(f"{what} has shape {array.shape}, but images have {images.shape}")
        if len(bands) != len(images) or len(set(bands)) != len(bands):
            raise SceneError(f"bands are {list(bands)}; expected {len(images)} different names")
        if psfs.ndim != 3 or len(psfs) != len(bands):
            raise SceneError(f"psfs have shape {psfs.shape}; expected ({len(bands)}, h, w)")
        check_psfs(psfs, bands)
        if not (np.isfinite(self.pixel_scale_arcsec) and self.pixel_scale_arcsec > 0):
            raise SceneError(f"pixel scale is {self.pixel_scale_arcsec} arcsec; it must be positive")
        mask_planes = dict(self.mask_planes)
        if "NO_DATA" not in mask_planes:
            raise SceneError(f"mask planes {sorted(mask_planes)} lack NO_DATA")

        with np.errstate(invalid="ignore"):
            no_data = ~np.isfinite(images) | ~(variance > 0) | ~np.isfinite(variance)
        images[no_data] = 0
        variance[no_data] = np.inf
        mask[no_data] |= 1 << mask_planes["NO_DATA"]
        psfs /= psfs.sum(axis=(1, 2), keepdims=True)
        origin = (int(self.origin[0]), int(self.origin[1]))
        for key, value in {
            "images": images,
            "variance": variance,
            "psfs": psfs,
            "bands": bands,
            "mask": mask,
            "origin": origin,
            "mask_planes": mask_planes,
        }.items():
            object.__setattr__(self, key, value)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def psf_sigmas_pix(self) -> npt.NDArray[np.float64]:
        """Standard deviation of the Gaussian with each PSF's noise-equivalent
        area: (band,), float64.

        The area is 1 / sum(psf^2), which is 4 pi sigma^2 for a Gaussian (King
        1983, PASP 95, 163); unlike second moments it does not depend on noisy
        wings.
        """
        areas = 1 / np.square(self.psfs, dtype=np.float64).sum(axis=(1, 2))
        return np.sqrt(areas / (4 * np.pi))

    def bad(
        self, planes: Sequence[str] = DEFAULT_BAD_PLANES, box: tuple[slice, slice] = _EVERYWHERE
    ) -> npt.NDArray[np.bool_]:
        """Pixels that must not be used.

        Parameters
        ----------
        planes : `~collections.abc.Sequence` [`str`], optional
            Names of mask planes; those this scene does not know are ignored,
            as data from different cameras have different ones.
        box : `tuple` [`slice`, `slice`], optional
            Array indices (y, x) to look at; all if absent.

        Returns
        -------
        bad : `numpy.ndarray`, (band, y, x), bool
            True where one of the planes is set or there is no data.
        """
        bits = 1 << self.mask_planes["NO_DATA"]
        for plane in planes:
            if plane in self.mask_planes:
                bits |= 1 << self.mask_planes[plane]
        return (self.mask[:, *box] & np.int32(bits)) != 0

    def with_bad(self, bad: npt.NDArray[np.bool_]) -> Scene:
        """The same pixels with another mask: what has no data, and what the
        caller says is bad.

        Parameters
        ----------
        bad : `numpy.ndarray`, (band, y, x), bool
            Pixels to mark as ``BAD``.
        """
        no_data = self.mask & np.int32(1 << self.mask_planes["NO_DATA"]) != 0
        planes = {name: MASK_PLANES[name] for name in ("NO_DATA", "BAD")}
        mask = no_data * np.int32(1 << planes["NO_DATA"]) | bad * np.int32(1 << planes["BAD"])
        # Not by replace(), which would copy all pixels.
        other = copy.copy(self)
        object.__setattr__(other, "mask", mask)
        object.__setattr__(other, "mask_planes", planes)
        return other

    def weights(
        self, planes: Sequence[str] = DEFAULT_BAD_PLANES, box: tuple[slice, slice] = _EVERYWHERE
    ) -> Array:
        """Inverse variance, zero at bad pixels, with `bad`'s parameters:
        (band, y, x), float32.
        """
        weights: Array = np.reciprocal(self.variance[:, *box])
        weights[self.bad(planes, box)] = 0
        return weights

    def select_bands(self, bands: Sequence[str]) -> Scene:
        """The same pixels in some of the bands, in the order given.

        Raises
        ------
        SceneError
            Raised if the scene lacks one of the bands.
        """
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise SceneError(f"scene {self.name!r} has bands {list(self.bands)}, not {missing}")
        order = [self.bands.index(band) for band in bands]
        return replace(
            self,
            images=self.images[order],
            variance=self.variance[order],
            psfs=self.psfs[order],
            bands=tuple(bands),
            mask=self.mask[order],
        )
