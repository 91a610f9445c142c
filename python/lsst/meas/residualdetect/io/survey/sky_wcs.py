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


"""Where pixels are on the sky, and whether images agree about it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning, NoConvergence
from astropy.wcs.utils import proj_plane_pixel_scales

from ...scene import Positions, Scene, SceneError
from ..remarks import Remarks

__all__ = ["SkyWcs", "check_agreement", "moved", "read_wcs", "wcs_of_file"]

# Farther apart the pixels are not the same pixels.
_MAX_SHIFT_PIX = 1.0
_MAX_DISAGREEMENT_PIX = 0.1

_REPROJECT = "put all bands on one grid first, for example with the package reproject"

# Cards by which headers without a WCS tell the side of a pixel, in arcsec.
_SCALE_CARDS = ("PIXSCALE", "SECPIX", "PIXSCAL1", "SECPIX1")


@dataclass(frozen=True, eq=False)
class SkyWcs:
    """The WCS of an image; called with pixels it gives the sky.

    Parameters
    ----------
    wcs : `astropy.wcs.WCS`
        Of two celestial axes.
    """

    wcs: WCS

    def __call__(self, y: Positions, x: Positions) -> tuple[Positions, Positions]:
        """Right ascension and declination (ICRS, degrees) of pixels, their
        centres on integers from 0.
        """
        sky = self.wcs.pixel_to_world(np.asarray(x, float), np.asarray(y, float)).icrs
        return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)

    def pixels(self, sky: Any) -> tuple[Positions, Positions]:
        """Pixels (y, x) of an `astropy.coordinates.SkyCoord`; NaN where the
        projection does not reach.
        """
        try:
            x, y = self.wcs.world_to_pixel(sky)
        except NoConvergence as error:
            x, y = error.best_solution.T
        return np.asarray(y, float), np.asarray(x, float)

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of a square of a pixel's area, at the reference pixel."""
        return float(3600 * np.sqrt(np.prod(proj_plane_pixel_scales(self.wcs))))

    @property
    def header(self) -> fits.Header:
        """Its cards, distortions too."""
        return self.wcs.to_header(relax=True)


def moved(header: fits.Header, y: int, x: int) -> fits.Header:
    """A header whose reference pixel lies as many pixels farther up and to
    the right.
    """
    header = header.copy()
    for card, pixels in (("CRPIX1", x), ("CRPIX2", y)):
        header[card] = header.get(card, 0.0) + pixels
    return header


def wcs_of_file(scene: Scene) -> fits.Header:
    """Cards that tell of a file with a scene's pixels where they are on the
    sky; none if its ``sky_position`` has no ``header``, in patch coordinates.
    """
    header = getattr(scene.sky_position, "header", None)
    return fits.Header() if header is None else moved(header, -scene.origin[0], -scene.origin[1])


def read_wcs(header: fits.Header, remarks: Remarks, what: str) -> tuple[SkyWcs | None, float | None]:
    """The WCS of an image and the side of its pixels.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Cards of the image.
    remarks : `Remarks`
        Is told of a WCS that cannot be used.
    what : `str`
        The file, for messages.

    Returns
    -------
    wcs : `SkyWcs` or `None`
        `None` if there is none, or none that places pixels on the sky.
    pixel_scale_arcsec : `float` or `None`
        From the WCS, else from the card ``PIXSCALE`` or ``SECPIX``; `None`
        if neither says.
    """
    said = next((header[card] for card in _SCALE_CARDS if card in header), None)
    card_scale = float(said) if isinstance(said, int | float) and said > 0 else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header).celestial
        if not wcs.has_celestial:
            return None, card_scale
        found = SkyWcs(wcs)
        scale = found.pixel_scale_arcsec
        ra, dec = found(np.zeros(1), np.zeros(1))
    except Exception as error:  # wcslib has many errors, and all mean the same here
        reason = " ".join(str(error).split())[:120]
        remarks.doubt(f"{what}: the WCS cannot be used ({reason}); there will be no sky positions")
        return None, card_scale
    if not np.isfinite([*ra, *dec, scale]).all() or not scale > 0:
        remarks.doubt(f"{what}: the WCS gives no finite position; there will be no sky positions")
        return None, card_scale
    if "CRVAL1" not in header:
        # wcslib would put pixel (0, 0) at right ascension 0.
        remarks.doubt(f"{what}: the WCS has no reference position (CRVAL); there will be no sky positions")
        return None, scale
    if card_scale is not None and abs(card_scale / scale - 1) > 0.01:
        remarks.doubt(f"{what}: the WCS has pixels of {scale:.4g} arcsec, a card says {card_scale:.4g}")
    return found, scale


def check_agreement(wcses: Mapping[str, SkyWcs], shape: tuple[int, int], remarks: Remarks) -> None:
    """Check that the images of all bands have one pixel grid.

    Parameters
    ----------
    wcses : `~collections.abc.Mapping` [`str`, `SkyWcs`]
        By what to call the image. The first is what others are compared to.
    shape : `tuple` [`int`, `int`]
        Height and width of the images.
    remarks : `Remarks`
        Is told where corners are more than 0.1 pixel apart.

    Raises
    ------
    SceneError
        Raised if corners are more than a pixel apart.
    """
    if not wcses:
        return
    y, x = np.array([(row, column) for row in (0, shape[0] - 1) for column in (0, shape[1] - 1)], float).T
    (first, reference), *others = wcses.items()
    sky = reference.wcs.pixel_to_world(x, y)
    for name, wcs in others:
        dy, dx = (there - here for there, here in zip(wcs.pixels(sky), (y, x), strict=True))
        away = np.nan_to_num(np.hypot(dy, dx), nan=np.inf)
        worst = int(away.argmax())
        where = (
            f"{name}: its WCS and that of {first} are {away[worst]:.3g} pixels apart at the corner "
            f"y={y[worst]:.0f}, x={x[worst]:.0f}"
        )
        if away[worst] > _MAX_SHIFT_PIX:
            raise SceneError(f"{where}; {_REPROJECT}")
        if away[worst] > _MAX_DISAGREEMENT_PIX:
            remarks.doubt(f"{where}; expected at most {_MAX_DISAGREEMENT_PIX}: {_REPROJECT}")
