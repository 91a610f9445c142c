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

"""PSFs that change across the patch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from lsst.meas.residualdetect import Scene, SceneError
from lsst.meas.residualdetect.butler.images.stack import stack_bands
from lsst.meas.residualdetect.deblend import DeblendOptions, deblend
from lsst.meas.residualdetect.deblend.centroids import centroids
from lsst.meas.residualdetect.deblend.flux_errors import flux_errors
from lsst.meas.residualdetect.detection import detections_at
from lsst.meas.residualdetect.io.fits_coadd import read_coadd, write_coadd
from lsst.meas.residualdetect.io.fits_models import read_model, write_model
from lsst.meas.residualdetect.io.scene_file import SceneFile, read_scene_file, write_scene_file
from lsst.meas.residualdetect.noise import point_source_flux
from lsst.meas.residualdetect.psf_field import ChangedPsf, PsfSamples
from lsst.meas.residualdetect.psf_images import gaussian_psf, to_centered_shape
from lsst.meas.residualdetect.truth.worse import make_worse

SHAPE = (384, 416)
SPACING = 32
BANDS = ("g", "r", "i")
NARROWEST = (1.7, 1.6, 1.5)


def sigma_at(x: float, band: int) -> float:
    """20 % wider on the right than on the left."""
    return NARROWEST[band] * (1 + 0.2 * x / (SHAPE[1] - 1))


class Growing:
    """A Gaussian PSF that is wider the farther it is to the right."""

    def __init__(self, band: int) -> None:
        self.band = band

    def at(self, y, x):
        return gaussian_psf(sigma_at(x, self.band), (25, 25))


def make_varying(flux=1500.0, seed=3):
    """Stars on a grid, seen with the PSF of their place, in unit
    noise; and the scene's positions.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(SPACING / 2, SHAPE[0], SPACING)
    columns = np.arange(SPACING / 2, SHAPE[1], SPACING)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    places = places + rng.uniform(-1, 1, places.shape)
    images = rng.standard_normal((3, *SHAPE))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for py, px in places:
        box = (slice(max(int(py) - 16, 0), int(py) + 17), slice(max(int(px) - 16, 0), int(px) + 17))
        r2 = (y[box] - py) ** 2 + (x[box] - px) ** 2
        for band in range(3):
            s2 = sigma_at(px, band) ** 2
            images[band][box] += flux * np.exp(-0.5 * r2 / s2) / (2 * np.pi * s2)
    fields = tuple(Growing(band) for band in range(3))
    middle = ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)
    scene = Scene(
        images=images,
        variance=np.ones_like(images),
        psfs=np.stack([field.at(*middle) for field in fields]),
        bands=BANDS,
        psf_fields=fields,
    )
    return scene, places


SCENE, PLACES = make_varying()
ONE_PSF = replace(SCENE, psf_fields=())
DETECTIONS = detections_at(SCENE, PLACES)
PEAK_IDS = [peak.id for peak in DETECTIONS.peaks]
PLACES = np.array([(peak.y, peak.x) for peak in DETECTIONS.peaks])
MODEL = deblend(SCENE, DETECTIONS)


def chi2_by_column(scene, model):
    """Chi-square a pixel within five pixels of the sources, in five strips
    from left to right.
    """
    chi2 = np.square(scene.images - model.image(scene)).mean(axis=0)
    near = np.ones(SHAPE, bool)
    near[tuple(np.rint(PLACES).astype(int).T)] = False
    near = ndimage.distance_transform_edt(near) < 5
    strips = np.array_split(np.arange(SHAPE[1]), 5)
    return np.array([chi2[:, strip][near[:, strip]].mean() for strip in strips])


def test_residuals_are_as_good_everywhere_where_the_psf_changes():
    varying = chi2_by_column(SCENE, MODEL)
    fixed = chi2_by_column(ONE_PSF, deblend(ONE_PSF, DETECTIONS))
    assert np.abs(varying / varying.mean() - 1).max() < 0.03
    assert np.abs(fixed / fixed.mean() - 1).max() > 0.1


def test_a_parent_is_modelled_with_the_psf_in_its_middle():
    for parent, model in zip(DETECTIONS, MODEL, strict=True):
        assert model.place == parent.footprint.middle
    parent = DETECTIONS.parents[0]
    alone = deblend(SCENE.at(*parent.footprint.middle), [parent])
    (one,) = alone.parents
    assert one.place is None
    assert one.chi2 == pytest.approx(MODEL.parents[0].chi2, rel=1e-4)
    np.testing.assert_allclose(one.sources[0].spectrum, MODEL.parents[0].sources[0].spectrum, rtol=1e-3)


