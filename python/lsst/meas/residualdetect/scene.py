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

from .mask_bits import DEFAULT_BAD_PLANES, MASK_PLANES, N_BITS, Mask, as_mask, has_bits, one_bit, set_bit
from .psf_field import PsfField
from .psf_images import is_usable_psf, psf_fault, to_centered_shape

__all__ = ["DEFAULT_BAD_PLANES", "MASK_PLANES", "Scene", "SceneError"]

Array = npt.NDArray[np.float32]
Positions = npt.NDArray[np.float64]

# Median variances between which float32 holds squares, their sums and inverses.
_SINGLE_PRECISION = (1e-25, 1e25)

_EVERYWHERE = (slice(None), slice(None))


class SceneError(ValueError):
    """Pixels, PSFs or names that do not make a scene; the message says
    which band or array is wrong.
    """


def _working_type(variance: npt.NDArray[np.floating]) -> type[np.float32] | type[np.float64]:
    """Single precision, unless squares of the pixels would leave its range."""
    # Some hundred thousand pixels say what the unit is.
    step = max(variance.size // 100_000, 1)
    for sample in (variance.ravel()[::step], variance):
        usable = sample[np.isfinite(sample) & (sample > 0)]
        if usable.size:
            lowest, highest = _SINGLE_PRECISION
            return np.float32 if lowest < np.median(usable) < highest else np.float64
    return np.float32


@dataclass(eq=False)
class Scene:
    """Coadds of one patch, or cutouts of one blend, in several bands.

    All bands share a pixel grid and a photometric zero point. A pixel that
    carries no information (not finite, or variance zero, negative or not
    finite) is given image 0, variance infinity and the mask plane
    ``NO_DATA``, so that ``image / sqrt(variance)`` and ``1 / variance`` can
    be used everywhere.

    Arrays that need no change are not copied; nobody changes a scene's pixels.

    Nothing depends on the flux unit. Images and variance are float32 where
    the median variance is between 1e-25 and 1e25 squared image units, as it is
    for every usual unit, and both are float64 elsewhere, for squares and
    inverse variances would leave the range of float32. Code that takes a
    scene's pixels computes in their type, or in units of the noise.

    Parameters
    ----------
    images : `numpy.ndarray`, (band, y, x), float32
        Background-subtracted pixels.
    variance : `numpy.ndarray`, (band, y, x), float32
        Variance of each pixel, in squared image units.
    psfs : `numpy.ndarray`, (band, h, w), float32
        PSF image of each band, centred, odd sides; normalised to unit sum
        here. Where the PSF changes, that of the middle.
    bands : `~collections.abc.Sequence` [`str`]
        Band names, in the order of the first axis.
    mask : `numpy.ndarray`, (band, y, x), int, optional
        Bit mask; no bits set if absent. Stored as int32, or as int64 where
        bits beyond those are set.
    name : `str`, optional
        What to call the scene in messages and tables.
    origin : `tuple` [`int`, `int`], optional
        Patch coordinates (y, x) of pixel ``[0, 0]``. Every position in
        peaks, footprints and models is in patch coordinates.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel; LSST's 0.2 arcsec if absent.
    mask_planes : `~collections.abc.Mapping` [`str`, `int`], optional
        Bit number of each named mask plane, 0 to 63; lsst.afw's defaults if
        absent.
    sky_position : `~collections.abc.Callable`, optional
        Takes arrays y, x of patch coordinates and returns right ascension
        and declination in degrees; unknown if absent.
    psf_fields : `tuple` [`PsfField` or `None`], optional
        For each band the PSF by position, `None` where it is ``psfs``
        everywhere; that in all bands if absent. See `at`.

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
    mask: Mask = None  # type: ignore[assignment]  # filled in below
    name: str = ""
    origin: tuple[int, int] = (0, 0)
    pixel_scale_arcsec: float = 0.2
    mask_planes: Mapping[str, int] = field(default_factory=lambda: dict(MASK_PLANES))
    sky_position: Callable[[Positions, Positions], tuple[Positions, Positions]] | None = None
    psf_fields: tuple[PsfField | None, ...] = ()

    def __post_init__(self) -> None:
        self.bands = tuple(str(band) for band in self.bands)
        self.origin = (int(self.origin[0]), int(self.origin[1]))
        if not (np.isfinite(self.pixel_scale_arcsec) and self.pixel_scale_arcsec > 0):
            raise SceneError(f"pixel scale is {self.pixel_scale_arcsec} arcsec; it must be positive")
        self._take_planes()
        self._take_pixels()
        if len(self.bands) != len(self.images) or len(set(self.bands)) != len(self.bands):
            raise SceneError(f"bands are {list(self.bands)}; expected {len(self.images)} different names")
        self._take_psfs()

    def _take_planes(self) -> None:
        self.mask_planes = {str(name): int(bit) for name, bit in self.mask_planes.items()}
        if "NO_DATA" not in self.mask_planes:
            raise SceneError(f"mask planes {sorted(self.mask_planes)} lack NO_DATA")
        beyond = {name: bit for name, bit in self.mask_planes.items() if not 0 <= bit < N_BITS}
        if beyond:
            raise SceneError(f"mask planes have bits {beyond}; they must be 0 to {N_BITS - 1}")

    def _take_pixels(self) -> None:
        images, variance = np.asarray(self.images), np.asarray(self.variance)
        if images.ndim != 3 or 0 in images.shape:
            raise SceneError(f"images have shape {images.shape}; expected (band, y, x), none of them 0")
        mask = np.zeros(images.shape, np.int32) if self.mask is None else np.asarray(self.mask)
        if not np.issubdtype(mask.dtype, np.integer):
            raise SceneError(f"mask has type {mask.dtype}; expected integers")
        for what, array in (("variance", variance), ("mask", mask)):
            if array.shape != images.shape:
                raise SceneError(f"{what} has shape {array.shape}, but images have {images.shape}")
        working = _working_type(variance)
        with np.errstate(over="ignore"):
            given = images, variance
            images = images.astype(working, copy=False)
            variance = variance.astype(working, copy=False)
        mask = as_mask(mask)
        # Below the smallest normal number inverses overflow.
        no_data = ~np.isfinite(images) | ~(variance >= np.finfo(working).tiny) | ~np.isfinite(variance)
        if (no_data & ((images != 0) | (variance != np.inf))).any():
            # The caller's arrays stay as they are.
            images = images.copy() if images is given[0] else images
            variance = variance.copy() if variance is given[1] else variance
            images[no_data] = 0
            variance[no_data] = np.inf
        self.images, self.variance = images, variance
        bit = self.mask_planes["NO_DATA"]
        unset = no_data & ~has_bits(mask, [bit])
        self.mask = set_bit(mask, bit, unset) if unset.any() else mask

    def _take_psfs(self) -> None:
        psfs = np.asarray(self.psfs).astype(np.float32)
        if psfs.ndim != 3 or len(psfs) != len(self.bands):
            raise SceneError(f"psfs have shape {psfs.shape}; expected ({len(self.bands)}, h, w)")
        if fault := psf_fault(psfs, self.bands):
            raise SceneError(fault)
        psfs /= psfs.sum(axis=(1, 2), keepdims=True)
        self.psfs = psfs
        if len(self.psf_fields) not in (0, len(self.bands)):
            raise SceneError(f"there are {len(self.psf_fields)} PSF fields for {len(self.bands)} bands")
        self.psf_fields = tuple(self.psf_fields) if any(self.psf_fields) else ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def at(self, y: float, x: float) -> Scene:
        """The same pixels with the PSFs of a place.

        Parameters
        ----------
        y, x : `float`
            Patch coordinates.

        Returns
        -------
        scene : `Scene`
            Its ``psfs`` are those of the place, and hold everywhere. In a
            band without a usable PSF there that of the middle stays. The
            scene itself if its PSF does not change.
        """
        if not self.psf_fields:
            return self
        psfs = self.psfs.copy()
        for band, field_of_band in enumerate(self.psf_fields):
            psf = psfs[band] if field_of_band is None else field_of_band.at(y, x)
            if is_usable_psf(psf):
                psfs[band] = to_centered_shape(psf, psfs.shape[1:])
        psfs /= psfs.sum(axis=(1, 2), keepdims=True)
        # Not by replace(), which would look at all pixels again.
        other = copy.copy(self)
        other.psfs, other.psf_fields = psfs, ()
        return other

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

    def sky(self, y: Positions, x: Positions) -> tuple[Positions, Positions]:
        """Right ascension and declination of places in degrees, each (n,); NaN
        if the scene does not know.
        """
        if self.sky_position is None:
            return np.full(len(y), np.nan), np.full(len(y), np.nan)
        return self.sky_position(y, x)

    def bad(
        self, planes: Sequence[str] = DEFAULT_BAD_PLANES, box: tuple[slice, slice] = _EVERYWHERE
    ) -> npt.NDArray[np.bool_]:
        """Pixels that must not be used.

        Parameters
        ----------
        planes : `~collections.abc.Sequence` [`str`], optional
            Names of mask planes. Those of `DEFAULT_BAD_PLANES` that this
            scene lacks are ignored, as cameras have different ones.
        box : `tuple` [`slice`, `slice`], optional
            Array indices (y, x) to look at; all if absent.

        Returns
        -------
        bad : `numpy.ndarray`, (band, y, x), bool
            True where one of the planes is set or there is no data.

        Raises
        ------
        SceneError
            Raised if the scene lacks another plane.
        """
        unknown = [plane for plane in planes if plane not in {*self.mask_planes, *DEFAULT_BAD_PLANES}]
        if unknown:
            raise SceneError(
                f"scene {self.name!r} has no mask planes {unknown}; it has {sorted(self.mask_planes)}"
            )
        bits = [self.mask_planes[plane] for plane in {"NO_DATA", *planes} if plane in self.mask_planes]
        return has_bits(self.mask[:, *box], bits)

    def with_bad(self, bad: npt.NDArray[np.bool_]) -> Scene:
        """The same pixels with another mask: what has no data, and what the
        caller says is bad, whichever planes are asked for. No other plane is
        set anywhere.

        Parameters
        ----------
        bad : `numpy.ndarray`, (band, y, x), bool
            Pixels to mark as ``NO_DATA``.
        """
        # Not by replace(), which would look at all pixels again.
        other = copy.copy(self)
        other.mask = one_bit(self.mask_planes["NO_DATA"], bad | self.bad(()))
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
            psf_fields=tuple(self.psf_fields[band] for band in order) if self.psf_fields else (),
        )
