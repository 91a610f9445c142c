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


"""Files that become patches of an embedded repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..io.fits_coadd import coadd_name, read_coadd
from ..io.scene_file import SceneFile, read_scene_file
from ..scene import Scene, SceneError
from .images.stack import stack_bands

__all__ = ["read_inputs"]


def _different_bands(paths: Sequence[Path]) -> Iterator[Scene]:
    seen = set()
    for path in paths:
        coadd = read_coadd(path)
        if coadd.bands[0] in seen:
            raise SceneError(f"{path}: band {coadd.bands[0]!r} of {coadd.name!r} was given before")
        seen.add(coadd.bands[0])
        yield coadd


def read_inputs(
    paths: Sequence[Path],
    *,
    pixel_scale_arcsec: float | None = None,
    band_map: Mapping[str, str] | None = None,
) -> Iterator[SceneFile]:
    """Read what a user wants to ingest, one scene after the other.

    Parameters
    ----------
    paths : `~collections.abc.Sequence` [`~pathlib.Path`]
        Scene files (``.npz``), each a scene; and FITS coadds of one band,
        those with the same ``OBJECT`` card making a scene.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel in place of what the files say.
    band_map : `~collections.abc.Mapping` [`str`, `str`], optional
        What names of bands in scene files mean; see `read_scene_file`.

    Yields
    ------
    scene : `SceneFile`
        In the order in which the files first name them.

    Raises
    ------
    SceneError, FitsError
        Raised with the file's name if one cannot be read, or two FITS files
        hold the same band.
    """
    scale = pixel_scale_arcsec
    scenes: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        if path.suffix == ".npz":
            scenes[str(path), str(len(scenes))] = [path]
        elif path.suffix in (".fits", ".fit", ".fz", ".gz"):
            scenes.setdefault(("", coadd_name(path)), []).append(path)
        else:
            raise SceneError(f"{path}: expected a scene file (.npz) or a FITS coadd (.fits)")
    for (scene_file, _), parts in scenes.items():
        if scene_file:
            yield read_scene_file(parts[0], pixel_scale_arcsec=scale, band_map=band_map)
        else:
            scene = stack_bands(_different_bands(parts), len(parts))
            yield SceneFile(scene if scale is None else replace(scene, pixel_scale_arcsec=scale))
