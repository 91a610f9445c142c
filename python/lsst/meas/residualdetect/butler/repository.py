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

import glob
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from astropy.table import Table
from sqlalchemy.exc import OperationalError

from lsst.daf.butler import Butler, Config, DatasetType
from lsst.resources import ResourcePath

from ..detection import detections_at
from ..io.fits_coadd import coadd_name
from ..io.remarks import reason_of
from ..io.scene_file import SceneFile
from ..scene import SceneError

__all__ = [
    "COADDS_COLLECTION",
    "SKYMAP",
    "TRACT",
    "RepositoryError",
    "create_repository",
    "ingest_scenes",
    "ingested_scenes",
    "leftovers",
    "new_repository",
    "open_repository",
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


def _fill_dimensions(butler: Butler) -> None:
    """One skymap of one tract, to which each ingested scene adds a patch."""
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


def _partial_name(root: Path) -> str:
    """What the folder is called in which a repository is made."""
    # The Butler takes what follows a dot for a format.
    return root.absolute().name.replace(".", "_") + "-partial-"


def leftovers(root: Path) -> list[Path]:
    """Folders of repositories whose making was cut off, killed or without
    power, or that somebody is making just now.
    """
    return sorted(root.absolute().parent.glob(f"{glob.escape(_partial_name(root))}*"))


@contextmanager
def new_repository(root: Path) -> Iterator[Butler]:
    """Make an embedded repository, and fill it in the body of the ``with``.

    Until the body has ended all is in a folder beside, so that at ``root``
    there is a whole repository or none.

    Parameters
    ----------
    root : `~pathlib.Path`
        Folder that does not exist yet or is empty.

    Yields
    ------
    butler : `lsst.daf.butler.Butler`
        Writeable; not to be used afterwards, as the repository moves.

    Raises
    ------
    RepositoryError
        Raised if the folder holds something, or its name is one that the
        Butler takes for another.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise RepositoryError(f"{root} is there already and is not empty")
    if re.search(r"[?#]|%[0-9A-Fa-f]{2}", str(root.absolute())):
        # They end the path in a URI, or stand for another character.
        raise RepositoryError(
            f"{root.absolute()}: the Butler takes paths for URIs, in which ?, # and %20 do not mean "
            "themselves; choose a folder without them"
        )
    text = files("lsst.meas.residualdetect.butler").joinpath("butler.yaml").read_text()
    partial = root.absolute().with_name(f"{_partial_name(root)}{uuid4().hex[:8]}")
    try:
        Butler.makeRepo(str(partial), config=Config(yaml.safe_load(text)))
        butler: Butler = Butler.from_config(str(partial), writeable=True)
        try:
            _fill_dimensions(butler)
            yield butler
        finally:
            butler.close()
        partial.rename(root)
    except OperationalError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RepositoryError(f"{root} cannot be written: {reason_of(error)}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def create_repository(root: Path) -> Butler:
    """Make an embedded repository, with `new_repository`'s parameters.

    Returns
    -------
    butler : `lsst.daf.butler.Butler`
        Writeable.
    """
    with new_repository(root):
        pass
    return open_repository(root, writeable=True)


def open_repository(root: Path, *, writeable: bool = False) -> Butler:
    """Open an embedded repository.

    Raises
    ------
    RepositoryError
        Raised if there is none.
    """
    if not (root / "butler.yaml").is_file():
        raise RepositoryError(f"{root} is not a Butler repository: it has no butler.yaml")
    try:
        butler: Butler = Butler.from_config(str(root), writeable=writeable)
    except (OperationalError, LookupError, FileNotFoundError) as error:
        raise RepositoryError(
            f"{root} cannot be opened: {reason_of(error)}; if its making was cut off, remove it and "
            "ingest again"
        ) from error
    if not butler.registry.queryDatasetTypes("deep_coadd"):
        raise RepositoryError(f"{root} is a Butler repository, but not one that ingest made")
    return butler


def ingested_scenes(butler: Butler) -> dict[str, int]:
    """Name and patch of each scene of an embedded repository, that of the
    last patch if some share a name.
    """
    names: dict[str, int] = {}
    patches = {
        ref.dataId["patch"]: ref
        for ref in butler.query_datasets("deep_coadd", COADDS_COLLECTION, limit=None, explain=False)
    }
    for patch in sorted(patches):
        names[coadd_name(Path(butler.getURI(patches[patch]).ospath))] = int(patch)
    return names


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
    scenes: Iterable[SceneFile],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[int]:
    """Write scenes into an embedded repository, one patch each.

    All or nothing: if one scene cannot be written none is.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        Writeable, of an embedded repository.
    scenes : `~collections.abc.Iterable` [`SceneFile`]
        Scenes, taken one after the other, so that only one need be in
        memory; peaks that come with one replace those that detection would
        find, and a truth table is kept for the evaluation.
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
    RepositoryError
        Raised with the scene's name and the reason if it cannot be written.
    """
    taken = [
        record.id for record in butler.registry.queryDimensionRecords("patch", skymap=SKYMAP, tract=TRACT)
    ]
    patches: list[int] = []
    written: list[ResourcePath] = []

    def put(content: SceneFile, dataset: Any, name: str, **where: Any) -> None:
        try:
            ref = butler.put(dataset, name, where, run=COADDS_COLLECTION)
        except RuntimeError as error:  # the formatter's error is its cause
            raise RepositoryError(f"{content.scene.name}: {error.__cause__ or error}") from error
        written.append(butler.getURI(ref))

    try:
        with butler.transaction():
            for patch, content in enumerate(scenes, start=max(taken, default=-1) + 1):
                _insert_dimensions(butler, patch, content.scene.bands)
                where = {"skymap": SKYMAP, "tract": TRACT, "patch": patch}
                for band in content.scene.bands:
                    put(content, content.scene.select_bands([band]), "deep_coadd", **where, band=band)
                if content.peaks is not None:
                    try:
                        given = detections_at(content.scene, content.peaks, content.footprints)
                    except ValueError as error:
                        raise SceneError(f"{content.scene.name}: {error}") from error
                    put(content, given, "object_detection_given", **where)
                if content.truth is not None:
                    put(content, Table(content.truth), "truth", **where)
                patches.append(patch)
                if progress is not None:
                    progress(1)
    except BaseException:
        # The transaction takes back all records, but where a put within it
        # failed not the files of the puts before.
        for uri in written:
            if uri.exists():
                uri.remove()
        raise
    return patches
