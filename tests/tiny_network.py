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

"""A model package and a network for tests of what is around a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from lsst.meas.residualdetect.network.package import ModelPackage, write_package

DESCRIPTION: Mapping[str, Any] = {
    "name": "tiny",
    "bands": ["u", "g", "r", "i", "z", "y"],
    "pixel_scale_arcsec": 0.2,
    "features": {
        "softening": 3.0,
        "residual_scale": 1.5,
        "model_scale": 1.0,
        "peak_channel": True,
        "peak_sigma_pix": 1.0,
    },
    "tile_size": 48,
    "margin": 8,
    "stride": 8,
    "calibration": {"score": [0.0, 0.5, 1.0], "probability": [0.0, 0.2, 0.95]},
    "score_threshold": 0.7,
    "training": {"command": "residualdetect train"},
    "results": {},
}

# Farthest pixel that has a say in what `find_maxima` finds.
REACH_PIX = 7


def make_package(
    folder: Path, files: Mapping[str, bytes] = {"model.onnx": b"weights"}, **changes: Any
) -> ModelPackage:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return write_package(folder, {**DESCRIPTION, **changes}, files)


def find_maxima(channels):
    """Maxima of the smoothed sum of all residuals: a network that looks at
    its neighbourhood alone.
    """
    image = ndimage.gaussian_filter(channels[:6].sum(axis=0), 1.5, truncate=3, mode="constant")
    maxima = (image == ndimage.maximum_filter(image, 5, mode="constant")) & (image > 0.5)
    y, x = np.nonzero(maxima)
    boxes = np.stack([x - 4, y - 4, x + 5, y + 5], axis=1).astype(np.float32)
    scores = (1 - np.exp(-image[maxima])).astype(np.float32)
    disk = np.hypot(*np.mgrid[-3:4, -3:4]) < 3
    return boxes, scores, np.broadcast_to(disk.astype(np.float32), (len(boxes), 7, 7))
