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


"""Sub-pixel places of deblended sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.deblend.centroids import centroids
from lsst.meas.residualdetect.detection import detections_at


@pytest.mark.parametrize("origin", [(0, 0), (1000, 500)])
def test_point_sources_are_found_to_a_hundredth_of_a_pixel(origin):
    truth = np.array([[20.3, 15.1], [25.7, 19.4], [44.6, 40.45], [3.2, 60.8]]) + origin
    scene = make_scene([(*place, 5000.0) for place in truth], rng=np.random.default_rng(4), origin=origin)
    given = np.rint(truth) + np.array([[0, 1], [0, 0], [-1, 0], [0, 0]])
    model = deblend(scene, detections_at(scene, given).parents)
    found = centroids(scene, model, [1, 2, 3, 4], given)
    assert np.abs(given - truth).max() > 0.5
    np.testing.assert_allclose(found, truth, atol=0.05)
    assert np.hypot(*(found - truth).T).mean() < 0.02


def test_what_has_no_model_stays_where_it_was():
    scene = make_scene([(30.2, 30.2, 5000.0)])
    model = deblend(scene, detections_at(scene, np.array([[30.0, 30.0]])).parents)
    given = np.array([[11.5, 12.5]])
    np.testing.assert_array_equal(centroids(scene, model, [7], given), given)
    assert centroids(scene, model, [], np.zeros((0, 2))).shape == (0, 2)


def test_masked_pixels_do_not_pull():
    bad = np.zeros((3, 60, 64), bool)
    bad[:, :, 31:] = True
    scene = make_scene([(30.3, 30.1, 5000.0)]).with_bad(bad)
    model = deblend(scene, detections_at(scene, np.array([[30.0, 30.0]])).parents)
    np.testing.assert_allclose(
        centroids(scene, model, [1], np.array([[30.0, 30.0]])), [[30.3, 30.1]], atol=0.2
    )


def test_the_unit_of_flux_does_not_matter():
    # Bright in the last band alone, where it lies elsewhere: that band is to count.
    scene = make_scene([(30.3, 30.1, (0.0, 0.0, 5000.0)), (31.4, 30.1, (300.0, 300.0, 0.0))])
    model = deblend(scene, detections_at(scene, np.array([[30.0, 30.0]])).parents)
    given, unit = np.array([[30.0, 30.0]]), 2.0**-30
    images, variance = scene.images * np.float32(unit), scene.variance * np.float32(unit) ** 2
    spectra = tuple(
        replace(
            parent,
            sources=tuple(replace(s, spectrum=s.spectrum * np.float32(unit)) for s in parent.sources),
        )
        for parent in model
    )
    there = centroids(
        replace(scene, images=images, variance=variance), replace(model, parents=spectra), [1], given
    )
    np.testing.assert_allclose(there, centroids(scene, model, [1], given), atol=1e-4)
