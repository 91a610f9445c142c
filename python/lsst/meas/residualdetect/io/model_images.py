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


"""Model and residual as FITS images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from ..scene import Array, Scene
from .survey.sky_wcs import wcs_of_file
from .whole_file import whole_file

__all__ = ["write_model_images"]


def write_model_images(
    folder: Path, scene: Scene, model: Array, *, units: tuple[str, ...] = (), **cards: Any
) -> list[Path]:
    """Write the model of each band and what it leaves.

    Parameters
    ----------
    folder : `~pathlib.Path`
        Where to write ``model_<band>.fits`` and ``residual_<band>.fits``.
    scene : `Scene`
        The pixels. Their WCS is written if ``sky_position`` has a ``header``.
    model : `numpy.ndarray`, (band, y, x), float32
        All sources, convolved to each band's PSF.
    units : `tuple` [`str`, ...], optional
        Unit of the pixels in each band; empty where it is unknown.
    **cards
        More cards.

    Returns
    -------
    paths : `list` [`~pathlib.Path`]
        What was written. Pixels without data are NaN in the residual.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = wcs_of_file(scene)
    header.update(cards)
    paths = []
    for index, band in enumerate(scene.bands):
        residual = scene.images[index] - model[index]
        residual[~np.isfinite(scene.variance[index])] = np.nan
        header["BAND"] = band
        if any(units):
            header["BUNIT"] = units[index]
        for name, pixels in (("model", model[index]), ("residual", residual)):
            path = folder / f"{name}_{band}.fits"
            with whole_file(path) as temporary:
                fits.PrimaryHDU(pixels, header).writeto(temporary)
            paths.append(path)
    return paths
