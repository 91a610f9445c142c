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

from __future__ import annotations

import os

# Before torch is imported: the tests run side by side, and threads of several
# processes on the same cores wait for each other more than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.cli.main import main
from lsst.meas.residualdetect.io.scene_file import SceneFile
from lsst.meas.residualdetect.psf_images import gaussian_psf

# How long an example takes depends on who else is at work on the machine.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Files of which no test runs without what the marker stands for.
MARKED = {
    "test_afw": "stack",
    "test_scarlet_lite": "stack",
    "test_stack": "stack",
    "test_training_network": "train",
    "test_training_start": "train",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, marker in MARKED.items():
            if item.path.name.startswith(name):
                item.add_marker(marker)


def invoke(*arguments: object) -> Result:
    """What a command of ``residualdetect`` says and how it ends."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


PSF_SIGMAS_PIX = (1.9, 1.7, 1.5)


def make_scene(
    sources: list[tuple[float, float, float | tuple[float, float, float]]],
    *,
    shape: tuple[int, int] = (60, 64),
    noise: float = 1.0,
    rng: np.random.Generator | None = None,
    origin: tuple[int, int] = (0, 0),
    name: str = "made",
) -> Scene:
    """Point sources (y, x, flux in all or each of gri), with Gaussian PSFs.

    Without a generator there is no noise in the pixels, only in the variance.
    """
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = np.zeros((3, *shape))
    for sy, sx, flux in sources:
        for band, sigma in enumerate(PSF_SIGMAS_PIX):
            r2 = (y + origin[0] - sy) ** 2 + (x + origin[1] - sx) ** 2
            images[band] += (
                np.broadcast_to(flux, 3)[band] * np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2)
            )
    if rng is not None:
        images += noise * rng.standard_normal(images.shape)
    return Scene(
        images=images,
        variance=np.full(images.shape, noise**2),
        psfs=np.stack([gaussian_psf(sigma, (21, 21)) for sigma in PSF_SIGMAS_PIX]),
        bands=("g", "r", "i"),
        name=name,
        origin=origin,
    )


# A blend that ordinary detection takes for one source, and two sources alone.
HIDDEN = (30.0, 34.0)
BLEND_SOURCES = [
    (30.0, 30.0, (30.0, 100.0, 360.0)),
    (*HIDDEN, (200.0, 130.0, 30.0)),
    (12.0, 50.0, (100.0, 200.0, 300.0)),
    (50.0, 10.0, (100.0, 100.0, 100.0)),
]


def make_blend(seed: int, *, name: str = "blend", with_truth: bool = True) -> SceneFile:
    """A scene with an unrecognised blend, with its truth."""
    truth = np.zeros(
        len(BLEND_SOURCES), [("id", "i8"), ("y", "f8"), ("x", "f8")] + [(f"flux_{b}", "f8") for b in "gri"]
    )
    for row, (y, x, fluxes) in enumerate(BLEND_SOURCES):
        truth[row] = (row + 1, y, x, *fluxes)
    scene = make_scene(BLEND_SOURCES, rng=np.random.default_rng(seed), name=name)
    return SceneFile(scene, truth=truth if with_truth else None)
