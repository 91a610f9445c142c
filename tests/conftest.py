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

import numpy as np
import pytest

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.scene_model import gaussian_psf

PSF_SIGMAS_PIX = (1.9, 1.7, 1.5)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))


def make_scene(
    sources: list[tuple[float, float, float]],
    *,
    shape: tuple[int, int] = (60, 64),
    noise: float = 1.0,
    rng: np.random.Generator | None = None,
    origin: tuple[int, int] = (0, 0),
    name: str = "made",
) -> Scene:
    """Point sources (y, x, flux) of flat spectrum in gri, with Gaussian PSFs.

    Without a generator there is no noise in the pixels, only in the variance.
    """
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = np.zeros((3, *shape))
    for sy, sx, flux in sources:
        for band, sigma in enumerate(PSF_SIGMAS_PIX):
            r2 = (y + origin[0] - sy) ** 2 + (x + origin[1] - sx) ** 2
            images[band] += flux * np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2)
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