def test_a_footprint_across_a_border_has_the_psf_of_the_cell_of_its_middle():
    images = [gaussian_psf(sigma, (15, 15)) for sigma in (1.5, 2.0)]
    cells = PsfSamples([(10.0, 10.0), (10.0, 30.0)], images)
    images = np.random.default_rng(1).normal(size=(1, 21, 41))
    images[0, 10, 17] = 500
    scene = Scene(images, np.ones_like(images), cells.images[:1], ("r",), psf_fields=(cells,))
    mask = np.zeros(scene.shape, np.int32)
    mask[5:15, 10:27] = 1
    detections = detections_at(scene, np.array([[10.0, 17.0]]), mask)
    assert deblend(scene, detections).parents[0].place == (9.5, 18.0)
    np.testing.assert_allclose(scene.at(9.5, 18.0).psfs[0], cells.images[0], rtol=1e-5)
    np.testing.assert_allclose(scene.at(9.5, 21.0).psfs[0], cells.images[1], rtol=1e-5)


def test_models_of_cells_are_rendered_like_those_of_one_psf():
    """A field that is the same everywhere, in cells whose samples are not
    quite, so that each is rendered apart.
    """
    nearly = [gaussian_psf(1.5 + 1e-6 * k, (25, 25)) for k in range(6)]
    places = [(y, x) for y in (96, 288) for x in (70, 208, 346)]
    fields = (PsfSamples(places, nearly),) * 3
    one = replace(SCENE, psfs=np.stack([nearly[0]] * 3), psf_fields=())
    cells = replace(one, psf_fields=fields)
    assert len(list(deblend(cells, DETECTIONS).by_kernels(cells))) == 6
    np.testing.assert_allclose(
        deblend(cells, DETECTIONS).image(cells), deblend(one, DETECTIONS).image(one), atol=0.05
    )


def test_fluxes_errors_and_centroids_know_the_psf_of_the_place():
    fluxes = MODEL.peak_fluxes(PEAK_IDS)
    np.testing.assert_allclose(np.median(fluxes, axis=0), 1500, rtol=0.01)
    errors = flux_errors(SCENE, MODEL, PEAK_IDS)
    isolated = np.sqrt(4 * np.pi) * np.array([[sigma_at(x, band) for band in range(3)] for _, x in PLACES])
    # Noise makes single ones a little sharper or wider than they are.
    right = PLACES[:, 1] > SHAPE[1] / 2
    halves = [np.median((errors / isolated)[half]) for half in (right, ~right)]
    assert halves == pytest.approx([1, 1], abs=0.05)
    found = centroids(SCENE, MODEL, PEAK_IDS, PLACES)
    assert np.sqrt(np.square(found - PLACES).mean()) < 0.03


def test_point_source_snr_is_that_of_the_psf_there():
    quiet = Scene(
        images=np.zeros_like(SCENE.images),
        variance=SCENE.variance,
        psfs=SCENE.psfs,
        bands=BANDS,
        psf_fields=SCENE.psf_fields,
    )
    image = np.zeros_like(SCENE.images)
    image[:, 188:213, 388:413] = [Growing(band).at(200, 400) for band in range(3)]
    snr = np.divide(*point_source_flux(100 * image, quiet, np.array([200.0]), np.array([400.0])))[0]
    expected = [100 / np.sqrt(4 * np.pi) / sigma_at(400, band) for band in range(3)]
    np.testing.assert_allclose(snr, expected, rtol=2e-3)


def test_a_place_without_a_usable_psf_has_that_of_the_middle():
    class Broken:
        def at(self, y, x):
            return np.full((25, 25), np.nan)

    scene = replace(SCENE, psf_fields=(None, Broken(), SCENE.psf_fields[2]))
    there = scene.at(100.0, 400.0)
    np.testing.assert_allclose(there.psfs[:2], SCENE.psfs[:2], rtol=1e-6)
    np.testing.assert_allclose(there.psfs[2], gaussian_psf(sigma_at(400, 2), (25, 25)), atol=1e-7)
    assert there.at(0, 0) is there and there.psf_fields == ()


