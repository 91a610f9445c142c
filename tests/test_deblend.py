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

import sys
from dataclasses import replace

import galsim
import numpy as np
import pytest
import torch
from scipy import signal

from conftest import make_scene
from lsst.meas.residualdetect import Footprint, Parent, Peak, Scene
from lsst.meas.residualdetect.deblend import (
    DeblendError,
    DeblendOptions,
    chi_square,
    deblend,
    deblend_scenes,
    engine_names,
    factorized,
)
from lsst.meas.residualdetect.deblend.cutouts import Field, make_cutout
from lsst.meas.residualdetect.deblend.factorized import make_batches, working_mbytes
from lsst.meas.residualdetect.psf_images import difference_kernels, gaussian_psf

SCALE_ARCSEC = 0.2
FWHM_ARCSEC = {"g": 0.87, "r": 0.83, "i": 0.78}
SIGMA = np.array([1.0, 1.0, 1.3])
BANDS = tuple(FWHM_ARCSEC)


def _psf(band):
    return galsim.Moffat(beta=3.5, fwhm=FWHM_ARCSEC[band])


def _psf_images():
    return np.stack([_psf(band).drawImage(nx=31, ny=31, scale=SCALE_ARCSEC).array for band in BANDS])


def _draw(profile, y, x, flux, shape):
    """One source without noise: (band, y, x)."""
    images = []
    for band, band_flux in zip(BANDS, flux, strict=True):
        image = galsim.ImageD(shape[1], shape[0], xmin=0, ymin=0)
        source = _psf(band) if profile is None else galsim.Convolve(profile, _psf(band))
        source = source.withFlux(band_flux)
        images.append(source.drawImage(image, scale=SCALE_ARCSEC, center=(x, y)).array)
    return np.stack(images)


def _observe(truth, rng, origin=(0, 0)):
    variance = np.broadcast_to((SIGMA**2)[:, None, None], truth.shape)
    images = truth + rng.normal(size=truth.shape) * np.sqrt(variance)
    return Scene(images, variance, _psf_images(), BANDS, origin=origin)


def _disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x) < radius


SHAPE = (48, 52)
BLEND = [
    # profile, y, x, fluxes: a bright disk, a star, a faint compact galaxy
    (
        galsim.Exponential(half_light_radius=0.6).shear(q=0.6, beta=0.7 * galsim.radians),
        22.3,
        20.8,
        (900, 1500, 1900),
    ),
    (None, 28.1, 29.6, (700, 600, 500)),
    (galsim.Sersic(n=2, half_light_radius=0.3), 17.0, 31.4, (60, 200, 350)),
]


@pytest.fixture(scope="module")
def blend():
    """A scene with one blended parent."""
    truth = sum(_draw(profile, y, x, flux, SHAPE) for profile, y, x, flux in BLEND)
    peaks = tuple(Peak(i, y, x) for i, (_, y, x, _) in enumerate(BLEND, start=1))
    footprint = Footprint.from_mask(_disc(SHAPE, 23, 25, 19))
    return _observe(truth, np.random.default_rng(11)), Parent(7, footprint, peaks)


@pytest.fixture(scope="module")
def blend_model(blend):
    scene, parent = blend
    return deblend(scene, [parent])


def _fluxes(parent_model):
    """Flux of each source by the id of its peak."""
    fluxes = {}
    for source in parent_model.sources:
        fluxes[source.peak_id] = fluxes.get(source.peak_id, 0) + source.flux
    return fluxes


def _assert_same_fit(model, expected, scale=1.0):
    assert model.chi2 == pytest.approx(expected.chi2, rel=1e-3)
    fluxes, expected_fluxes = _fluxes(model), _fluxes(expected)
    assert fluxes.keys() == expected_fluxes.keys()
    for peak_id, flux in fluxes.items():
        np.testing.assert_allclose(flux, scale * expected_fluxes[peak_id], rtol=5e-3, atol=scale * 2)


def test_blend_with_all_centres_leaves_noise(blend_model):
    (parent,) = blend_model
    assert parent.converged
    assert parent.failure == ""
    assert parent.chi2 / parent.n_pixels == pytest.approx(1, abs=0.1)


# The default keeps faint wings out, and their flux.
WINGS = DeblendOptions(background_threshold=0.25)


