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

"""A trained network with all that is needed to use it: a folder of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..io.package_files import file_folders, find_file
from ..io.whole_file import write_whole
from .calibration import CovariateCalibration, ScoreCalibration
from .covariates import COVARIATES
from .features import FeatureOptions
from .package_description import FORMAT, CovariateTable, ModelPackageError, ScoreTable, read_description

__all__ = [
    "DEFAULT_MODEL",
    "DESCRIPTION",
    "ModelPackage",
    "ModelPackageError",
    "load_package",
    "package_names",
    "write_package",
]

# The model that is used unless the user names another.
DEFAULT_MODEL = "mask_rcnn_ugrizy"

DESCRIPTION = "package.yaml"

# What git checks out in place of a large file where Git LFS is not installed.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class ModelPackage:
    """A trained network: what it was made for, and its files.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the files are.
    name : `str`
        What the model is called.
    bands : `tuple` [`str`, ...]
        Bands of the channels, in their order.
    pixel_scale_arcsec : `float`
        Side of the pixels it was trained on.
    features : `FeatureOptions`
        How pixels become channels.
    tile_size : `int`
        Pixels a side that the network looks at at once.
    margin : `int`
        Pixels at a tile's inner edges whose detections are left to the
        neighbouring tile.
    stride : `int`
        Corners and sides of tiles are multiples of this.
    calibration : `ScoreCalibration` or `CovariateCalibration`
        From scores to probabilities.
    score_threshold : `float`
        Probability from which a detection is taken.
    calibrated_on : `~collections.abc.Mapping` [`str`, `tuple` [`float`, `float`]]
        Least and greatest of some of `SKY_FACTS` among the skies of the
        calibration; none if that is not known.
    sha256 : `~collections.abc.Mapping` [`str`, `str`]
        Checksum of each file by its name.
    training, results : `~collections.abc.Mapping`
        How it was trained and what was measured, for people to read.
    """

    folder: Path
    name: str
    bands: tuple[str, ...]
    pixel_scale_arcsec: float
    features: FeatureOptions
    tile_size: int
    margin: int
    stride: int
    calibration: ScoreCalibration | CovariateCalibration
    score_threshold: float
    calibrated_on: Mapping[str, tuple[float, float]]
    sha256: Mapping[str, str]
    training: Mapping[str, Any]
    results: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Path of one of the files, whose content has been verified.

        Raises
        ------
        ModelPackageError
            Raised if the package lists no such file, or if what is there is
            not what it lists.
        """
        if name not in self.sha256:
            raise ModelPackageError(
                f"{self.folder / DESCRIPTION} lists no {name}, only {', '.join(self.sha256) or 'nothing'}"
            )
        path = self.folder / name
        digest = _sha256(path)
        if digest != self.sha256[name]:
            with path.open("rb") as stream:
                is_pointer = stream.read(len(_LFS_POINTER)) == _LFS_POINTER
            if is_pointer:
                raise ModelPackageError(
                    f"{path} is only a pointer of Git LFS; get the file with: git lfs pull"
                )
            raise ModelPackageError(
                f"{path} is damaged or cut short: its {path.stat().st_size} bytes "
                f"have sha256 {digest}; expected {self.sha256[name]}"
            )
        return path


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise ModelPackageError(f"{path} is missing")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _calibration(table: ScoreTable | CovariateTable) -> ScoreCalibration | CovariateCalibration:
    if isinstance(table, ScoreTable):
        return ScoreCalibration(table.score, table.probability)
    return CovariateCalibration(table.intercept, tuple(table.coefficients[name] for name in COVARIATES))


def _parse(text: str, path: Path) -> ModelPackage:
    try:
        description = read_description(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ModelPackageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ModelPackageError as error:
        raise ModelPackageError(f"{path} {error}") from error
    for name in description.files:
        if not (path.parent / name).is_file():
            raise ModelPackageError(f"{path} lists {name}, which is missing")
    return ModelPackage(
        folder=path.parent,
        name=description.name,
        bands=description.bands,
        pixel_scale_arcsec=description.pixel_scale_arcsec,
        features=description.features,
        tile_size=description.tile_size,
        margin=description.margin,
        stride=description.stride,
        calibration=_calibration(description.calibration),
        score_threshold=description.score_threshold,
        calibrated_on=description.calibrated_on,
        sha256=description.files,
        training=description.training,
        results=description.results,
    )


def package_names() -> tuple[str, ...]:
    """Names of the model packages that come with this package, sorted."""
    return tuple(
        sorted(
            {
                path.parent.name
                for folder in file_folders("models")
                for path in folder.glob(f"*/{DESCRIPTION}")
            }
        )
    )


def load_package(name: str) -> ModelPackage:
    """Read the description of a model package; its files are not read yet.

    Parameters
    ----------
    name : `str`
        Name of one in ``models/`` of this package; or the path of a folder
        with a ``package.yaml``, which has a slash in it (``./mine``), so that
        no folder of the same name stands in for what is shipped.

    Returns
    -------
    package : `ModelPackage`
        What ``package.yaml`` says.

    Raises
    ------
    ModelPackageError
        Raised if there is no such package, its description is unusable, or a
        file that it lists is missing.
    """
    folder = Path(name)
    is_path = folder.is_absolute() or any(mark in name for mark in (os.sep, os.altsep) if mark)
    try:
        path = folder / DESCRIPTION if is_path else find_file("models", f"{name}/{DESCRIPTION}")
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        here = f"; a folder here is given as ./{name}" if not is_path and folder.is_dir() else ""
        raise ModelPackageError(
            f"no model package {name!r}; expected a folder with {DESCRIPTION} "
            f"or one of: {', '.join(package_names()) or '(there are none)'}{here}"
        ) from error
    except ValueError as error:  # not text
        raise ModelPackageError(f"{path} is not text: {error}") from error
    return _parse(text, path)


def write_package(folder: Path, description: Mapping[str, Any], files: Iterable[str]) -> ModelPackage:
    """Make a model package of a folder of files by describing them.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the files are. ``package.yaml`` is written last and whole, so a
        folder without one is not a package yet.
    description : `~collections.abc.Mapping`
        What ``package.yaml`` holds but for ``format`` and ``files``, in plain
        types.
    files : `~collections.abc.Iterable` [`str`]
        Names of the files.

    Returns
    -------
    package : `ModelPackage`
        The package, as `load_package` would read it.

    Raises
    ------
    ModelPackageError
        Raised if a file is missing or the description is unusable; nothing
        is written then.
    """
    path = folder / DESCRIPTION
    content = {"format": FORMAT, **description, "files": {name: _sha256(folder / name) for name in files}}
    try:
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    except yaml.YAMLError as error:
        raise ModelPackageError(f"{path} cannot hold this: {' '.join(str(error).split())}") from error
    package = _parse(text, path)
    write_whole(path, text)
    return package
