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

"""Galaxies with arms, bars, rings, knots and dust."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lsst.meas.residualdetect.simulation import SimulationOptions
from lsst.meas.residualdetect.simulation.conditions import draw_conditions
from lsst.meas.residualdetect.simulation.rendering import render_sources
from lsst.meas.residualdetect.simulation.simulation_options import BANDS
from lsst.meas.residualdetect.simulation.sources import Component, Sources
from lsst.meas.residualdetect.simulation.structure import SIDE, draw_disk
from lsst.meas.residualdetect.simulation.structured import library_number


def galaxies(n: int, q: float = 0.6, bulge: float = 0.2) -> Sources:
    rng = np.random.default_rng(3)
    flux = np.outer(np.full(n, 2e5), [0.3, 0.5, 0.8, 1.0, 1.2, 1.3])
    angle = rng.uniform(0, np.pi, n)
    return Sources(
        Component((1 - bulge) * flux, np.full(n, 0.6), np.full(n, q), angle),
        Component(bulge * flux, np.full(n, 0.05), np.full(n, q), angle),
        np.zeros((n, 6)),
        np.zeros(n),
        np.zeros(n, bool),
    )


OPTIONS = SimulationOptions(shape=(200, 200), structured_fraction=1.0)


@pytest.fixture(scope="module")
def stamps():
    conditions = draw_conditions(OPTIONS, np.random.default_rng(1))
    return render_sources(galaxies(12), np.full((12, 2), 100.3), conditions, OPTIONS)


def test_the_flux_in_each_band_is_the_catalogues(stamps):
    expected = galaxies(12).flux_njy
    for stamp, flux in zip(stamps, expected, strict=True):
        np.testing.assert_allclose(stamp.pixels.sum(axis=(1, 2)), flux, rtol=0.02)


def test_the_truth_is_the_centre_of_the_light(stamps):
    i = BANDS.index("i")
    for stamp in stamps:
        light = stamp.pixels[i].astype(float)
        y, x = np.mgrid[stamp.rows, stamp.columns]
        centre = [(light * y).sum() / light.sum(), (light * x).sum() / light.sum()]
        np.testing.assert_allclose(centre, 100.3, atol=0.15)


def test_arms_are_bluer_than_the_rest(stamps):
    # The colour of a smooth disk without a bulge is the same everywhere.
    conditions = [
        replace(c, psf=draw_conditions(OPTIONS, np.random.default_rng(1))[3].psf)
        for c in draw_conditions(OPTIONS, np.random.default_rng(1))
    ]
    scatter = {}
    for fraction in (0.0, 1.0):
        drawn = render_sources(
            galaxies(6, bulge=0.0),
            np.full((6, 2), 100.0),
            conditions,
            replace(OPTIONS, structured_fraction=fraction),
        )
        ratios = []
        for stamp in drawn:
            g, z = stamp.pixels[1], stamp.pixels[4]
            bright = z > 0.2 * z.max()
            ratios.append(np.std(np.log(g[bright] / z[bright])))
        scatter[fraction] = np.median(ratios)
    assert scatter[0.0] < 1e-3 < 0.03 < scatter[1.0]


def test_disks_are_light_that_ends_within_the_image():
    for seed in range(20):
        disk = draw_disk(np.random.default_rng(seed))
        for light in (disk.old, disk.young):
            assert light.shape == (SIDE, SIDE) and light.min() >= 0
            assert light.sum() == pytest.approx(1, abs=1e-4)
            edge = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
            assert edge.max() < 0.01 * light.max()
        assert 0 < disk.young_share < 1


def test_the_share_of_structured_galaxies_is_the_one_asked_for():
    angles = np.random.default_rng(1).uniform(0, np.pi, 4000)
    chosen = [library_number(float(angle), 0.3) for angle in angles]
    assert np.mean([number is not None for number in chosen]) == pytest.approx(0.3, abs=0.03)
    assert len({number for number in chosen if number is not None}) > 100
    assert all(library_number(float(angle), 0.0) is None for angle in angles)
