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

"""The scene file: pixels, and what is known of them, in one ``.npz``."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import recfunctions

from ..psf_field import PsfSamples
from ..scene import MASK_PLANES, Array, Scene, SceneError
from .band_names import canonical_band
from .remarks import reason_of
from .whole_file import whole_file

__all__ = ["SceneFile", "missing_truth_fields", "read_scene_file", "write_scene_file"]

_log = logging.getLogger(__name__)

_REQUIRED = ("images", "variance", "psfs", "bands")


@dataclass(frozen=True, eq=False)
class SceneFile:
    """What a scene file holds.

    Parameters
    ----------
    scene : `Scene`
        Pixels, PSFs and bands.
    peaks : `numpy.ndarray`, (n, 2), float64, optional
        Positions (y, x) that the deblender is to be told of.
    footprints : `numpy.ndarray`, (y, x), int32, optional
        Labels of the parents' footprints, 0 = none.
    model : `numpy.ndarray`, (band, y, x), float32, optional
        Deblended sources convolved to each band's PSF and summed.
    truth : `numpy.ndarray`, structured, optional
        True sources: at least ``id``, ``y``, ``x`` and ``flux_<band>``.
    """

    scene: Scene
    peaks: npt.NDArray[np.float64] | None = None
    footprints: npt.NDArray[np.int32] | None = None
    model: Array | None = None
    truth: npt.NDArray[Any] | None = None


def _check_shape(what: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise SceneError(f"{what} has shape {array.shape}; expected {shape}")


def _labels(given: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    with np.errstate(invalid="ignore"):
        labels = given.astype(np.int32)
    if not (labels == given).all():
        wrong = given[labels != given][0]
        raise SceneError(f"footprints has the label {wrong}; expected integers of 32 bits")
    return labels


def missing_truth_fields(table: npt.NDArray[Any], bands: tuple[str, ...]) -> list[str]:
    """What a truth table of these bands must have and this one lacks."""
    needed = ["id", "y", "x", *(f"flux_{band}" for band in bands)]
    return [name for name in needed if name not in (table.dtype.names or ())]


def _truth(table: npt.NDArray[Any], bands: tuple[str, ...]) -> npt.NDArray[Any]:
    missing = missing_truth_fields(table, bands)
    if missing:
        raise SceneError(f"truth lacks the fields {missing}; it has {list(table.dtype.names or ())}")
    return table


def _psf_fields(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[PsfSamples, ...]:
    if "psf_places" not in arrays:
        return ()
    samples = arrays.get("psf_samples", np.zeros(0))
    n_places, n_bands = len(arrays["psf_places"]), len(np.atleast_1d(arrays["bands"]))
    if samples.ndim != 4 or samples.shape[:2] != (n_places, n_bands):
        raise SceneError(
            f"psf_samples has shape {samples.shape}; expected (place, band, h, w) with {n_places} places "
            f"and {n_bands} bands"
        )
    return tuple(PsfSamples(arrays["psf_places"], samples[:, band]) for band in range(n_bands))


def _bands(
    given: npt.NDArray[Any], band_map: Mapping[str, str] | None, name: str
) -> tuple[list[str], tuple[str, ...]]:
    """Names of the bands as the file has them, and those that this package
    has for them.
    """
    names = [band.decode() if isinstance(band, bytes) else str(band) for band in np.atleast_1d(given)]
    bands = tuple(canonical_band(band, band_map) or band for band in names)
    if band_map is None and len(set(bands)) < len(bands):
        bands = tuple(names)  # such as i and i2, which only the user can choose from
    taken = [f"{band!r} for {own!r}" for band, own in zip(names, bands, strict=True) if band != own]
    if taken:
        _log.warning("%s: takes band %s", name, ", ".join(taken))
    return names, bands


def _renamed(truth: npt.NDArray[Any], names: Sequence[str], bands: Sequence[str]) -> npt.NDArray[Any]:
    """A truth table with fluxes of these bands."""
    fields = {f"flux_{name}": f"flux_{band}" for name, band in zip(names, bands, strict=True)}
    return recfunctions.rename_fields(truth, fields)


def _parse(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, band_map: Mapping[str, str] | None
) -> SceneFile:
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise SceneError(f"lacks {missing}; a scene file has {list(_REQUIRED)}, this one {sorted(arrays)}")
    planes = dict(MASK_PLANES)
    if "mask_planes" in arrays:
        planes = {str(plane): bit for bit, plane in enumerate(arrays["mask_planes"]) if str(plane)}
    names, bands = _bands(arrays["bands"], band_map, name)
    scene = Scene(
        images=arrays["images"],
        variance=arrays["variance"],
        psfs=arrays["psfs"],
        bands=bands,
        mask=arrays.get("mask"),  # type: ignore[arg-type]  # None is the default
        name=name,
        origin=tuple(int(value) for value in arrays.get("origin", (0, 0))),  # type: ignore[arg-type]
        pixel_scale_arcsec=float(arrays.get("pixel_scale_arcsec", 0.2)),
        mask_planes=planes,
        psf_fields=_psf_fields(arrays),
    )
    peaks = footprints = model = None
    if "peaks" in arrays:
        peaks = np.asarray(arrays["peaks"], np.float64)
        peaks = peaks if peaks.size else peaks.reshape(0, 2)
        if peaks.ndim != 2 or peaks.shape[1] != 2:
            raise SceneError(f"peaks has shape {peaks.shape}; expected (n, 2) of y, x")
    if "footprints" in arrays:
        footprints = _labels(np.asarray(arrays["footprints"]))
        _check_shape("footprints", footprints, scene.shape)
    if "model" in arrays:
        model = np.asarray(arrays["model"], np.float32)
        _check_shape("model", model, scene.images.shape)
        if not np.isfinite(model).all():
            raise SceneError("model has pixels that are not finite")
    truth = _truth(_renamed(arrays["truth"], names, bands), bands) if "truth" in arrays else None
    return SceneFile(scene, peaks, footprints, model, truth)


def read_scene_file(
    path: str | os.PathLike[str],
    *,
    pixel_scale_arcsec: float | None = None,
    band_map: Mapping[str, str] | None = None,
) -> SceneFile:
    """Read and check a scene file.

    Parameters
    ----------
    path : path-like
        ``.npz`` with ``images``, ``variance`` (band, y, x), ``psfs``
        (band, h, w), ``bands`` (n,) and optionally ``mask`` (band, y, x),
        ``mask_planes`` (names in the order of their bits; lsst.afw's if
        absent), ``origin`` (y, x), ``pixel_scale_arcsec``, ``peaks`` (n, 2),
        ``footprints`` (y, x), ``model`` (band, y, x), ``truth`` (structured),
        and for a PSF that changes ``psf_places`` (n, 2) and ``psf_samples``
        (n, band, h, w).
        Pickled content is refused.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel, in place of what the file says; a file that does not
        say has LSST's 0.2.
    band_map : `~collections.abc.Mapping` [`str`, `str`], optional
        As for `~lsst.meas.residualdetect.io.band_names.canonical_band`: names
        that it or this maps are replaced, with a warning; others stay.

    Returns
    -------
    scene_file : `SceneFile`
        Its content; the scene is named after the file.

    Raises
    ------
    SceneError
        Raised with the file's name if it cannot be read, lacks an array or
        holds arrays that do not fit together.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise FileNotFoundError(path)
        if not zipfile.is_zipfile(path):
            raise SceneError("is no .npz archive, or a truncated one")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        if pixel_scale_arcsec is not None:
            arrays["pixel_scale_arcsec"] = np.array(pixel_scale_arcsec)
        return _parse(arrays, path.stem, band_map)
    except FileNotFoundError as error:
        raise SceneError(f"{path}: no such file") from error
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, KeyError) as error:
        raise SceneError(f"{path}: {reason_of(error)}") from error


