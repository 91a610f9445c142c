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


import re
from dataclasses import replace

import numpy as np
import pytest

from conftest import PSF_SIGMAS_PIX, make_scene
from lsst.meas.residualdetect import Footprint, Parent, Peak, Scene
from lsst.meas.residualdetect.deblend import DeblendOptions, deblend, deblend_scenes

pytest.importorskip("lsst.scarlet.lite", reason="the stack's deblender is not installed")

from lsst.meas.residualdetect.deblend import scarlet_lite
from lsst.meas.residualdetect.deblend.deconvolution import deconvolve, label_footprints, noise_rms

SHAPE = (40, 100)
# Two pairs, 55 pixels apart: y, x, flux in gri.
PAIRS = [
    (20.0, 20.0, (600.0, 1000.0, 1500.0)),
    (22.0, 26.0, (1200.0, 900.0, 600.0)),
    (19.0, 75.0, (800.0, 800.0, 800.0)),
    (20.0, 81.0, (400.0, 900.0, 1800.0)),
]
PEAKS = tuple(Peak(number, y, x) for number, (y, x, _) in enumerate(PAIRS, start=1))
EVERYWHERE = np.ones(SHAPE, np.bool_)
PSF = scarlet_lite.model_psf(DeblendOptions())


def _disc(y, x, radius):
    rows, columns = np.indices(SHAPE)
    return np.hypot(rows - y, columns - x) < radius


def _deblend(scene, parents, options=DeblendOptions()):
    return deblend(scene, parents, options, engine="scarlet_lite")


def _fluxes(parent):
    fluxes = {}
    for source in parent.sources:
        fluxes[source.peak_id] = fluxes.get(source.peak_id, 0) + source.flux
    return fluxes


def _assert_same_fit(fit, expected, rtol=1e-3):
    assert fit.failure == expected.failure == ""
    fluxes, expected_fluxes = _fluxes(fit), _fluxes(expected)
    assert fluxes.keys() == expected_fluxes.keys()
    for peak_id, flux in fluxes.items():
        np.testing.assert_allclose(flux, expected_fluxes[peak_id], rtol=rtol, atol=1)


@pytest.fixture(scope="module")
def scene():
    return make_scene(PAIRS, shape=SHAPE, rng=np.random.default_rng(5))


@pytest.fixture(scope="module")
def parent():
    """All four sources in one footprint."""
    return Parent(1, Footprint.from_mask(EVERYWHERE), PEAKS)


@pytest.fixture(scope="module")
def model(scene, parent):
    return _deblend(scene, [parent])


@pytest.fixture(scope="module")
def deconvolved(scene):
    return deconvolve(scene, EVERYWHERE, PSF)


def test_deconvolution_sharpens_and_keeps_the_flux():
    flux = np.array([1000, 2000, 3000])
    rng = np.random.default_rng(6)
    scene = make_scene([(20.0, 50.0, tuple(flux))], shape=SHAPE, noise=0.2, rng=rng)
    footprint = _disc(20, 50, 9)
    images = deconvolve(scene, footprint, PSF)
    assert images.dtype == np.float32
    assert (images >= 0).all()
    assert (images[:, ~footprint] == 0).all()
    # What is never negative gains half of the noise.
    gain = 0.4 * 0.2 * footprint.sum()
    np.testing.assert_allclose(images.sum(axis=(1, 2)), flux, rtol=0.01, atol=2 * gain)
    rows = np.indices(SHAPE)[0]
    core = _disc(20, 50, 5)
    for image, sigma in zip(images, PSF_SIGMAS_PIX, strict=True):
        width = np.sqrt((image * (rows - 20) ** 2)[core].sum() / image[core].sum())
        assert 0.7 < width < 0.85 * sigma
        assert image.argmax() == 20 * SHAPE[1] + 50


def test_every_peak_has_a_region_inside_the_footprints(scene, deconvolved):
    footprints = EVERYWHERE.copy()
    footprints[:, 50] = False
    lonely = Peak(9, 5, 49)
    labels = label_footprints(scene, deconvolved, footprints, [*PEAKS, lonely, Peak(10, -30, 20)])
    assert (labels[~footprints] == 0).all()
    first, second, third, fourth = (labels[round(y), round(x)] for y, x, _ in PAIRS)
    assert first == second != third == fourth
    # No light, but a disc of radius 2, cut at the edge of the footprint.
    assert labels[5, 49] not in (0, first, third)
    assert (labels == labels[5, 49]).sum() == 5 + 3 + 1


