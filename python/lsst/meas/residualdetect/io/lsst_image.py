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

"""Coadds of lsst.images: CellCoadd, MaskedImage and what is derived of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..mask_bits import N_BITS, Mask, as_mask
from ..psf_field import PsfField, PsfSamples
from ..scene import Array, Positions
from .fits_common import FitsError
from .noise_realizations import NOISE_SIDE_PIX, NoiseOfRealizations, noise_of_realizations
from .remarks import Remarks

__all__ = ["LsstImage", "noise_box", "require_lsst_images", "unpack"]

# By which lsst.images calls what lsst.afw calls otherwise.
_PLANES = {
    "SATURATED": "SAT",
    "INTERPOLATED": "INTRP",
    "COSMIC_RAY": "CR",
    "DETECTION_EDGE": "EDGE",
    "UNMASKED_NAN": "UNMASKEDNAN",
}

# What the stack subtracts before it measures, of the backgrounds of a coadd.
_BACKGROUND = "object"


@dataclass(frozen=True, eq=False)
class LsstImage:
    """One band, as lsst.images holds it.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (y, x), float32
        Pixels, their background subtracted, and their variance.
    mask : `numpy.ndarray`, (y, x), int
        Bits by ``mask_planes``.
    mask_planes : `dict` [`str`, `int`]
        Bit of each plane, by lsst.afw's names where it has others.
    box : `object`
        The `lsst.images.Box` of the pixels.
    unit : `str`
        Of the pixels, as FITS writes it; empty if there is none.
    band : `str` or `None`
        If the coadd says it.
    psf : `PsfField`, optional
        Its PSF; positions are those of ``box``.
    projection : `lsst.images.SkyProjection`, optional
        Where pixels are on the sky.
    noise : `NoiseOfRealizations`, optional
        What its noise realizations say.
    """

    image: Array
    variance: Array
    mask: Mask
    mask_planes: dict[str, int]
    box: Any
    unit: str
    band: str | None
    psf: PsfField | None
    projection: Any
    noise: NoiseOfRealizations | None = None

    @property
    def origin(self) -> tuple[int, int]:
        """Position (y, x) of the first pixel."""
        return int(self.box.y.start), int(self.box.x.start)

    @property
    def sky_position(self) -> Callable[[Positions, Positions], tuple[Positions, Positions]] | None:
        """Takes positions y, x and gives right ascension and declination in
        degrees; `None` if they are not known.
        """
        projection = self.projection
        if projection is None:
            return None

        def sky(y: Positions, x: Positions) -> tuple[Positions, Positions]:
            there = projection.pixel_to_sky(x=np.asarray(x, float), y=np.asarray(y, float))
            return np.asarray(there.ra.deg), np.asarray(there.dec.deg)

        return sky

    @property
    def fits_wcs(self) -> Any:
        """Its `astropy.wcs.WCS`, or one near it; `None` if there is none."""
        if self.projection is None:
            return None
        exact = self.projection.as_fits_wcs(self.box)
        return self.projection.as_fits_wcs(self.box, allow_approximation=True) if exact is None else exact

    @property
    def pixel_scale_arcsec(self) -> float | None:
        """Side of a square of the area of the pixel in the middle."""
        if self.projection is None:
            return None
        y, x = (np.array([0.0, 1.0, 0.0]) + self.box.y.center, np.array([0.0, 0.0, 1.0]) + self.box.x.center)
        place, up, right = self.projection.pixel_to_sky(x=x, y=y)
        (up_ra, up_dec), (right_ra, right_dec) = (
            [offset.to_value("arcsec") for offset in place.spherical_offsets_to(other)]
            for other in (up, right)
        )
        return float(np.sqrt(abs(up_ra * right_dec - up_dec * right_ra)))


def require_lsst_images(what: str) -> None:
    """Check that lsst.images is there.

    Raises
    ------
    ImportError
        Raised with what cannot be used, and the version of Python that is
        needed.
    """
    try:
        import lsst.images  # noqa: F401
    except ImportError as error:
        here = ".".join(map(str, sys.version_info[:3]))
        needs = "" if sys.version_info >= (3, 12) else f", which needs Python 3.12 or later (this is {here})"
        raise ImportError(f"{what} needs the package lsst-images{needs}: {error}") from error


class _ImagesPsf:
    """A PSF model of lsst.images that is evaluated where it is asked for."""

    def __init__(self, psf: Any) -> None:
        self._psf = psf

    def at(self, y: float, x: float) -> npt.NDArray[np.floating]:
        """The kernel image at a place; one pixel of 0 where there is none."""
        from lsst.images import BoundsError

        try:
            return np.asarray(self._psf.compute_kernel_image(x=x, y=y).array)
        except (BoundsError, ArithmeticError):
            return np.zeros((1, 1))


def _psf_field(psf: Any, what: str) -> PsfField | None:
    from lsst.images.cells import CellPointSpreadFunction

    if psf is None:
        return None
    if not isinstance(psf, CellPointSpreadFunction):
        return _ImagesPsf(psf)
    cells = list(psf.bounds.cell_indices())
    boxes = [psf.grid.bbox_of(cell) for cell in cells]
    middles = np.array([((box.y.min + box.y.max) / 2, (box.x.min + box.x.max) / 2) for box in boxes])
    try:
        return PsfSamples(middles.reshape(-1, 2), np.stack([psf[cell].array for cell in cells]))
    except ValueError as error:
        raise FitsError(f"{what}: no cell has a usable PSF: {error}") from error


def _mask(mask: Any, missing: Iterable[Any], what: str) -> tuple[Mask, dict[str, int]]:
    """Bits of a mask's planes, those that are set anywhere first, so that few
    pixels need more than 32.
    """
    schema, pixels = mask.schema, mask.array
    used = np.bitwise_or.reduce(pixels, axis=(0, 1))

    def is_set(name: str) -> bool:
        at = schema.bit(name)
        return bool(used[at.index] & at.mask)

    own = sorted((plane.name for plane in schema if plane is not None), key=lambda name: not is_set(name))
    names = ["NO_DATA", *(name for name in own if name != "NO_DATA")]
    if len(names) > N_BITS:
        raise FitsError(f"{what}: it has {len(own)} mask planes; at most {N_BITS} can be told apart")
    # One that has both names keeps them.
    afw = {name: other if (other := _PLANES.get(name, name)) not in own else name for name in names}
    planes = {afw[name]: bit for bit, name in enumerate(names)}
    wide = any(bit > 31 and name in own and is_set(name) for bit, name in enumerate(names))
    bits = np.zeros(pixels.shape[:2], np.int64 if wide else np.int32)
    for bit, name in enumerate(names):
        if name in own and is_set(name):
            at = schema.bit(name)
            bits[(pixels[..., at.index] & at.mask) != 0] |= np.array(1 << bit, np.uint64).astype(bits.dtype)
    y, x = np.ogrid[mask.bbox.y.start : mask.bbox.y.stop, mask.bbox.x.start : mask.bbox.x.stop]
    for box in missing:
        inside = (y >= box.y.start) & (y < box.y.stop) & (x >= box.x.start) & (x < box.x.stop)
        bits[inside] |= bits.dtype.type(1 << planes["NO_DATA"])
    return as_mask(bits), planes


def _background(image: Any, backgrounds: Any, remarks: Remarks, what: str) -> Array | None:
    """What the stack subtracts before it measures, if it is still there."""
    if backgrounds is None or not len(backgrounds) or backgrounds.subtracted is not None:
        return None
    names = list(backgrounds)
    if _BACKGROUND not in names and len(names) > 1:
        remarks.doubt(
            f"{what}: none of its backgrounds {', '.join(names)} is subtracted, and none is called "
            f"{_BACKGROUND!r}; the pixels are taken as they are"
        )
        return None
    name = _BACKGROUND if _BACKGROUND in names else names[0]
    rendered = backgrounds[name].field.render(image.bbox, dtype=image.array.dtype)
    remarks.note(f"{what}: its background {name!r} is subtracted")
    if rendered.unit is None or image.unit is None:
        return np.asarray(rendered.array)
    return np.asarray(rendered.quantity.to_value(image.unit))


def unpack(
    image: Any,
    remarks: Remarks,
    what: str,
    *,
    psf: Any = None,
    backgrounds: Any = None,
    realizations: Sequence[Any] = (),
    band: str | None = None,
) -> LsstImage:
    """What a masked image of lsst.images holds.

    Parameters
    ----------
    image : `lsst.images.MaskedImage`
        Image, mask, variance and projection; it is not changed.
    remarks : `Remarks`
        Is told what is done and what is likely wrong.
    what : `str`
        The file or data id, for messages.
    psf : `lsst.images.psfs.PointSpreadFunction`, optional
        Its PSF, maybe by cells; pixels of cells without one have no data.
    backgrounds : `lsst.images.BackgroundMap`, optional
        Its backgrounds. If none is subtracted, the one called ``object`` is
        here, as in the stack's coadds, or the only one.
    realizations : `~collections.abc.Sequence` [`lsst.images.Image`], optional
        Noise realizations of all of it or of a part. Where they and the
        pixels agree that the variance is off, it is scaled.
    band : `str`, optional
        Its band, if it is known.

    Returns
    -------
    image : `LsstImage`
        Its parts.

    Raises
    ------
    FitsError
        Raised if no cell has a usable PSF, or there are too many mask planes.
    SceneError
        Raised where doubts are errors.
    """
    pixels = np.asarray(image.image.array)
    background = _background(image.image, backgrounds, remarks, what)
    if background is not None:
        pixels = pixels - background
    field = _psf_field(psf, what)
    missing = psf.bounds.missing_boxes() if isinstance(field, PsfSamples) else ()
    mask, planes = _mask(image.mask, missing, what)
    variance = np.asarray(image.variance.array)
    noise = None
    if realizations:
        box = realizations[0].bbox
        there = (box.y.slice_within(image.bbox.y), box.x.slice_within(image.bbox.x))
        noise = noise_of_realizations([one.array for one in realizations], variance[there], pixels[there])
        noise.remark(remarks, what)
        if noise.variance_factor != 1:
            variance = variance * np.float32(noise.variance_factor)
    return LsstImage(
        image=pixels.astype(np.float32, copy=False),
        variance=variance.astype(np.float32, copy=False),
        mask=mask,
        mask_planes=planes,
        box=image.bbox,
        unit="" if image.unit is None else image.unit.to_string("fits"),
        band=band,
        psf=field,
        projection=image.sky_projection,
        noise=noise,
    )


def noise_box(box: Any) -> Any:
    """The part of a coadd whose noise realizations are looked at: its middle,
    so that the rest need not be read.
    """
    from lsst.images import Box

    sides = [min(NOISE_SIDE_PIX, interval.size) for interval in (box.y, box.x)]
    starts = [
        interval.start + (interval.size - side) // 2
        for interval, side in zip((box.y, box.x), sides, strict=True)
    ]
    return Box.from_shape(tuple(sides), start=tuple(starts))
