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

"""Model packages as data sets of a Butler, so that weights are where workers
have no shared disk, and the provenance of a catalogue says which made it.

The storage class is known to whoever imports this, and each data set's record
says how it is read: a repository's configuration need not change.
"""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from zipfile import BadZipFile, ZipFile

from lsst.daf.butler import (
    Butler,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    FileDataset,
    FormatterV2,
    StorageClass,
    StorageClassFactory,
)
from lsst.resources import ResourcePath

from ..network.package import DESCRIPTION, ModelPackage, ModelPackageError, load_package

__all__ = [
    "MODEL_PACKAGE",
    "MODEL_PACKAGE_STORAGE",
    "ModelPackageFormatter",
    "read_zip",
    "register_model",
    "write_zip",
]

MODEL_PACKAGE = "residual_detection_model"
"""Name of the data set, unless the user gives another."""

MODEL_PACKAGE_STORAGE = "ResidualModelPackage"
"""Name of its storage class."""

StorageClassFactory().registerStorageClass(StorageClass(MODEL_PACKAGE_STORAGE, pytype=ModelPackage))


def write_zip(package: ModelPackage, path: Path) -> None:
    """Write a package as one file.

    Parameters
    ----------
    package : `ModelPackage`
        What to write.
    path : `~pathlib.Path`
        Zip file, replaced if it is there.

    Raises
    ------
    ModelPackageError
        Raised if a file of the package is not the one that it lists.
    """
    with ZipFile(path, "w") as archive:
        archive.write(package.folder / DESCRIPTION, DESCRIPTION)
        for name in package.sha256:
            archive.write(package.file(name), name)


def read_zip(path: Path) -> ModelPackage:
    """Read a package from one file.

    Parameters
    ----------
    path : `~pathlib.Path`
        What `write_zip` wrote.

    Returns
    -------
    package : `ModelPackage`
        In a temporary folder that is there for as long as the package.

    Raises
    ------
    ModelPackageError
        Raised with the file's name if it is no package, or a checksum is not
        the one listed.
    """
    folder = Path(mkdtemp(prefix="model-package-"))
    try:
        try:
            with ZipFile(path) as archive:
                archive.extractall(folder)
        except BadZipFile as error:
            raise ModelPackageError(f"{path} is no model package: {error}") from error
        package = load_package(str(folder))
        for name in package.sha256:
            package.file(name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(package, shutil.rmtree, folder, ignore_errors=True)
    return package


class ModelPackageFormatter(FormatterV2):
    """A `~lsst.meas.residualdetect.network.package.ModelPackage` in a zip."""

    default_extension = ".zip"
    can_read_from_local_file = True

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Read the package; its checksums are verified."""
        return read_zip(Path(path))

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Write the package."""
        write_zip(in_memory_dataset, Path(uri.ospath))


def register_model(
    butler: Butler, package: ModelPackage, collection: str, *, name: str = MODEL_PACKAGE
) -> DatasetRef:
    """Put a model package into a repository.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        Writeable; of the stack or an embedded one.
    package : `ModelPackage`
        What to put.
    collection : `str`
        Run that is to hold it, and no other package of that name.
    name : `str`, optional
        Name of the data set, which has no dimensions.

    Returns
    -------
    ref : `lsst.daf.butler.DatasetRef`
        Where it is.

    Raises
    ------
    ModelPackageError
        Raised if a file of the package is not the one that it lists, or the
        collection has a package already.
    """
    dataset_type = DatasetType(name, (), MODEL_PACKAGE_STORAGE, universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    butler.registry.registerRun(collection)
    where = DataCoordinate.make_empty(butler.dimensions)
    if butler.find_dataset(dataset_type, where, collections=collection) is not None:
        raise ModelPackageError(f"collection {collection} holds a {name} already; name another")
    ref = DatasetRef(dataset_type, where, collection)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{package.name}.zip"
        write_zip(package, path)
        butler.ingest(FileDataset(path, ref, formatter=ModelPackageFormatter), transfer="copy")
    return ref