def test_pairs_far_apart_are_fitted_like_parents_of_their_own(scene, parent, model):
    halves = [
        Parent(number, Footprint.from_mask(_disc(20, x, 17)), peaks)
        for number, x, peaks in ((1, 23, PEAKS[:2]), (2, 78, PEAKS[2:]))
    ]
    together, apart = model.parents[0], _deblend(scene, halves)
    assert together.converged
    both = replace(together, sources=apart.sources)
    # The noise that a source takes up depends on its footprint.
    _assert_same_fit(together, both, rtol=0.03)
    for peak_id, flux in _fluxes(together).items():
        np.testing.assert_allclose(flux, PAIRS[peak_id - 1][2], rtol=0.12)
    # Each keeps to the box of its part.
    for source in model.sources:
        first, after = source.origin[1], source.origin[1] + source.morphology.shape[1]
        assert after < 50 if source.peak_id < 3 else first > 50


def test_chi_square_is_that_of_all_parts_over_the_whole_footprint(scene, parent, model):
    (fit,) = model
    residual = scene.images - model.image(scene)
    assert fit.n_pixels == scene.images.size
    assert fit.chi2 == pytest.approx((scene.weights() * residual**2).sum(), rel=1e-3)
    assert fit.reduced_chi2 == pytest.approx(1, abs=0.1)


def test_iterations_of_the_parts_are_summed(scene, parent):
    (fit,) = _deblend(scene, [parent], DeblendOptions(max_iterations=7, tolerance=1e-9))
    assert fit.n_iterations == 14
    assert not fit.converged


def test_the_order_of_bands_does_not_matter(scene, parent, model):
    (turned,) = _deblend(scene.select_bands(("i", "g", "r")), [parent])
    sources = tuple(replace(source, spectrum=source.spectrum[[1, 2, 0]]) for source in turned.sources)
    _assert_same_fit(replace(turned, sources=sources), model.parents[0])


def test_moving_everything_by_whole_pixels_changes_nothing(scene, parent, model):
    dy, dx = 1000, -37
    moved_parent = Parent(
        1,
        Footprint(np.add(parent.footprint.spans, [dy, dx, dx])),
        tuple(replace(peak, y=peak.y + dy, x=peak.x + dx) for peak in PEAKS),
    )
    (moved,) = _deblend(replace(scene, origin=(dy, dx)), [moved_parent])
    _assert_same_fit(moved, model.parents[0])
    for source, expected in zip(moved.sources, model.sources, strict=True):
        assert source.origin == (expected.origin[0] + dy, expected.origin[1] + dx)


@pytest.mark.parametrize(
    ("limit", "value", "failure"),
    [
        ("_MAX_PEAKS", 1, r"too many peaks: 2 peaks in \d+ x \d+ pixels, more than 1 peaks"),
        ("_MAX_AREA", 50, r"too large: 2 peaks in \d+ x \d+ pixels, more than 50 pixels"),
        ("_MAX_AREA_TIMES_PEAKS", 60, r"too large: 2 peaks in \d+ x \d+ pixels, a product of more than 60"),
    ],
)
def test_a_parent_beyond_a_limit_fails_alone(scene, parent, monkeypatch, limit, value, failure):
    monkeypatch.setattr(scarlet_lite, limit, value)
    small = Parent(2, Footprint.from_mask(_disc(20, 20, 3)), PEAKS[:1])
    excessive, fitted = _deblend(scene, [parent, small])
    assert excessive.sources == ()
    assert re.fullmatch(failure, excessive.failure)
    assert fitted.failure == ""


