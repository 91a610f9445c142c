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


"""Detectors and those they are measured beside, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module

from ..detectors import Detector, DetectorError, detector_names, load_detector

__all__ = ["DEBLENDINGS", "ORACLE", "load_peers", "load_peers_once", "peer_names"]

ORACLE = "oracle"

DEBLENDINGS: Mapping[str, str] = {"sep": "SepDeblending", "photutils": "PhotutilsDeblending"}
"""Packages that a user has who knows no residuals, and the classes that look with them."""


def _deblending(package: str) -> Detector:
    try:
        module = import_module(f"{__package__}.{package}_peer")
    except ImportError as error:
        raise DetectorError(f"{error}; install {package} to measure its deblending") from error
    detector: Callable[[], Detector] = getattr(module, DEBLENDINGS[package])
    return detector()


def peer_names() -> tuple[str, ...]:
    """Names that `load_peers` knows."""
    return (*detector_names(), *DEBLENDINGS, ORACLE)


def load_peers(names: Sequence[str], model: str = "") -> dict[str, Detector]:
    """Make detectors by name.

    Parameters
    ----------
    names : `~collections.abc.Sequence` [`str`]
        Some of `peer_names`. `ORACLE` is passed over: it is made for each
        scene anew.
    model : `str`, optional
        Model package of those that run a network.

    Returns
    -------
    detectors : `dict` [`str`, `Detector`]
        In the order of the names.

    Raises
    ------
    DetectorError
        Raised if there is none of a name, or it needs what is not installed.
    """
    return {
        name: _deblending(name) if name in DEBLENDINGS else load_detector(name, model)
        for name in names
        if name != ORACLE
    }


@cache
def load_peers_once(names: tuple[str, ...], model: str) -> dict[str, Detector]:
    """`load_peers`, but once in each process."""
    return load_peers(names, model)
