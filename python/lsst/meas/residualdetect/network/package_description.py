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

"""What the description of a model package, ``package.yaml``, must hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from .features import CANONICAL_BANDS, FeatureOptions

__all__ = ["FORMAT", "ModelPackageError", "check_description"]

FORMAT = 1

_KEYS: Mapping[str, type] = {
    "format": int,
    "name": str,
    "bands": list,
    "pixel_scale_arcsec": float,
    "features": dict,
    "tile_size": int,
    "margin": int,
    "stride": int,
    "calibration": dict,
    "score_threshold": float,
    "files": dict,
    "training": dict,
    "results": dict,
}


class ModelPackageError(ValueError):
    """A model package that does not exist or is not whole; the message names
    the file and says what was expected.
    """


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ModelPackageError(otherwise)


def _is(value: object, kind: type) -> bool:
    """Whether a value is of a type as YAML means it: integers are numbers;
    booleans, and what is not finite, are not.
    """
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, kind)


def _check_keys(content: Mapping[Any, Any], kinds: Mapping[str, type], prefix: str = "") -> None:
    """Refuse a mapping that has not just these keys, with these types."""
    missing, unknown = kinds.keys() - content.keys(), content.keys() - kinds.keys()
    _expect(not missing, f"lacks {', '.join(prefix + key for key in sorted(missing))}")
    _expect(not unknown, f"has unknown keys: {', '.join(prefix + key for key in sorted(map(str, unknown)))}")
    for key, kind in kinds.items():
        _expect(
            _is(content[key], kind),
            f"{prefix}{key} is {content[key]!r}; expected a value of type {kind.__name__}",
        )


def _check_calibration(content: Mapping[str, Any]) -> None:
    _check_keys(content, {"score": list, "probability": list}, "calibration.")
    scores, probabilities = content["score"], content["probability"]
    for key, values in content.items():
        _expect(
            all(_is(value, float) for value in values),
            f"calibration.{key} is {values}; expected finite numbers",
        )
    _expect(
        len(scores) == len(probabilities) >= 2,
        f"calibration has {len(scores)} scores and {len(probabilities)} probabilities; "
        "expected two or more, and as many of both",
    )
    _expect(
        all(one < other for one, other in pairwise(scores)),
        f"calibration.score is {scores}; expected increasing numbers",
    )
    _expect(
        all(one <= other for one, other in pairwise([0, *probabilities, 1])),
        f"calibration.probability is {probabilities}; expected numbers from 0 to 1 that never decrease",
    )


def _check_files(files: Mapping[Any, Any]) -> None:
    for name, digest in files.items():
        # A name with a folder in it could lead out of the package.
        _expect(
            isinstance(name, str) and Path(name).name == name,
            f"files has {name!r}; expected the name of a file in the package's folder",
        )
        _expect(
            isinstance(digest, str) and len(digest) == 64,
            f"sha256 of {name} is {digest!r}; expected 64 hexadecimal digits",
        )


def check_description(content: Any) -> None:
    """Refuse the content of a ``package.yaml`` that cannot be worked with.

    Parameters
    ----------
    content : `object`
        What was read.

    Raises
    ------
    ModelPackageError
        Raised if a key is missing or unknown, or a value makes no sense.
    """
    _expect(isinstance(content, dict), f"holds {content!r:.50}; expected a mapping")
    # Of another format nothing else is known.
    _expect(content.get("format") == FORMAT, f"format is {content.get('format')!r}; expected {FORMAT}")
    _check_keys(content, _KEYS)
    bands, scale, threshold = (content[key] for key in ("bands", "pixel_scale_arcsec", "score_threshold"))
    _expect(bands == list(CANONICAL_BANDS), f"bands are {bands}; expected {list(CANONICAL_BANDS)}")
    _expect(scale > 0, f"pixel_scale_arcsec is {scale}; it must be positive")
    _expect(0 <= threshold <= 1, f"score_threshold is {threshold}; expected 0 to 1")
    # Packages are older than some options; what they do not name they do not have.
    features = {"significance": False, **content["features"]}
    _check_keys(features, {f.name: type(f.default) for f in fields(FeatureOptions)}, "features.")
    try:
        FeatureOptions(**content["features"])
    except ValueError as error:
        raise ModelPackageError(f"features: {error}") from error
    tile_size, margin, stride = (content[key] for key in ("tile_size", "margin", "stride"))
    _expect(stride >= 1, f"stride is {stride}; it must be positive")
    _expect(margin >= 0, f"margin is {margin}; it must not be negative")
    _expect(
        tile_size % stride == 0 and tile_size >= 2 * margin + stride,
        f"tile_size is {tile_size}; expected a multiple of stride ({stride}) "
        f"that holds two margins ({margin}) and a stride",
    )
    _check_calibration(content["calibration"])
    _check_files(content["files"])
