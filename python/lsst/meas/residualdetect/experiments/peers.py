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

from ..detectors import Detector, DetectorError, detector_names, load_detector, takes_model
from ..network.package import DEFAULT_MODEL, load_package

__all__ = ["DEBLENDINGS", "ORACLE", "load_peers", "load_peers_once", "peer_labels", "peer_names"]

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


def peer_labels(names: Sequence[str], models: Sequence[str] = ()) -> dict[str, tuple[str, str]]:
    """What results of detectors are called, and what they are of.

    Parameters
    ----------
    names : `~collections.abc.Sequence` [`str`]
        Some of `peer_names`.
    models : `~collections.abc.Sequence` [`str`], optional
        Model packages; each detector that runs a network runs each of them.
        The default one if there is none.

    Returns
    -------
    labels : `dict` [`str`, `tuple` [`str`, `str`]]
        Name of the detector and model package, empty for one that needs
        none, by label: the detector's name, with that of the package if
        there are several.

    Raises
    ------
    DetectorError
        Raised if two packages have the same name.
    ModelPackageError
        Raised if there is no such package.
    """
    models = tuple(dict.fromkeys(models)) or (DEFAULT_MODEL,)
    labels: dict[str, tuple[str, str]] = {}
    for name in names:
        for model in models if name in detector_names() and takes_model(name) else ("",):
            label = f"{name}-{load_package(model).name}" if model and len(models) > 1 else name
            if labels.setdefault(label, (name, model)) != (name, model):
                raise DetectorError(f"{labels[label][1]} and {model} have the same name; rename one's folder")
    return labels


def load_peers(names: Sequence[str], models: Sequence[str] = ()) -> dict[str, Detector]:
    """Make detectors by name.

    Parameters
    ----------
    names, models
        As for `peer_labels`. `ORACLE` is passed over: it is made for each
        scene anew.

    Returns
    -------
    detectors : `dict` [`str`, `Detector`]
        By the labels of `peer_labels`, in their order.

    Raises
    ------
    DetectorError
        Raised if there is none of a name, or it needs what is not installed.
    """
    return {
        label: _deblending(name) if name in DEBLENDINGS else load_detector(name, model)
        for label, (name, model) in peer_labels(names, models).items()
        if name != ORACLE
    }


@cache
def load_peers_once(names: tuple[str, ...], models: tuple[str, ...]) -> dict[str, Detector]:
    """`load_peers`, but once in each process."""
    return load_peers(names, models)
