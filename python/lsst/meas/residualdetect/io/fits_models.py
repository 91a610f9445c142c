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

"""Deblended models as a FITS file."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from astropy.io import fits

from ..scene_model import ParentModel, SceneModel, SourceModel
from .fits_common import naming_the_file, native, table

__all__ = ["read_model", "write_model"]


def write_model(path: Path, model: SceneModel) -> None:
    """Write deblended models: PSFs, tables of parents, sources and unmodelled
    peaks, and the
    morphologies one after the other in a single column.

    Parameters
    ----------
    path : `~pathlib.Path`
        File to write; replaced if it exists.
    model : `SceneModel`
        Models of a patch.
    """
    psf = fits.ImageHDU(model.psfs, name="PSF")
    for index, band in enumerate(model.bands):
        psf.header[f"BAND{index}"] = band
    owners = [parent.parent_id for parent in model for _ in parent.sources]
    unmodelled = [(parent.parent_id, *item) for parent in model for item in parent.unmodelled.items()]
    # Where the PSF is the coadds', if it changes; else not a number.
    places = np.array([parent.place or (np.nan, np.nan) for parent in model]).reshape(-1, 2)
    sources = model.sources
    shapes = np.array([source.morphology.shape for source in sources], np.int32).reshape(-1, 2)
    origins = np.array([source.origin for source in sources], np.int32).reshape(-1, 2)
    morphologies = [np.zeros(0, np.float32), *(source.morphology.ravel() for source in sources)]
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            psf,
            fits.ImageHDU(model.model_psf, name="MODEL_PSF"),
            table(
                "PARENTS",
                {
                    "id": np.array([parent.parent_id for parent in model], np.int64),
                    "chi2": np.array([parent.chi2 for parent in model], np.float64),
                    "n_pixels": np.array([parent.n_pixels for parent in model], np.int64),
                    "n_iterations": np.array([parent.n_iterations for parent in model], np.int32),
                    "converged": np.array([parent.converged for parent in model], bool),
                    "psf_y": places[:, 0],
                    "psf_x": places[:, 1],
                    "failure": np.array([parent.failure for parent in model] or [""], "U")[: len(model)],
                },
            ),
            table(
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
            table(
                "UNMODELLED",
                {
                    "parent": np.array([parent for parent, _, _ in unmodelled], np.int64),
                    "peak": np.array([peak for _, peak, _ in unmodelled], np.int64),
                    "reason": np.array([why for _, _, why in unmodelled] or [""], "U")[: len(unmodelled)],
                },
            ),
            table("MORPHOLOGIES", {"value": np.concatenate(morphologies)}),
        ]
    ).writeto(path, overwrite=True)


@naming_the_file
def read_model(path: Path) -> SceneModel:
    """Read what `write_model` wrote; `FitsError` if it cannot."""
    with fits.open(path, memmap=False) as hdus:
        psfs = native(hdus["PSF"].data, np.float32)
        header = hdus["PSF"].header
        values = native(hdus["MORPHOLOGIES"].data["value"], np.float32)
        sources: dict[int, list[SourceModel]] = {int(i): [] for i in hdus["PARENTS"].data["id"]}
        unmodelled: dict[int, dict[int, str]] = defaultdict(dict)
        # Files of before there was one lack the table.
        for row in hdus["UNMODELLED"].data if "UNMODELLED" in hdus else ():
            unmodelled[int(row["parent"])][int(row["peak"])] = str(row["reason"])
        start = 0
        for row in hdus["SOURCES"].data:
            shape = int(row["height"]), int(row["width"])
            stop = start + shape[0] * shape[1]
            sources[int(row["parent"])].append(
                SourceModel(
                    peak_id=int(row["peak"]),
                    spectrum=np.atleast_1d(native(row["spectrum"], np.float32)),
                    morphology=values[start:stop].reshape(shape),
                    origin=(int(row["y"]), int(row["x"])),
                )
            )
            start = stop
        parents = hdus["PARENTS"].data
        places: list[tuple[float, float] | None] = [None] * len(parents)
        if "psf_y" in parents.names:
            rows = zip(parents["psf_y"].tolist(), parents["psf_x"].tolist(), strict=True)
            places = [None if np.isnan(y) else (y, x) for y, x in rows]
        return SceneModel(
            bands=tuple(header[f"BAND{index}"] for index in range(len(psfs))),
            psfs=psfs,
            model_psf=native(hdus["MODEL_PSF"].data, np.float32),
            parents=tuple(
                ParentModel(
                    parent_id=int(row["id"]),
                    sources=tuple(sources[int(row["id"])]),
                    chi2=float(row["chi2"]),
                    n_pixels=int(row["n_pixels"]),
                    n_iterations=int(row["n_iterations"]),
                    converged=bool(row["converged"]),
                    failure=str(row["failure"]),
                    unmodelled=unmodelled.get(int(row["id"]), {}),
                    place=place,
                )
                for row, place in zip(parents, places, strict=True)
            ),
        )