def test_samples_leave_out_what_is_no_psf():
    images = np.stack([np.full((5, 5), np.nan), gaussian_psf(1.0, (5, 5))])
    samples = PsfSamples(np.array([[0.0, 0.0], [9.0, 9.0]]), images)
    np.testing.assert_allclose(samples.at(0, 0), images[1].astype(np.float32))
    with pytest.raises(ValueError, match="none of 1 PSF images is finite with a positive sum"):
        PsfSamples(np.zeros((1, 2)), images[:1])
    with pytest.raises(ValueError, match=r"shape \(2, 5, 5\), their places \(1, 2\)"):
        PsfSamples(np.zeros((1, 2)), images)


def test_a_field_is_sampled_in_the_middles_of_squares():
    samples = PsfSamples.of(Growing(0), (100, 250), origin=(1000, 0), side_pix=100)
    np.testing.assert_allclose(
        samples.places, [(1049.5, x) for x in (250 / 6 - 0.5, 750 / 6 - 0.5, 1250 / 6 - 0.5)]
    )
    np.testing.assert_allclose(samples.at(1000, 240), Growing(0).at(0, 1250 / 6 - 0.5), atol=1e-7)
    assert PsfSamples.of(samples, (1, 1)) is samples


def test_images_are_brought_to_a_size_around_their_centre():
    psf = gaussian_psf(1.5, (15, 11))
    other = to_centered_shape(psf, (11, 15))
    assert other.shape == (11, 15) and other.argmax() == 5 * 15 + 7
    np.testing.assert_array_equal(other[:, 2:-2], psf[2:-2])


def test_bands_keep_their_fields():
    bands = [SCENE.select_bands([band]) for band in ("i", "g")]
    assert stack_bands(bands, 2).psf_fields == (SCENE.psf_fields[2], SCENE.psf_fields[0])
    constant = replace(bands[0], psf_fields=())
    assert stack_bands([constant, bands[1]], 2).psf_fields == (None, SCENE.psf_fields[0])
    assert stack_bands([constant], 1).psf_fields == ()
    with pytest.raises(SceneError, match="1 PSF fields for 3 bands"):
        replace(SCENE, psf_fields=SCENE.psf_fields[:1])


def test_worse_seeing_is_worse_everywhere():
    worse = make_worse(SCENE, 1.0, 1.0, np.random.default_rng(1))
    wide = worse.at(100.0, 400.0).psf_sigmas_pix
    np.testing.assert_allclose(wide, [np.hypot(sigma_at(400, band), 1.0) for band in range(3)], rtol=0.01)
    blurred = ChangedPsf(Growing(0), partial(ndimage.gaussian_filter, sigma=1.0))
    assert blurred.at(0, 400).max() < Growing(0).at(0, 400).max()


def test_coadds_scene_files_and_models_keep_it(tmp_path):
    write_coadd(tmp_path / "r.fits", SCENE.select_bands(["r"]))
    write_scene_file(tmp_path / "all.npz", SceneFile(SCENE))
    of_file = read_scene_file(tmp_path / "all.npz").scene
    for scene, bands in ((read_coadd(tmp_path / "r.fits"), (1,)), (of_file, (0, 1, 2))):
        for x in (10.0, 400.0):
            wide = [sigma_at(x, band) for band in bands]
            np.testing.assert_allclose(scene.at(30.0, x).psf_sigmas_pix, wide, rtol=0.03)
    write_model(tmp_path / "model.fits", MODEL)
    again = read_model(tmp_path / "model.fits")
    assert [parent.place for parent in again] == [parent.place for parent in MODEL]
    np.testing.assert_array_equal(again.image(SCENE), MODEL.image(SCENE))
    with np.load(tmp_path / "all.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "bad.npz", **{**arrays, "psf_samples": arrays["psf_samples"][:2]})
    with pytest.raises(SceneError, match=r"psf_samples has shape \(2, 3, 25, 25\)"):
        read_scene_file(tmp_path / "bad.npz")


def test_the_model_psf_of_a_scene_is_no_wider_than_its_sharpest_place():
    field = PsfSamples([(200.0, 100.0), (200.0, 300.0)], [gaussian_psf(s, (25, 25)) for s in (0.7, 1.4)])
    scene = replace(SCENE, psfs=np.stack([gaussian_psf(1.4, (25, 25))] * 3), psf_fields=(field, None, None))
    assert DeblendOptions().for_scene(scene).sigma_pix == pytest.approx(scene.at(0, 0).psf_sigmas_pix[0])
