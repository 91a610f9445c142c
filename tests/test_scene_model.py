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

from conftest import PSF_SIGMAS_PIX, make_scene
from lsst.meas.residualdetect import ParentModel, SceneError, SceneModel, SourceModel
from lsst.meas.residualdetect.psf_images import difference_kernels, gaussian_psf


def _point(peak_id, y, x, flux, size=21, sigma=0.8):
    return SourceModel(
        peak_id=peak_id,
        spectrum=np.full(3, flux, np.float32),
        morphology=gaussian_psf(sigma, (size, size)).astype(np.float32),
        origin=(y - size // 2, x - size // 2),
    )


def _model(scene, *sources):
    return SceneModel(
        scene.bands,
        scene.psfs,
        gaussian_psf(0.8, (17, 17)).astype(np.float32),
        (ParentModel(1, tuple(sources)),),
    )


def test_a_point_source_is_rendered_as_the_psf():
    scene = make_scene([(30, 33, 1000)])
    image = _model(scene, _point(1, 30, 33, 1000)).image(scene)
    np.testing.assert_allclose(image, scene.images, atol=1e-3 * scene.images.max())


@pytest.mark.parametrize("place", [(0, 0), (-4, 30), (59, 63), (30, 70)])
def test_light_from_the_edge_and_beyond_is_not_lost_or_moved(place):
    scene = make_scene([(*place, 1000)])
    image = _model(scene, _point(1, *place, 1000)).image(scene)
    np.testing.assert_allclose(image, scene.images, atol=1e-3 * 1000 / (2 * np.pi * 1.5**2))


def test_positions_are_patch_coordinates():
    here = make_scene([(30, 33, 1000)])
    there = make_scene([(1030, 533, 1000)], origin=(1000, 500))
    np.testing.assert_allclose(
        _model(there, _point(1, 1030, 533, 1000)).image(there),
        _model(here, _point(1, 30, 33, 1000)).image(here),
        atol=1e-4,
    )


def test_rendering_is_linear_and_conserves_flux():
    scene = make_scene([])
    one, two = _point(1, 25, 25, 300), _point(2, 31, 36, 700)
    together = _model(scene, one, two).image(scene)
    np.testing.assert_allclose(
        together, _model(scene, one).image(scene) + _model(scene, two).image(scene), atol=1e-4
    )
    assert together.sum(axis=(1, 2)) == pytest.approx([1000] * 3, rel=1e-3)
    assert two.flux == pytest.approx([700] * 3, rel=1e-5)


def test_difference_kernel_of_gaussians_is_a_gaussian():
    psfs = np.stack([gaussian_psf(sigma, (25, 25)) for sigma in PSF_SIGMAS_PIX])
    for kernel, sigma in zip(
        difference_kernels(psfs, gaussian_psf(0.8, (17, 17))), PSF_SIGMAS_PIX, strict=True
    ):
        expected = gaussian_psf(np.sqrt(sigma**2 - 0.8**2), (25, 25))
        # Sampled Gaussians convolve to a sampled Gaussian up to aliasing.
        np.testing.assert_allclose(kernel, expected, atol=2e-3 * expected.max())


def test_select_bands_takes_the_spectra_along():
    scene = make_scene([(30, 33, 1000)])
    source = _point(1, 30, 33, 1000)
    source.spectrum[:] = [1, 2, 3]
    chosen = _model(scene, source).select_bands(["i", "g"])
    assert chosen.sources[0].spectrum.tolist() == [3, 1]
    with pytest.raises(SceneError, match="not \\['y'\\]"):
        chosen.select_bands(["y"])