def test_blended_fluxes_are_close_to_the_truth(blend):
    # The mean of several noise realisations, so that one does not decide.
    _, parent = blend
    truth = sum(_draw(profile, y, x, flux, SHAPE) for profile, y, x, flux in BLEND)
    rng = np.random.default_rng(11)
    fluxes = [_fluxes(deblend(_observe(truth, rng), [parent], WINGS).parents[0]) for _ in range(16)]
    for peak_id, (_, _, _, flux) in enumerate(BLEND, start=1):
        mean = np.mean([some[peak_id] for some in fluxes], axis=0)
        # Blended with each other: five per cent, and the noise of a PSF fit.
        np.testing.assert_allclose(mean, flux, rtol=0.05, atol=30)


def test_the_rendered_model_is_the_one_that_was_fitted(blend, blend_model):
    scene, parent = blend
    weights = scene.weights() * parent.footprint.to_mask((slice(0, SHAPE[0]), slice(0, SHAPE[1])))
    residual = scene.images - blend_model.image(scene)
    (fitted,) = blend_model
    assert fitted.n_pixels == (weights > 0).sum()
    assert (weights * residual**2).sum() == pytest.approx(fitted.chi2, rel=1e-4)


def test_morphologies_are_non_negative_and_fall_from_the_peak(blend_model):
    for source in blend_model.sources:
        morphology = source.morphology
        assert morphology.sum() == pytest.approx(1, rel=1e-5)
        assert (morphology >= 0).all()
        assert (source.spectrum >= 0).all()
        _, y, x, _ = BLEND[source.peak_id - 1]
        row, column = round(y) - source.origin[0], round(x) - source.origin[1]
        assert morphology[row, column] == morphology.max()
        for ray in (
            morphology[row, column:],
            morphology[row, column::-1],
            morphology[row:, column],
            morphology[row::-1, column],
            morphology[row:, column:].diagonal(),
        ):
            assert (np.diff(ray) <= 1e-6 * morphology.max()).all()


