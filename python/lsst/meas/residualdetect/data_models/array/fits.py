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

"""Coadds, detections and models as FITS files.

Every file is written by one ``write_*`` function and read by its ``read_*``
twin, without loss. The coadd's layout is that of the stack's exposures as far
as plain FITS goes: image, mask with ``MP_`` cards, variance; the PSF is an
image too. DS9 opens them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy.io import fits
from astropy.table import Table

from ...footprint import Detections, Footprint, Parent, Peak
from ...scene import Scene
from ...scene_model import ParentModel, SceneModel, SourceModel

__all__ = [
    "FitsError",
    "read_coadd",
    "read_detections",
    "read_model",
    "write_coadd",
    "write_detections",
    "write_model",
]

T = TypeVar("T")


class FitsError(ValueError):
    """A FITS file that does not hold what it should; the message names it."""


def _naming_the_file(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Turn whatever goes wrong while reading into a `FitsError`."""

    @wraps(read)
    def wrapped(path: Path) -> T:
        try:
            return read(path)
        except FileNotFoundError as error:
            raise FitsError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FitsError(f"{path}: {reason}") from error

    return wrapped


def _native(array: Any, dtype: Any) -> Any:
    """A writable array in the machine's byte order, no longer tied to the
    file.
    """
    return np.array(array, dtype=dtype)


def write_coadd(path: Path, scene: Scene) -> None:
    """Write the coadd of one band.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    scene : `Scene`
        A scene with a single band.
    """
    if len(scene.bands) != 1:
        raise ValueError(f"a coadd file holds one band, not {list(scene.bands)}")
    primary = fits.PrimaryHDU()
    primary.header["BAND"] = (scene.bands[0], "band of this coadd")
    primary.header["OBJECT"] = (scene.name, "name of the scene")
    primary.header["PIXSCALE"] = (float(scene.pixel_scale_arcsec), "[arcsec] side of a pixel")
    planes = [
        fits.ImageHDU(scene.images[0], name="IMAGE"),
        fits.ImageHDU(scene.mask[0], name="MASK"),
        fits.ImageHDU(scene.variance[0], name="VARIANCE"),
    ]
    for plane in planes:
        # Physical coordinate = pixel - LTV, by which DS9 shows patch coordinates.
        plane.header["LTV1"] = -scene.origin[1]
        plane.header["LTV2"] = -scene.origin[0]
    for name, bit in scene.mask_planes.items():
        planes[1].header[f"HIERARCH MP_{name}"] = bit
    fits.HDUList([primary, *planes, fits.ImageHDU(scene.psfs[0], name="PSF")]).writeto(path, overwrite=True)


@_naming_the_file
def read_coadd(path: Path) -> Scene:
    """Read the coadd of one band.

    Parameters
    ----------
    path : `~pathlib.Path`
        Multi-extension FITS with the images ``IMAGE``, ``VARIANCE``, ``PSF``
        and, if there is one, ``MASK``; ``BAND`` (or ``FILTER``) in the
        primary header.

    Returns
    -------
    scene : `Scene`
        A scene with a single band.

    Raises
    ------
    FitsError
        Raised if the file is missing, truncated or lacks a part.
    """
    with fits.open(path, memmap=False) as hdus:
        primary = hdus[0].header
        band = primary.get("BAND", primary.get("FILTER"))
        if band is None:
            raise ValueError("the primary header has neither BAND nor FILTER")
        for name in ("IMAGE", "VARIANCE", "PSF"):
            if name not in hdus:
                raise ValueError(f"no {name} extension; it has {[hdu.name for hdu in hdus]}")
        image = hdus["IMAGE"]
        optional: dict[str, Any] = {}
        if "MASK" in hdus:
            mask = hdus["MASK"]
            optional["mask"] = _native(mask.data, np.int32)[None]
            planes = {key[3:]: int(value) for key, value in mask.header.items() if key.startswith("MP_")}
            if planes:
                optional["mask_planes"] = planes
        return Scene(
            images=_native(image.data, np.float32)[None],
            variance=_native(hdus["VARIANCE"].data, np.float32)[None],
            psfs=_native(hdus["PSF"].data, np.float32)[None],
            bands=(str(band),),
            name=str(primary.get("OBJECT", "")),
            origin=(-int(image.header.get("LTV2", 0)), -int(image.header.get("LTV1", 0))),
            pixel_scale_arcsec=float(primary.get("PIXSCALE", 0.2)),
            **optional,
        )


def _table(name: str, columns: dict[str, Any]) -> fits.BinTableHDU:
    return fits.BinTableHDU(Table(columns), name=name)


def write_detections(path: Path, detections: Detections) -> None:
    """Write a detection catalogue: tables of parents, peaks and spans.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    detections : `Detections`
        Catalogue. The bands of its peaks become columns
        ``merge_peak_<band>``, as in the stack.
    """
    peaks = detections.peaks
    owners = [parent.id for parent in detections for _ in parent.peaks]
    spans = np.concatenate(
        [np.zeros((0, 3), np.int32), *(parent.footprint.spans for parent in detections)], dtype=np.int32
    )
    span_owners = [parent.id for parent in detections for _ in parent.footprint.spans]
    bands = sorted({band for peak in peaks for band in peak.bands})
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            _table("PARENTS", {"id": np.array([parent.id for parent in detections], np.int64)}),
            _table(
                "PEAKS",
                {
                    "parent": np.array(owners, np.int64),
                    "id": np.array([peak.id for peak in peaks], np.int64),
                    "y": np.array([peak.y for peak in peaks], np.float64),
                    "x": np.array([peak.x for peak in peaks], np.float64),
                    "iteration": np.array([peak.iteration for peak in peaks], np.int32),
                    "score": np.array([peak.score for peak in peaks], np.float64),
                    "merge_peak_residual": np.array([peak.from_residual for peak in peaks], bool),
                }
                | {f"merge_peak_{band}": np.array([band in p.bands for p in peaks], bool) for band in bands},
            ),
            _table(
                "SPANS",
                {
                    "parent": np.array(span_owners, np.int64),
                    "y": spans[:, 0],
                    "x_first": spans[:, 1],
                    "x_after": spans[:, 2],
                },
            ),
        ]
    ).writeto(path, overwrite=True)


