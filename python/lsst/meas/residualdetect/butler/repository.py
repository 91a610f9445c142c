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

"""The embedded Butler repository: making it and filling it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from astropy.table import Table

from lsst.daf.butler import Butler, Config, DatasetType
from lsst.resources import ResourcePath

from ..detection import DetectionOptions, detections_at
from ..detections import Detections
from ..io.fits_coadd import read_coadd
from ..io.scene_file import SceneFile, read_scene_file
from ..scene import Scene, SceneError
from .images.stack import stack_bands

__all__ = [
    "COADDS_COLLECTION",
    "SKYMAP",
    "TRACT",
    "RepositoryError",
    "create_repository",
    "ingest_scenes",
    "open_repository",
    "read_inputs",
]

COADDS_COLLECTION = "coadds"
SKYMAP = "embedded"
TRACT = 0
_INSTRUMENT = "embedded"

_PATCH = ("skymap", "tract", "patch")
# Data sets that ingest writes, with dimensions and storage class.
_DATASET_TYPES = (
    ("deep_coadd", (*_PATCH, "band"), "ArrayCoadd"),
    ("object_detection_given", _PATCH, "ArrayDetections"),
    ("truth", _PATCH, "ArrowAstropy"),
)


class RepositoryError(ValueError):
    """A folder that is no embedded repository, or cannot become one."""


def create_repository(root: Path) -> Butler:
    """Make an embedded repository.

    Its dimensions hold one skymap of one tract, to which each ingested scene
    adds a patch.

    Parameters
    ----------
    root : `~pathlib.Path`
        Folder that does not exist yet or is empty.

    Returns
    -------
    butler : `lsst.daf.butler.Butler`
        Writeable.

    Raises
    ------
    RepositoryError
        Raised if the folder holds something.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise RepositoryError(f"{root} is there already and is not empty")
    text = files("lsst.meas.residualdetect.butler").joinpath("butler.yaml").read_text()
    Butler.makeRepo(str(root), config=Config(yaml.safe_load(text)))
    butler: Butler = Butler.from_config(str(root), writeable=True)
    with butler.transaction():
        butler.registry.insertDimensionData(
            "instrument",
            {
                "name": _INSTRUMENT,
                "class_name": "",
                "visit_max": 1,
                "exposure_max": 1,
                "detector_max": 1,
            },
        )
        butler.registry.insertDimensionData(
            "skymap",
            {
                "name": SKYMAP,
                "hash": SKYMAP.encode(),
                "tract_max": 1,
                "patch_nx_max": 1_000_000,
                "patch_ny_max": 1,
            },
        )
        butler.registry.insertDimensionData("tract", {"skymap": SKYMAP, "id": TRACT})
    for name, dimensions, storage_class in _DATASET_TYPES:
        butler.registry.registerDatasetType(
            DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
        )
    butler.registry.registerRun(COADDS_COLLECTION)
    return butler


def open_repository(root: Path, *, writeable: bool = False) -> Butler:
    """Open an embedded repository.

    Raises
    ------
    RepositoryError
        Raised if there is none.
    """
    if not (root / "butler.yaml").is_file():
        raise RepositoryError(f"{root} is not a Butler repository: it has no butler.yaml")
    butler: Butler = Butler.from_config(str(root), writeable=writeable)
    if not butler.registry.queryDatasetTypes("deep_coadd"):
        raise RepositoryError(f"{root} is a Butler repository, but not one that ingest made")
    return butler