def _isolated_pulls(profile, flux):
    """Flux errors in units of the error of a fit of the true profile, and
    the ratio of mean flux to true flux: 64 noise realisations and sub-pixel
    positions, each a parent of its own.
    """
    rng = np.random.default_rng(12)
    side, n = 33, 64
    disc = _disc((side, side), side // 2, side // 2, 15)
    truth = np.zeros((len(BANDS), side, side * n))
    parents, errors = [], []
    for k in range(n):
        y, x = side // 2 + rng.uniform(-0.5, 0.5, 2)
        tile = _draw(profile, y, x, flux, (side, side))
        truth[:, :, k * side : (k + 1) * side] = tile
        parents.append(Parent(k, Footprint.from_mask(disc, (0, k * side)), (Peak(k, y, x + k * side),)))
        errors.append(SIGMA / np.sqrt(((tile / flux[:, None, None]) ** 2 * disc).sum((1, 2))))
    fluxes = np.array(
        [_fluxes(parent)[parent.parent_id] for parent in deblend(_observe(truth, rng), parents, WINGS)]
    )
    return (fluxes - flux) / errors, fluxes.mean(axis=0) / flux


def test_fluxes_of_faint_stars_are_unbiased():
    # SNR 16: below 20 a source starts as the point that it is.
    pulls, _ = _isolated_pulls(None, np.array([60, 72, 100]))
    assert (np.abs(pulls.mean(axis=0)) < 4 * pulls.std(axis=0) / np.sqrt(len(pulls))).all()
    assert (pulls.std(axis=0) < 1.3).all()


SPIRAL = galsim.Sersic(n=1, half_light_radius=0.5).shear(q=0.7, beta=0.5 * galsim.radians)


@pytest.mark.parametrize("profile", [None, SPIRAL], ids=["psf", "sersic"])
@pytest.mark.parametrize("flux", [(250, 300, 420), (1000, 1200, 1680)])
def test_fluxes_of_brighter_sources_are_right_within_five_per_cent(profile, flux):
    # A model that need not be symmetric fits some noise, and misses wings.
    pulls, ratio = _isolated_pulls(profile, np.array(flux))
    np.testing.assert_allclose(ratio, 1, atol=0.05)
    assert (np.abs(pulls.mean(axis=0)) < 2.5).all()


def test_scaling_the_images_scales_the_fluxes(blend, blend_model):
    scene, parent = blend
    brighter = replace(scene, images=100 * scene.images, variance=1e4 * scene.variance)
    _assert_same_fit(deblend(brighter, [parent]).parents[0], blend_model.parents[0], scale=100)


@pytest.mark.parametrize("unit", [1.3, 1e-9])
def test_bands_of_different_noise_fit_alike_in_any_unit(blend, unit):
    scene, parent = blend
    noise = np.array([1.0, 1.4, 0.8])[:, None, None]
    images = scene.images + noise * np.random.default_rng(12).standard_normal(scene.images.shape)
    unlike = replace(scene, images=images, variance=scene.variance + noise**2)
    other = replace(unlike, images=images * unit, variance=unlike.variance.astype(np.float64) * unit**2)
    expected, found = deblend(unlike, [parent]), deblend(other, [parent])
    off = np.abs(found.image(other) / unit - expected.image(unlike)) / np.sqrt(unlike.variance)
    assert off.max() < 0.01


def test_moving_everything_by_whole_pixels_changes_nothing(blend, blend_model):
    scene, parent = blend
    dy, dx = 1000, -37
    footprint = Footprint(np.add(parent.footprint.spans, [dy, dx, dx]))
    peaks = tuple(replace(peak, y=peak.y + dy, x=peak.x + dx) for peak in parent.peaks)
    moved = deblend(replace(scene, origin=(dy, dx)), [Parent(7, footprint, peaks)])
    _assert_same_fit(moved.parents[0], blend_model.parents[0])
    for source, expected in zip(moved.sources, blend_model.sources, strict=True):
        assert source.origin == (expected.origin[0] + dy, expected.origin[1] + dx)


def test_the_order_of_bands_does_not_matter(blend, blend_model):
    scene, parent = blend
    turned = deblend(scene.select_bands(BANDS[::-1]), [parent]).parents[0]
    turned = replace(
        turned, sources=tuple(replace(source, spectrum=source.spectrum[::-1]) for source in turned.sources)
    )
    _assert_same_fit(turned, blend_model.parents[0])


def test_the_order_of_peaks_does_not_matter(blend, blend_model):
    scene, parent = blend
    swapped = deblend(scene, [replace(parent, peaks=parent.peaks[::-1])])
    _assert_same_fit(swapped.parents[0], blend_model.parents[0])


def test_a_band_without_good_pixels_is_left_out(blend, blend_model):
    scene, parent = blend
    padded = Scene(
        np.concatenate([scene.images, np.full((1, *SHAPE), np.nan, np.float32)]),
        np.concatenate([scene.variance, np.ones((1, *SHAPE), np.float32)]),
        np.concatenate([scene.psfs, scene.psfs[:1]]),
        (*BANDS, "z"),
    )
    (model,) = deblend(padded, [parent])
    assert all(source.spectrum[-1] == 0 for source in model.sources)
    assert model.n_pixels == blend_model.parents[0].n_pixels
    trimmed = tuple(replace(source, spectrum=source.spectrum[:-1]) for source in model.sources)
    _assert_same_fit(replace(model, sources=trimmed), blend_model.parents[0])


def test_bad_pixels_do_not_count(blend):
    scene, parent = blend
    bad = np.zeros(scene.images.shape, np.bool_)
    bad[:, 20:24, 26:30] = True
    mask = np.where(bad, 1 << scene.mask_planes["SAT"], 0)
    one = deblend(replace(scene, mask=mask), [parent])
    other = deblend(replace(scene, mask=mask, images=np.where(bad, 1e5, scene.images)), [parent])
    assert one.parents[0].chi2 == other.parents[0].chi2
    assert one.parents[0].chi2 / one.parents[0].n_pixels == pytest.approx(1, abs=0.1)


def test_a_parent_does_not_notice_its_batch(blend, blend_model):
    scene, parent = blend
    alone = Parent(8, Footprint.from_mask(_disc(SHAPE, 28, 29, 17)), parent.peaks[1:2])
    neighbour = replace(parent, id=9, peaks=parent.peaks[:2])
    together = deblend(scene, [alone, neighbour, parent])
    assert [model.parent_id for model in together] == [8, 9, 7]
    _assert_same_fit(together.parents[2], blend_model.parents[0])
    # Too little memory for two parents, or even for one.
    cramped = deblend(scene, [alone, neighbour, parent], DeblendOptions(batch_mbytes=1e-3))
    for model, expected in zip(cramped, together, strict=True):
        _assert_same_fit(model, expected)


def test_a_faulty_parent_says_why_and_harms_nobody(blend, blend_model):
    scene, parent = blend
    sat = 1 << scene.mask_planes["SAT"]
    mask = np.zeros(scene.images.shape, np.int32)
    mask[:, :6, :6] = sat
    mask[:, 45, 50] = sat
    scene = replace(scene, mask=mask)

    def square(y, x, *peaks):
        return Parent(20, Footprint.from_mask(np.ones((5, 5), np.bool_), (y, x)), peaks)

    faulty = {
        "no peaks": square(40, 0),
        "no good pixels": square(0, 0, Peak(21, 2, 2)),
        # Part of this footprint is inside the scene, its peak is not.
        "peak 22 at (y, x) = (-3.0, 20.0) is outside the scene": square(-3, 18, Peak(22, -3, 20)),
        "footprint outside the scene": square(-50, 0, Peak(23, -48, 2)),
        "peak 24 at (y, x) = (20.0, 2.0) is outside the footprint": square(40, 0, Peak(24, 20, 2)),
        "peak 25 at (y, x) = (45.0, 50.0) is on a pixel that is bad in all bands": square(
            43, 47, Peak(25, 45, 50)
        ),
    }
    counts = []
    model = deblend(scene, [*faulty.values(), parent], progress=counts.append)
    assert sum(counts) == len(faulty) + 1
    for expected, failed in zip(faulty, model, strict=False):
        assert failed.failure == expected
        assert failed.sources == ()
    _assert_same_fit(model.parents[-1], blend_model.parents[0])


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_scene_without_psf_in_a_band_harms_no_other(blend, blend_model, value):
    scene, parent = blend
    # A scene refuses such a PSF; nobody keeps it from changing later.
    blind = replace(scene)
    blind.psfs[1] = value
    failed, fitted = deblend_scenes([(blind, [parent]), (scene, [parent])])
    assert failed.parents[0].failure == "no usable PSF in band 'r'"
    assert failed.parents[0].sources == ()
    _assert_same_fit(fitted.parents[0], blend_model.parents[0])


def test_a_footprint_may_reach_beyond_the_scene(blend):
    scene, _ = blend
    # Noise only, at the corner of the scene.
    corner = Parent(1, Footprint.from_mask(np.ones((12, 12), np.bool_), (-4, -5)), (Peak(1, 2, 2),))
    (model,) = deblend(scene, [corner])
    assert model.failure == ""
    assert model.n_pixels == len(BANDS) * 8 * 7


def test_iterations_are_limited(blend):
    scene, parent = blend
    (model,) = deblend(scene, [parent], DeblendOptions(max_iterations=13, tolerance=1e-9))
    assert model.n_iterations == 13
    assert not model.converged


def test_nothing_to_deblend(blend):
    assert len(deblend(blend[0], [])) == 0
    assert deblend_scenes([]) == []


def test_scenes_deblended_together_are_as_if_alone(blend, blend_model):
    scene, parent = blend
    blurred = replace(scene, psfs=np.stack([psf + np.roll(psf, 3, axis=1) for psf in scene.psfs]))
    gri = scene.select_bands(BANDS[:2])
    blends = [(scene, [parent]), (blurred, [parent, replace(parent, id=8)]), (gri, [parent]), (gri, [])]
    counts = []
    together = deblend_scenes(blends, progress=counts.append)
    assert sum(counts) == 4
    assert [len(model) for model in together] == [1, 2, 1, 0]
    assert [model.bands for model in together] == [BANDS, BANDS, BANDS[:2], BANDS[:2]]
    _assert_same_fit(together[0].parents[0], blend_model.parents[0])
    _assert_same_fit(together[1].parents[1], deblend(blurred, [parent]).parents[0])
    _assert_same_fit(together[2].parents[0], deblend(gri, [parent]).parents[0])
    # The PSF matters.
    assert together[1].parents[0].chi2 > 1.01 * together[0].parents[0].chi2


def test_batches_fit_into_memory_and_leave_nobody_out(blend):
    scene, _ = blend
    kernels = difference_kernels(scene.psfs, gaussian_psf(0.8, (17, 17)))
    field = Field(scene, DeblendOptions(), kernels, np.ones(3))
    cutouts = []
    for k, side in enumerate(np.random.default_rng(13).integers(4, 40, 60).tolist()):
        parent = Parent(k, Footprint.from_mask(np.ones((side, side + k % 5), np.bool_)), (Peak(k, 1, 1),))
        cutouts.append(make_cutout((0, k), field, parent))
    for mbytes in (0.1, 5.0, 100.0):
        batches = list(make_batches(cutouts, mbytes))
        assert sorted(cutout.index[1] for batch in batches for cutout in batch) == list(range(60))
        assert all(len(batch) == 1 or working_mbytes(batch) <= mbytes for batch in batches)
    assert len(batches) < 10


def test_a_descent_that_goes_astray_is_taken_back(blend, blend_model, monkeypatch):
    # Steps ten times too long everywhere: chi-square rises, until caution
    # has shortened them.
    scene, parent = blend
    monkeypatch.setattr(chi_square, "_MORPHOLOGY_FACTOR", 0.07)
    monkeypatch.setattr(chi_square, "_SPECTRA_FACTOR", 0.4)
    (model,) = deblend(scene, [parent], DeblendOptions(max_iterations=400))
    assert model.converged
    assert model.chi2 == pytest.approx(blend_model.parents[0].chi2, rel=0.02)


CLOSE = DeblendOptions(tolerance=1e-5, background_threshold=0.25)


@pytest.fixture(scope="module")
def scarlet_model(blend):
    pytest.importorskip("lsst.scarlet.lite", reason="the stack's deblender is not installed")
    scene, parent = blend
    return deblend(scene, [parent], CLOSE, engine="scarlet_lite")


def test_scarlet_lite_fits_like_factorized(blend, scarlet_model):
    scene, parent = blend
    (own,), (stacks,) = deblend(scene, [parent], CLOSE), scarlet_model
    assert stacks.failure == ""
    assert stacks.converged
    assert own.reduced_chi2 == pytest.approx(stacks.reduced_chi2, rel=0.02)
    fluxes, expected = _fluxes(own), _fluxes(stacks)
    for peak_id, (_, _, _, true) in enumerate(BLEND, start=1):
        np.testing.assert_allclose(fluxes[peak_id], expected[peak_id], rtol=0.05, atol=30)
        np.testing.assert_allclose(expected[peak_id], true, rtol=0.1, atol=60)
    # What it fitted is what its models render to.
    weights = scene.weights() * parent.footprint.to_mask((slice(0, SHAPE[0]), slice(0, SHAPE[1])))
    residual = scene.images - scarlet_model.image(scene)
    assert (weights * residual**2).sum() == pytest.approx(stacks.chi2, rel=1e-3)


def test_scarlet_lite_flags_a_failure_and_goes_on(blend, scarlet_model):
    scene, parent = blend
    outside = replace(parent, peaks=(Peak(5, -3, 2),))
    failed, fitted = deblend(scene, [outside, parent], CLOSE, engine="scarlet_lite").parents
    assert failed.failure == "peak 5 at (y, x) = (-3.0, 2.0) is outside the scene"
    assert fitted.chi2 == scarlet_model.parents[0].chi2


def test_an_engine_that_is_not_installed_says_what_it_needs(blend, monkeypatch):
    monkeypatch.setitem(sys.modules, "lsst.scarlet", None)
    monkeypatch.delitem(sys.modules, "lsst.meas.residualdetect.deblend.scarlet_lite", raising=False)
    with pytest.raises(DeblendError, match=r"deblender 'scarlet_lite' cannot be used here: .*lsst\.scarlet"):
        deblend(blend[0], [blend[1]], engine="scarlet_lite")


def test_unknown_engines_and_senseless_options_are_refused(blend):
    assert engine_names() == ("factorized", "scarlet_lite")
    with pytest.raises(DeblendError, match=r"unknown deblender 'x'; known: factorized, scarlet_lite"):
        deblend(blend[0], [blend[1]], engine="x")
    with pytest.raises(DeblendError, match="tolerance is 0; it must be positive"):
        DeblendOptions(tolerance=0)
    with pytest.raises(DeblendError, match="min_snr is -1; it must not be negative"):
        DeblendOptions(min_snr=-1)
    with pytest.raises(DeblendError, match="max_components is 3"):
        DeblendOptions(max_components=3)
    with pytest.raises(DeblendError, match="bad_planes is 'SAT'; expected a tuple"):
        DeblendOptions(bad_planes="SAT")


def _galaxies(sigma_pix, *, noise=0.1, flux=100.0):
    """Three galaxies in one parent under a Gaussian PSF; scene and parent."""
    places, shape = ((30, 30), (34, 42), (22, 40)), (61, 71)
    y, x = np.indices(shape)
    psf = gaussian_psf(sigma_pix, (41, 41))
    images = np.random.default_rng(1).normal(0, noise, (2, *shape))
    for py, px in places:
        galaxy = np.exp(-0.5 * ((y - py) ** 2 + (x - px) ** 2) / 1.2**2) / (2 * np.pi * 1.2**2)
        images += flux * signal.fftconvolve(galaxy, psf, mode="same")
    scene = Scene(images, np.full(images.shape, noise**2), np.stack([psf, psf]), ("VIS", "H"), name="sharp")
    peaks = tuple(Peak(k, *place) for k, place in enumerate(places))
    return scene, Parent(1, Footprint.from_mask(np.ones(shape, bool)), peaks)


@pytest.mark.parametrize("exponent", [-24, -18, -12, -9, 6, 12, 18])
def test_models_do_not_depend_on_the_flux_unit(exponent):
    scene, parent = _galaxies(2.0, flux=1000.0)
    expected = deblend(scene, [parent])
    unit = 10.0**exponent
    images, variance = scene.images.astype(np.float64) * unit, scene.variance.astype(np.float64) * unit**2
    other = deblend(replace(scene, images=images, variance=variance), [parent])
    assert other.parents[0].chi2 == pytest.approx(expected.parents[0].chi2, rel=1e-2)
    fluxes = expected.peak_fluxes(range(3))
    np.testing.assert_allclose(other.peak_fluxes(range(3)), fluxes * unit, rtol=5e-3)
    np.testing.assert_allclose(fluxes, 1000, rtol=0.05)


@pytest.mark.parametrize("sigma_pix", [0.37, 0.5, 0.6, 0.7, 0.8, 1.0])
def test_a_psf_narrower_than_the_model_s_is_fitted_as_well(sigma_pix, caplog):
    scene, parent = _galaxies(sigma_pix)
    model = deblend(scene, [parent])
    y, x = np.indices(scene.shape)
    near = np.min([np.hypot(y - peak.y, x - peak.x) for peak in parent.peaks], axis=0) < 4
    chi2 = ((scene.images - model.image(scene)) ** 2 / scene.variance)[:, near].mean()
    assert 0.5 < chi2 < 1.4
    warned = "the model PSF has a standard deviation of 0.80 pixels, that of band 'VIS'" in caplog.text
    assert warned == (sigma_pix < 0.8)
    widest = gaussian_psf(DeblendOptions().sigma_pix, (17, 17)).astype(np.float32)
    assert np.array_equal(model.model_psf, widest) == (sigma_pix >= 0.8)


@pytest.fixture
def five_parents():
    """Five point sources, each a parent; scene and parents."""
    places = [(12.0, 12.0 + 24 * k) for k in range(5)]
    scene = make_scene([(y, x, 300.0) for y, x in places], shape=(24, 120), rng=np.random.default_rng(2))
    parents = [
        Parent(k, Footprint.from_mask(np.ones((20, 20), bool), (2, 2 + 24 * k)), (Peak(k, *place),))
        for k, place in enumerate(places)
    ]
    return scene, parents


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_batch_without_memory_is_split_and_costs_one_parent_at_most(five_parents, monkeypatch, error):
    scene, parents = five_parents
    expected = deblend(scene, parents)
    fit_batch = factorized.fit_batch

    def small_memory(batch, options, give_back):
        # Room for two parents, and none for the one whose peak is off its centre.
        if len(batch) > 2 or (batch.positions[:, 1] != 10).any():
            raise error
        fit_batch(batch, options, give_back)

    monkeypatch.setattr(factorized, "fit_batch", small_memory)
    moved = [replace(p, peaks=(replace(p.peaks[0], x=58.0),)) if p.id == 2 else p for p in parents]
    counts = []
    model = deblend(scene, moved, progress=counts.append)
    assert [fit.failure for fit in model] == ["", "", f"out of memory: {error}", "", ""]
    assert sum(counts) == 5
    for fit, other in zip(model, expected, strict=True):
        if fit.parent_id != 2:
            _assert_same_fit(fit, other)


def test_other_errors_are_not_taken_for_a_lack_of_memory(five_parents, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(factorized, "fit_batch", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        deblend(*five_parents)


def test_a_fit_that_is_not_finite_costs_that_parent(five_parents):
    scene, parents = five_parents
    expected = deblend(scene, parents)
    images = scene.images.copy()
    images[0, 12, 60] = 1e30
    model = deblend(replace(scene, images=images), parents)
    assert [bool(fit.failure) for fit in model] == [False, False, True, False, False]
    assert "chi-square became" in model.parents[2].failure
    for fit, other in zip(model, expected, strict=True):
        if fit.parent_id != 2:
            _assert_same_fit(fit, other)