@_naming_the_file
def read_detections(path: Path) -> Detections:
    """Read what `write_detections` wrote; `FitsError` if it cannot."""
    with fits.open(path, memmap=False) as hdus:
        ids = _native(hdus["PARENTS"].data["id"], np.int64)
        rows = hdus["PEAKS"].data
        bands = [
            name.removeprefix("merge_peak_")
            for name in rows.names
            if name.startswith("merge_peak_") and name != "merge_peak_residual"
        ]
        peaks: dict[int, list[Peak]] = {int(parent): [] for parent in ids}
        for row in rows:
            seen = frozenset(band for band in bands if row[f"merge_peak_{band}"])
            peaks[int(row["parent"])].append(
                Peak(
                    int(row["id"]),
                    float(row["y"]),
                    float(row["x"]),
                    seen,
                    int(row["iteration"]),
                    None if np.isnan(row["score"]) else float(row["score"]),
                )
            )
        table = hdus["SPANS"].data
        owners = _native(table["parent"], np.int64)
        spans = np.stack([_native(table[name], np.int32) for name in ("y", "x_first", "x_after")], axis=1)
    return Detections(
        tuple(
            Parent(int(parent), Footprint(spans[owners == parent]), tuple(peaks[int(parent)]))
            for parent in ids
        )
    )


def write_model(path: Path, model: SceneModel) -> None:
    """Write deblended models: PSFs, tables of parents and sources, and the
    morphologies one after the other in a single column.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    model : `SceneModel`
        Models of a patch.
    """
    psf = fits.ImageHDU(model.psfs, name="PSF")
    psf.header["SIGMA"] = (float(model.sigma_pix), "[pix] sigma of the Gaussian model PSF")
    for index, band in enumerate(model.bands):
        psf.header[f"BAND{index}"] = band
    owners = [parent.parent_id for parent in model for _ in parent.sources]
    sources = model.sources
    shapes = np.array([source.morphology.shape for source in sources], np.int32).reshape(-1, 2)
    origins = np.array([source.origin for source in sources], np.int32).reshape(-1, 2)
    morphologies = [np.zeros(0, np.float32), *(source.morphology.ravel() for source in sources)]
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            psf,
            _table(
                "PARENTS",
                {
                    "id": np.array([parent.parent_id for parent in model], np.int64),
                    "chi2": np.array([parent.chi2 for parent in model], np.float64),
                    "n_pixels": np.array([parent.n_pixels for parent in model], np.int64),
                    "n_iterations": np.array([parent.n_iterations for parent in model], np.int32),
                    "converged": np.array([parent.converged for parent in model], bool),
                    "failure": np.array([parent.failure for parent in model] or [""], "U")[: len(model)],
                },
            ),
            _table(
                "SOURCES",
                {
                    "parent": np.array(owners, np.int64),
                    "peak": np.array([source.peak_id for source in sources], np.int64),
                    "spectrum": np.array([source.spectrum for source in sources], np.float32).reshape(
                        -1, len(model.bands)
                    ),
                    "y": origins[:, 0],
                    "x": origins[:, 1],
                    "height": shapes[:, 0],
                    "width": shapes[:, 1],
                },
            ),
            _table("MORPHOLOGIES", {"value": np.concatenate(morphologies)}),
        ]
    ).writeto(path, overwrite=True)


@_naming_the_file
def read_model(path: Path) -> SceneModel:
    """Read what `write_model` wrote; `FitsError` if it cannot."""
    with fits.open(path, memmap=False) as hdus:
        psfs = _native(hdus["PSF"].data, np.float32)
        header = hdus["PSF"].header
        values = _native(hdus["MORPHOLOGIES"].data["value"], np.float32)
        sources: dict[int, list[SourceModel]] = {int(i): [] for i in hdus["PARENTS"].data["id"]}
        start = 0
        for row in hdus["SOURCES"].data:
            shape = int(row["height"]), int(row["width"])
            stop = start + shape[0] * shape[1]
            sources[int(row["parent"])].append(
                SourceModel(
                    peak_id=int(row["peak"]),
                    spectrum=np.atleast_1d(_native(row["spectrum"], np.float32)),
                    morphology=values[start:stop].reshape(shape),
                    origin=(int(row["y"]), int(row["x"])),
                )
            )
            start = stop
        return SceneModel(
            bands=tuple(header[f"BAND{index}"] for index in range(len(psfs))),
            psfs=psfs,
            sigma_pix=float(header["SIGMA"]),
            parents=tuple(
                ParentModel(
                    parent_id=int(row["id"]),
                    sources=tuple(sources[int(row["id"])]),
                    chi2=float(row["chi2"]),
                    n_pixels=int(row["n_pixels"]),
                    n_iterations=int(row["n_iterations"]),
                    converged=bool(row["converged"]),
                    failure=str(row["failure"]),
                )
                for row in hdus["PARENTS"].data
            ),
        )