def read_inputs(paths: Sequence[Path], *, pixel_scale_arcsec: float | None = None) -> list[SceneFile]:
    """Read what a user wants to ingest.

    Parameters
    ----------
    paths : `~collections.abc.Sequence` [`~pathlib.Path`]
        Scene files (``.npz``), each a scene; and FITS coadds of one band,
        those with the same ``OBJECT`` card making a scene.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel in place of what scene files say.

    Returns
    -------
    scenes : `list` [`SceneFile`]
        In the order in which the files first name them.

    Raises
    ------
    SceneError, FitsError
        Raised with the file's name if one cannot be read, or two FITS files
        hold the same band.
    """
    scenes: list[SceneFile | list[Scene]] = []
    by_object: dict[str, list[Scene]] = {}
    for path in paths:
        if path.suffix == ".npz":
            scenes.append(read_scene_file(path, pixel_scale_arcsec=pixel_scale_arcsec))
        elif path.suffix in (".fits", ".fit", ".fz", ".gz"):
            coadd = read_coadd(path)
            if coadd.name not in by_object:
                by_object[coadd.name] = []
                scenes.append(by_object[coadd.name])
            if coadd.bands[0] in [other.bands[0] for other in by_object[coadd.name]]:
                raise SceneError(f"{path}: band {coadd.bands[0]!r} of {coadd.name!r} was given before")
            by_object[coadd.name].append(coadd)
        else:
            raise SceneError(f"{path}: expected a scene file (.npz) or a FITS coadd (.fits)")
    return [
        item if isinstance(item, SceneFile) else SceneFile(stack_bands(item, len(item))) for item in scenes
    ]


def _insert_dimensions(butler: Butler, patch: int, bands: Sequence[str]) -> None:
    # A band exists by way of the physical filters that see it.
    for band in bands:
        butler.registry.insertDimensionData(
            "physical_filter",
            {"instrument": _INSTRUMENT, "name": band, "band": band},
            skip_existing=True,
        )
    butler.registry.insertDimensionData(
        "patch", {"skymap": SKYMAP, "tract": TRACT, "id": patch, "cell_x": patch, "cell_y": 0}
    )


def ingest_scenes(
    butler: Butler,
    scenes: Sequence[SceneFile],
    *,
    detection: DetectionOptions = DetectionOptions(),
    progress: Callable[[int], None] | None = None,
) -> list[int]:
    """Write scenes into an embedded repository, one patch each.

    All or nothing: if one scene cannot be written none is.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        Writeable, of an embedded repository.
    scenes : `~collections.abc.Sequence` [`SceneFile`]
        Scenes; peaks that come with one replace those that detection would
        find, and a truth table is kept for the evaluation.
    detection : `DetectionOptions`, optional
        How to find footprints for given peaks without footprints.
    progress : callable, optional
        Called with 1 after each scene.

    Returns
    -------
    patches : `list` [`int`]
        Patch number of each scene.

    Raises
    ------
    SceneError
        Raised with the scene's name if its peaks or footprints do not fit it.
    """
    taken = [
        record.id for record in butler.registry.queryDimensionRecords("patch", skymap=SKYMAP, tract=TRACT)
    ]
    first = max(taken, default=-1) + 1
    given: list[Detections | None] = []
    for content in scenes:
        if content.peaks is None:
            given.append(None)
            continue
        try:
            given.append(detections_at(content.scene, content.peaks, content.footprints, detection))
        except ValueError as error:
            raise SceneError(f"{content.scene.name}: {error}") from error
    written: list[ResourcePath] = []

    def put(dataset: Any, name: str, where: dict[str, Any]) -> None:
        written.append(butler.getURI(butler.put(dataset, name, where, run=COADDS_COLLECTION)))

    try:
        with butler.transaction():
            for patch, (content, detections) in enumerate(zip(scenes, given, strict=True), start=first):
                _insert_dimensions(butler, patch, content.scene.bands)
                where = {"skymap": SKYMAP, "tract": TRACT, "patch": patch}
                for band in content.scene.bands:
                    put(content.scene.select_bands([band]), "deep_coadd", where | {"band": band})
                if detections is not None:
                    put(detections, "object_detection_given", where)
                if content.truth is not None:
                    put(Table(content.truth), "truth", where)
                if progress is not None:
                    progress(1)
    except BaseException:
        # The transaction takes back all records, but where a put within it
        # failed not the files of the puts before.
        for uri in written:
            if uri.exists():
                uri.remove()
        raise
    return list(range(first, first + len(scenes)))
