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


"""What surveys call the bands, and what this package calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..scene import SceneError

__all__ = ["CANONICAL_NAMES", "BandNameError", "canonical_band", "canonical_bands", "wavelength_order"]

CANONICAL_NAMES: tuple[str, ...] = ("u", "g", "r", "i", "z", "y")
"""From blue to red."""


class BandNameError(SceneError):
    """Names of bands that say nothing, or the same, to this package."""


# Cameras and surveys whose filters are ugrizy up to the details of the
# throughput. Before or after the letter, with any separator: HSC-I, lsst_i,
# i_sdss, "DECam i".
_SURVEYS = (
    "bok|cfht|cfis|comcam|dec|decals|decam|des|delve|hsc|kids|legacysurvey|ls|lsst|lsstcam|lsstcomcam|megacam"
    "|megaprime|omegacam|panstarrs|ps1|sdss|skymapper|subaru|suprimecam|unions|vst"
)

# Each takes the letter as its first group. Names of the cameras' own:
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"([ugrizy])",
        r"([GZY])",  # but neither U, R nor I, which may be Johnson's and Cousins's
        r"([ugrizy])'",  # the Sloan filters' primes
        r"([ri])2",  # Hyper Suprime-Cam's second r and i
        r"([ugrizy])_\d+",  # LSSTCam and LSSTComCam: i_39, g_01
        r"([ugrizy])\.MP\d+",  # MegaCam: i.MP9702
        r"([grizy])p1",  # Pan-STARRS: gp1
        r"([grizy])\.0+",  # Pan-STARRS stacks: g.00000
        r"([ugrizYy]) DECam(?: SDSS)? c\d+.*",  # DECam: g DECam SDSS c0001 4720.0 1520.0
        rf"(?i:(?:{_SURVEYS})[-_. :/]*)([ugrizyUGRIZY])['2]?",
        rf"([ugrizyUGRIZY])['2]?[-_. :/]*(?i:{_SURVEYS})",
    )
)

_MAYBE_COUSINS = frozenset("URI")


def wavelength_order(band: str) -> tuple[int, str]:
    """Key to sort bands by; those of other names follow alphabetically."""
    known = band in CANONICAL_NAMES
    return (CANONICAL_NAMES.index(band) if known else len(CANONICAL_NAMES), band)


def canonical_band(name: str | bytes, band_map: Mapping[str, str] | None = None) -> str | None:
    """The canonical name of a band.

    Parameters
    ----------
    name : `str` or `bytes`
        What a file or a user calls it, such as ``HSC-I``, ``i2``,
        ``DECam i``, ``lsst_i`` or ``i_sdss``.
    band_map : `~collections.abc.Mapping` [`str`, `str`], optional
        What names mean that the table does not know, or means otherwise. A
        name that is mapped to itself is kept.

    Returns
    -------
    band : `str` or `None`
        One of ugrizy, or what ``band_map`` says; `None` if nobody knows.
    """
    # FITS pads with blanks, and numpy's and HDF5's names may be bytes.
    text = (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)).strip()
    if band_map is not None and text in band_map:
        return band_map[text]
    for pattern in _PATTERNS:
        match = pattern.fullmatch(text)
        if match:
            return match[1].lower()
    return None


def canonical_bands(
    names: Iterable[str | bytes], band_map: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The canonical names of several bands.

    Parameters
    ----------
    names : `~collections.abc.Iterable` [`str` or `bytes`]
        What they are called.
    band_map : `~collections.abc.Mapping` [`str`, `str`], optional
        As for `canonical_band`.

    Returns
    -------
    bands : `tuple` [`str`, ...]
        Their names, in the order given, all different.

    Raises
    ------
    BandNameError
        Raised with all names that are unknown, or if two mean one band.
    """
    given = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]
    for name, band in (band_map or {}).items():
        if band not in CANONICAL_NAMES and band != name:
            raise BandNameError(
                f"the band map takes {name!r} to {band!r}; expected one of {', '.join(CANONICAL_NAMES)}, "
                f"or {name!r} itself to keep a band that is none of them"
            )
    bands = [canonical_band(name, band_map) for name in given]
    unknown = [name for name, band in zip(given, bands, strict=True) if band is None]
    if unknown:
        hint = "; U, R and I may be Johnson's and Cousins's" if _MAYBE_COUSINS.intersection(unknown) else ""
        raise BandNameError(
            f"unknown bands {', '.join(map(repr, unknown))}: the bands are "
            f"{', '.join(CANONICAL_NAMES)}{hint}; say what they are with a band map ({unknown[0]}=r)"
        )
    known = [band for band in bands if band is not None]
    for band in dict.fromkeys(known):
        same = [name for name, other in zip(given, known, strict=True) if other == band]
        if len(same) > 1:
            raise BandNameError(
                f"bands {' and '.join(map(repr, same))} are all {band!r}; give each band once"
            )
    return tuple(known)
