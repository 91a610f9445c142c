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


"""Errors of deblended fluxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.deblend.flux_errors import flux_errors
from lsst.meas.residualdetect.detection import detections_at
from lsst.meas.residualdetect.noise import point_source_flux
from lsst.meas.residualdetect.psf_images import gaussian_psf
from lsst.meas.residualdetect.scene_model import ParentModel, SceneModel, SourceModel


def point_sources(scene, places):
    """A model whose sources are as wide as the model PSF."""
    model_psf = gaussian_psf(0.8, (15, 15))
    sources = tuple(
        SourceModel(number, np.ones(3, np.float32), model_psf.astype(np.float32), (y - 7, x - 7))
        for number, (y, x) in enumerate(places, start=1)
    )
    return SceneModel(scene.bands, scene.psfs, model_psf, (ParentModel(1, sources),))


def test_an_isolated_point_source_has_the_error_of_its_psf_flux():
    scene = make_scene([], noise=3.0, origin=(100, 200))
    errors = flux_errors(scene, point_sources(scene, [(130, 230)]), [1])
    _, expected = point_source_flux(scene.images, scene, np.array([130.0]), np.array([230.0]))
    np.testing.assert_allclose(errors, expected, rtol=0.01)


def test_neighbours_raise_errors_as_their_overlap_says():
    scene = make_scene([])
    alone = flux_errors(scene, point_sources(scene, [(30, 30)]), [1])
    for distance in (2, 4, 20):
        both = flux_errors(scene, point_sources(scene, [(30, 30), (30, 30 + distance)]), [1, 2])
        # Two Gaussians' profiles overlap by exp(-d^2 / 4 sigma^2).
        overlap = np.exp(-(distance**2) / 4 / np.array([1.9, 1.7, 1.5]) ** 2)
        np.testing.assert_allclose(both[0] / alone[0], 1 / np.sqrt(1 - overlap**2), rtol=0.03)
        np.testing.assert_allclose(both[0], both[1], rtol=1e-3)
    same = flux_errors(scene, point_sources(scene, [(30, 30), (30, 30)]), [1, 2])
    assert np.isfinite(same).all() and (same > 1e3 * alone).all()


def test_no_model_and_no_pixels_have_no_error():
    scene = make_scene([])
    bad = np.zeros(scene.images.shape, bool)
    bad[1] = True
    scene = scene.with_bad(bad)
    errors = flux_errors(scene, point_sources(scene, [(30, 30)]), [1, 5])
    assert np.isfinite(errors).tolist() == [[True, False, True], [False] * 3]


@pytest.mark.parametrize("distance", [30.0, 5.0])
def test_deblended_fluxes_scatter_by_their_errors(distance):
    places = np.array([[30.0, 15.0], [30.0, 15.0 + distance]])
    fluxes, errors = [], []
    rng = np.random.default_rng(1)
    for _ in range(40):
        scene = make_scene([(*place, 400.0) for place in places], rng=rng)
        model = deblend(scene, detections_at(scene, places).parents)
        fluxes.append(model.peak_fluxes([1, 2]))
        errors.append(flux_errors(scene, model, [1, 2]))
    scatter = 1.4826 * np.median(np.abs(fluxes - np.median(fluxes, axis=0)), axis=0)
    ratio = scatter.mean() / np.median(errors)
    # Shapes that are fitted too add to it.
    assert 0.7 < ratio < 2.0


def test_the_scale_of_a_morphology_does_not_matter():
    scene = make_scene([])
    model = point_sources(scene, [(30, 30), (30, 33)])
    (parent,) = model.parents
    taller = tuple(
        replace(source, morphology=7 * source.morphology, spectrum=source.spectrum / 7)
        for source in parent.sources
    )
    scaled = replace(model, parents=(replace(parent, sources=taller),))
    np.testing.assert_allclose(
        flux_errors(scene, scaled, [1, 2]), flux_errors(scene, model, [1, 2]), rtol=1e-4
    )
