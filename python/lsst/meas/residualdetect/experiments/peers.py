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
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

from ..detectors import Detector, DetectorError, detector_names, load_detector, takes_model
from ..network.package import DEFAULT_MODEL, load_package
from .deblending_peers import PhotutilsDeblending, SepDeblending

__all__ = ["DEBLENDINGS", "ORACLE", "load_peers", "load_peers_once", "peer_labels", "peer_names"]

ORACLE = "oracle"

DEBLENDINGS: Mapping[str, Callable[..., Detector]] = {"sep": SepDeblending, "photutils": PhotutilsDeblending}
"""Packages that a user has who knows no residuals, and what looks with them."""

_NEEDED = {"sep": ("sep",), "photutils": ("photutils", "skimage")}


def _deblending(package: str, **options: Any) -> Detector:
    for module in _NEEDED[package]:
        if find_spec(module) is None:
            raise DetectorError(f"no module named {module!r}; install {package} to measure its deblending")
    try:
        return DEBLENDINGS[package](**options)
    except TypeError as error:  # there is none of that name
        raise DetectorError(f"detector {package!r}: {error}") from error


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _options_of(name: str, given: Sequence[str]) -> dict[str, Any]:
    """Options of one detector of texts like ``onnx.min_score=0.1``."""
    own = (text.removeprefix(f"{name}.") for text in given if text.startswith(f"{name}."))
    return {option: _value(value) for option, _, value in (text.partition("=") for text in own)}


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


def load_peers(
    names: Sequence[str], models: Sequence[str] = (), options: Sequence[str] = ()
) -> dict[str, Detector]:
    """Make detectors by name.

    Parameters
    ----------
    names, models
        As for `peer_labels`. `ORACLE` is passed over: it is made for each
        scene anew.
    options : `~collections.abc.Sequence` [`str`], optional
        Options of the detectors, such as ``onnx.min_score=0.1``.

    Returns
    -------
    detectors : `dict` [`str`, `Detector`]
        By the labels of `peer_labels`, in their order.

    Raises
    ------
    DetectorError
        Raised if there is none of a name, it has no such option, or it needs
        what is not installed.
    """
    for text in options:
        if text.partition(".")[0] not in set(names) - {ORACLE} or "=" not in text:
            raise DetectorError(f"{text!r} is no option of {', '.join(names)}, as in {names[0]}.NAME=VALUE")
    return {
        label: _deblending(name, **_options_of(name, options))
        if name in DEBLENDINGS
        else load_detector(name, model, **_options_of(name, options))
        for label, (name, model) in peer_labels(names, models).items()
        if name != ORACLE
    }


@cache
def load_peers_once(
    names: tuple[str, ...], models: tuple[str, ...], options: tuple[str, ...] = ()
) -> dict[str, Detector]:
    """`load_peers`, but once in each process."""
    return load_peers(names, models, options)