def write_scene_file(path: str | os.PathLike[str], content: SceneFile) -> None:
    """Write a scene file; either all of it appears under ``path`` or nothing.

    Parameters
    ----------
    path : path-like
        File to write, replaced if it exists; its folder must exist.
    content : `SceneFile`
        What to write.
    """
    path = Path(path)
    scene = content.scene
    planes = [""] * (max(scene.mask_planes.values()) + 1)
    for plane, bit in scene.mask_planes.items():
        planes[bit] = plane
    arrays: dict[str, npt.NDArray[Any]] = {
        "images": scene.images,
        "variance": scene.variance,
        "psfs": scene.psfs,
        "bands": np.array(scene.bands),
        "mask": scene.mask,
        "mask_planes": np.array(planes),
        "origin": np.array(scene.origin),
        "pixel_scale_arcsec": np.array(scene.pixel_scale_arcsec),
    }
    sampled = next((PsfSamples.of(f, scene.shape, scene.origin) for f in scene.psf_fields if f), None)
    if sampled is not None:
        arrays["psf_places"] = sampled.places
        arrays["psf_samples"] = np.stack([scene.at(y, x).psfs for y, x in sampled.places.tolist()])
    for key in ("peaks", "footprints", "model", "truth"):
        value = getattr(content, key)
        if value is not None:
            arrays[key] = value
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
