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

import json
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .covariates import COVARIATES, FORMULA
from .features import CANONICAL_BANDS, FeatureOptions
from .sky import SKY_FACTS

__all__ = [
    "FORMAT",
    "CovariateTable",
    "ModelPackageError",
    "PackageDescription",
    "ScoreTable",
    "read_description",
]

FORMAT = 1


class ModelPackageError(ValueError):
    """A model package that does not exist or is not whole; the message names
    the file and says what was expected.
    """


class _Strict(BaseModel):
    """Keys and types as written: no more keys, no numbers in strings."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class ScoreTable(_Strict):
    """Scores, and the probability at each that a detection is right."""

    score: Annotated[tuple[float, ...], Field(min_length=2)]
    probability: tuple[float, ...]

    @field_validator("score")
    @classmethod
    def _increases(cls, score: tuple[float, ...]) -> tuple[float, ...]:
        if not all(one < other for one, other in pairwise(score)):
            raise ValueError("expected increasing numbers")
        return score

    @field_validator("probability")
    @classmethod
    def _fits(cls, probability: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        score = info.data.get("score", probability)
        if len(score) != len(probability):
            raise ValueError(f"there are {len(score)} scores and {len(probability)} probabilities")
        if not all(one <= other for one, other in pairwise([0, *probability, 1])):
            raise ValueError("expected numbers from 0 to 1 that never decrease")
        return probability


class CovariateTable(_Strict):
    """A logistic function of a detection's `COVARIATES`."""

    formula: int
    intercept: float
    coefficients: dict[str, float]

    @field_validator("formula")
    @classmethod
    def _is_known(cls, formula: int) -> int:
        if formula != FORMULA:
            raise ValueError(f"this version of the software knows formula {FORMULA} only")
        return formula

    @field_validator("coefficients")
    @classmethod
    def _are_all_there(cls, coefficients: dict[str, float]) -> dict[str, float]:
        if set(coefficients) != set(COVARIATES):
            raise ValueError(f"expected just {', '.join(COVARIATES)}")
        return coefficients


_TABLE, _LOGISTIC = "table of scores", "logistic function"  # told apart by their keys


def _kind(content: Any) -> str:
    return _LOGISTIC if isinstance(content, dict) and "formula" in content else _TABLE


def _canonical(bands: tuple[str, ...]) -> tuple[str, ...]:
    if bands != CANONICAL_BANDS:
        raise ValueError(f"expected {list(CANONICAL_BANDS)}")
    return bands


def _all_named(features: Any) -> Any:
    """A default that changes must not change what a network is given."""
    if isinstance(features, dict):
        # Packages are older than some channels; those that they do not name they do not have.
        names = {field.name for field in fields(FeatureOptions) if field.default is not False}
        missing = sorted(names.difference(features))
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
    return features


def _of_skies(ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for name, (low, high) in ranges.items():
        if name not in SKY_FACTS or not low <= high:
            raise ValueError(f"{name}: expected two rising numbers for some of {', '.join(SKY_FACTS)}")
    return ranges


def _plain_name(name: str) -> str:
    # One with a folder in it could lead out of the package.
    if Path(name).name != name:
        raise ValueError("expected the name of a file in the package's folder")
    return name


_FileName = Annotated[str, AfterValidator(_plain_name)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class PackageDescription(_Strict):
    """Content of a ``package.yaml``; see `ModelPackage` for its meaning."""

    format: Literal[1]  # FORMAT; of another nothing else is known
    name: str
    bands: Annotated[tuple[str, ...], AfterValidator(_canonical)]
    pixel_scale_arcsec: Annotated[float, Field(gt=0)]
    features: Annotated[FeatureOptions, BeforeValidator(_all_named)]
    stride: Annotated[int, Field(ge=1)]
    margin: Annotated[int, Field(ge=0)]
    tile_size: int
    calibration: Annotated[
        Annotated[ScoreTable, Tag(_TABLE)] | Annotated[CovariateTable, Tag(_LOGISTIC)], Discriminator(_kind)
    ]
    score_threshold: Annotated[float, Field(ge=0, le=1)]
    calibrated_on: Annotated[dict[str, tuple[float, float]], AfterValidator(_of_skies)] = Field(
        default_factory=dict
    )
    files: dict[_FileName, _Sha256]
    training: dict[str, Any]
    results: dict[str, Any]

    @field_validator("tile_size")
    @classmethod
    def _holds_margins(cls, tile_size: int, info: ValidationInfo) -> int:
        stride, margin = info.data.get("stride", 1), info.data.get("margin", 0)
        if tile_size % stride or tile_size < 2 * margin + stride:
            raise ValueError(
                f"expected a multiple of stride ({stride}) that holds two margins ({margin}) and a stride"
            )
        return tile_size


def _one_line(error: ValidationError) -> str:
    """The first thing that is wrong: field, value and what was expected."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in (_TABLE, _LOGISTIC)) or "the whole"
    if first["type"] == "missing":
        return f"lacks {field}"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"has an unknown key: {field}"
    said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    return f"{field} is {first['input']!r:.200}; {said[0].lower()}{said[1:]}"


def read_description(content: Any) -> PackageDescription:
    """Check the content of a ``package.yaml``.

    Parameters
    ----------
    content : `object`
        What was read.

    Raises
    ------
    ModelPackageError
        Raised, with the field, if a key is missing or unknown, or a value
        makes no sense.
    """
    # As JSON, in which strictness lets lists be tuples and mappings options.
    try:
        return PackageDescription.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise ModelPackageError(_one_line(error)) from error