def test_limits_are_those_of_the_parts(scene, parent, monkeypatch):
    # Four peaks, in parts of two.
    monkeypatch.setattr(scarlet_lite, "_MAX_PEAKS", 2)
    monkeypatch.setattr(scarlet_lite, "_MAX_AREA", SHAPE[0] * SHAPE[1] // 2)
    assert _deblend(scene, [parent]).parents[0].failure == ""


def test_large_blends_begin_without_fitted_spectra(scene, parent, model, monkeypatch):
    monkeypatch.setattr(scarlet_lite, "_MAX_AREA_TIMES_PEAKS_OF_SPECTRA", 0)
    (fit,) = _deblend(scene, [parent], DeblendOptions(tolerance=1e-4))
    assert fit.reduced_chi2 == pytest.approx(model.parents[0].reduced_chi2, abs=0.05)


def test_scenes_are_deconvolved_once_and_only_for_blends(scene, parent, monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args)
        return deconvolve(*args)

    monkeypatch.setattr(scarlet_lite, "deconvolve", counted)
    single = Parent(2, Footprint.from_mask(_disc(19, 75, 4)), PEAKS[2:3])
    outside = Parent(3, Footprint.from_mask(_disc(20, 20, 9)), (PEAKS[0], Peak(7, -9, 20)))
    (fit, other) = _deblend(scene, [single, outside])
    assert (fit.failure, list(other.unmodelled), len(calls)) == ("", [7], 0)
    halves = [replace(parent, peaks=PEAKS[:2]), replace(parent, id=2, peaks=PEAKS[2:])]
    deblend_scenes([(scene, halves), (scene, [single])], engine="scarlet_lite")
    assert len(calls) == 1


def test_a_deconvolution_that_fails_harms_only_blends(scene, parent, monkeypatch):
    def broken(*args):
        raise MemoryError("no more")

    monkeypatch.setattr(scarlet_lite, "deconvolve", broken)
    single = Parent(2, Footprint.from_mask(_disc(19, 75, 4)), PEAKS[2:3])
    blend, alone = _deblend(scene, [parent, single])
    assert blend.failure == "MemoryError: no more"
    assert alone.failure == ""


def test_a_band_without_data_is_left_out(scene, parent, model):
    blind = Scene(
        np.concatenate([scene.images, np.full((1, *SHAPE), np.nan)]),
        np.concatenate([scene.variance, np.ones((1, *SHAPE))]),
        np.concatenate([scene.psfs, scene.psfs[:1]]),
        (*scene.bands, "z"),
    )
    (fit,) = _deblend(blind, [parent])
    assert all(source.spectrum[-1] < 1e-9 for source in fit.sources)
    trimmed = tuple(replace(source, spectrum=source.spectrum[:-1]) for source in fit.sources)
    # The library's steps are relative to a spectrum's mean over bands, so
    # that a fit of one band more stops elsewhere.
    _assert_same_fit(replace(fit, sources=trimmed), model.parents[0], rtol=0.1)
    assert fit.chi2 == pytest.approx(model.parents[0].chi2, rel=0.02)


def test_sources_next_to_pixels_without_data_have_a_signal_to_noise_ratio(scene, parent):
    # Above twice min_snr a source has two components: neither infinite nor
    # unknown noise may decide.
    images = scene.images.copy()
    images[:, :13] = np.nan
    for min_snr, n_components in ((1e4, 1), (10, 2)):
        (fit,) = _deblend(replace(scene, images=images), [parent], DeblendOptions(min_snr=min_snr))
        assert sorted(source.peak_id for source in fit.sources) == sorted([1, 2, 3, 4] * n_components)


def test_noise_of_bands_with_and_without_data():
    variance = np.broadcast_to(np.array([4.0, 16.0, np.nan])[:, None, None], (3, 6, 6)).copy()
    variance[0, 0] = np.nan
    scene = make_scene([], shape=(6, 6))
    np.testing.assert_allclose(noise_rms(replace(scene, variance=variance)), [2, 4, 3])
    np.testing.assert_allclose(noise_rms(replace(scene, variance=np.zeros_like(variance))), 1)


def test_usual_units_are_fitted_as_they_come_others_in_units_of_the_noise(scene, parent, model, monkeypatch):
    for unit in (2.0**-50, 2.0**50):
        images, variance = scene.images.astype(np.float64) * unit, scene.variance.astype(np.float64) * unit**2
        (other,) = _deblend(replace(scene, images=images, variance=variance), [parent])
        assert other.chi2 == pytest.approx(model.parents[0].chi2, rel=1e-2)
        for peak, flux in _fluxes(model.parents[0]).items():
            np.testing.assert_allclose(_fluxes(other)[peak] / unit, flux, rtol=0.02, atol=5)
    # As the stack does, whose models depend on the unit a little.
    monkeypatch.setattr(scarlet_lite, "noise_units", lambda scene: np.ones(len(scene.bands)))
    (as_it_comes,) = _deblend(scene, [parent])
    np.testing.assert_array_equal(_fluxes(as_it_comes)[1], _fluxes(model.parents[0])[1])


def test_an_error_of_the_program_is_no_failure_of_a_parent(scene, parent, monkeypatch):
    def broken(*_):
        raise TypeError("deconvolve() takes 4 arguments")

    monkeypatch.setattr(scarlet_lite, "deconvolve", broken)
    with pytest.raises(TypeError, match="takes 4"):
        _deblend(scene, [parent])
