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


"""Fluxes of any survey in nanojansky."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u

from ..remarks import Remarks

__all__ = ["IMAGE_UNITS", "FluxScale", "flux_scale"]

# AB magnitude 0 (Oke & Gunn 1983, ApJ 266, 713): 3630.78 Jy.
_AB_NJY = float((1 * u.ABflux).to_value(u.nJy))
_AB_ZERO_POINT_NJY = 2.5 * np.log10(_AB_NJY)

# The unit of fluxes about which a file says nothing.
IMAGE_UNITS = ""

_NANOMAGGIES = frozenset({"NANOMAGGY", "NANOMAGGIES", "NANOMAGGIE", "NMGY", "NMAGGY"})

# Zero points, on the AB system: AB magnitude of one unit of the pixels.
_ZERO_POINTS = ("MAGZERO", "ZEROPOINT", "MAGZPT", "PHOTZP", "MAGZP", "ZPTMAG", "MAG_ZERO")
_MAX_DISAGREEMENT_MAG = 0.005


@dataclass(frozen=True)
class FluxScale:
    """What takes pixels to fluxes.

    Parameters
    ----------
    factor : `float`
        Pixels times this are in ``unit``.
    unit : `str`
        ``nJy``, or `IMAGE_UNITS`.
    source : `str`
        The cards it comes from; empty if there are none.
    """

    factor: float = 1.0
    unit: str = IMAGE_UNITS
    source: str = ""


def _of_unit(text: str, pixel_area_arcsec2: float | None) -> float | None:
    """Nanojansky in a unit; `None` if it is none of flux."""
    name = text.upper().replace("/PIXEL", "").replace("/PIX", "").strip()
    if name in _NANOMAGGIES:
        return _AB_NJY * 1e-9
    try:
        unit = u.Unit(text, format="fits") if text else None
    except ValueError:
        unit = u.Unit(text, parse_strict="silent")
    if unit is None or isinstance(unit, u.UnrecognizedUnit):
        return None
    area = (pixel_area_arcsec2 or np.nan) * u.arcsec**2
    for per_pixel in (unit, unit * u.pix, unit * area):
        try:
            factor = float((1 * per_pixel).to_value(u.nJy))
        except (u.UnitConversionError, u.UnitTypeError):
            continue
        return factor if np.isfinite(factor) and factor > 0 else None
    return None


def _of_cards(header: Mapping[str, Any]) -> dict[str, float]:
    """Nanojansky in a unit of the pixels, by the card that says so."""
    found = {}
    for card in _ZERO_POINTS:
        value = header.get(card)
        # 0 is what cameras write that do not know.
        if isinstance(value, int | float) and np.isfinite(value) and value != 0:
            found[card] = float(10 ** (-0.4 * (value - _AB_ZERO_POINT_NJY)))
    counts = header.get("FLUXMAG0")
    if isinstance(counts, int | float) and np.isfinite(counts) and counts > 0:
        found["FLUXMAG0"] = _AB_NJY / float(counts)
    per_count, pivot = header.get("PHOTFLAM"), header.get("PHOTPLAM")
    if isinstance(per_count, int | float) and isinstance(pivot, int | float) and per_count > 0 and pivot > 0:
        # erg/s/cm2/Angstrom at the pivot wavelength (the Hubble Space
        # Telescope's cards).
        density = (per_count * u.erg / u.s / u.cm**2 / u.AA).to_value(u.nJy, u.spectral_density(pivot * u.AA))
        found["PHOTFLAM"] = float(density)
    return found


def flux_scale(
    header: Mapping[str, Any], remarks: Remarks, what: str, pixel_area_arcsec2: float | None = None
) -> FluxScale:
    """How the pixels of an image become nanojansky.

    Parameters
    ----------
    header : `~collections.abc.Mapping`
        Cards of the image, and those of the file where it has none.
    remarks : `Remarks`
        Is told what is unknown or contradicts itself.
    what : `str`
        The file and band, for messages.
    pixel_area_arcsec2 : `float`, optional
        For units per solid angle, such as MJy/sr.

    Returns
    -------
    scale : `FluxScale`
        From ``BUNIT`` if that is a flux (nJy, uJy, Jy, nanomaggy, MJy/sr,
        ...), else from the zero points ``MAGZERO``, ``ZEROPOINT``,
        ``MAGZPT``, ``PHOTZP``, ``MAGZP`` (AB magnitude of one unit),
        ``FLUXMAG0`` (units of magnitude 0) or ``PHOTFLAM`` with
        ``PHOTPLAM``. Without any of them fluxes stay in the image's units.
    """
    text = str(header.get("BUNIT", "")).strip()
    of_unit = _of_unit(text, pixel_area_arcsec2)
    cards = _of_cards(header)
    system = str(header.get("PHOTSYS", header.get("MAGSYS", "AB"))).strip().upper()
    if of_unit is None and "MAG" in text.upper():
        remarks.doubt(f"{what}: BUNIT is {text!r}; pixels must be proportional to light, not its logarithm")
    if of_unit is not None:
        return FluxScale(of_unit, "nJy", f"BUNIT {text}")
    if "VEGA" in system:
        remarks.doubt(f"{what}: zero points are on the system {system}, not AB; fluxes stay in image units")
        return FluxScale()
    if cards:
        first, factor = next(iter(cards.items()))
        for card, other in cards.items():
            if abs(2.5 * np.log10(other / factor)) > _MAX_DISAGREEMENT_MAG:
                remarks.doubt(
                    f"{what}: {first} and {card} disagree by {2.5 * np.log10(other / factor):+.3f} mag; "
                    f"{first} is used"
                )
        return FluxScale(factor, "nJy", first)
    said = f"BUNIT is {text!r}" if text else "no BUNIT"
    remarks.note(f"{what}: {said} and no zero point; fluxes stay in image units")
    return FluxScale()
