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

import json

import numpy as np
import pytest
from astropy.stats import gaussian_sigma_to_fwhm
from astropy.table import Table

from conftest import BLEND_SOURCES, HIDDEN, invoke, make_blend, make_scene
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.experiments.experiment import run_scene
from lsst.meas.residualdetect.experiments.peers import DEBLENDINGS, load_peers
from lsst.meas.residualdetect.experiments.skies import FileSky
from lsst.meas.residualdetect.io.scene_file import SceneFile, write_scene_file
from lsst.meas.residualdetect.lessons.injected import SourceInjection
from lsst.meas.residualdetect.truth.degradation import Degradation, degraded
from lsst.meas.residualdetect.truth.known_scenes import KnownScene, read_known_scene
from lsst.meas.residualdetect.truth.metrics import ranking_curve
from lsst.meas.residualdetect.truth.pooling import classified_curve
from lsst.meas.residualdetect.truth.worse import make_worse

# Seen apart in good seeing, as one in bad.
PAIR = [(30.0, 26.0, 3000.0), (30.0, 32.5, 2000.0), (12.0, 50.0, 2500.0)]
WORSE = Degradation(seeing=1.5, depth=0.5)


def test_what_the_better_image_shows_is_the_truth_of_the_worse():
    scene = make_scene(PAIR, rng=np.random.default_rng(1))
    before = detect(scene)
    assert len(before.peaks) == 3
    known = degraded(KnownScene(scene, before), WORSE, np.random.default_rng(2))
    assert len(known.detections.peaks) == 2
    np.testing.assert_allclose(sorted(known.truth["x"]), sorted(source[1] for source in PAIR), atol=1)
    for row in known.truth:
        flux = min(PAIR, key=lambda source: np.hypot(source[0] - row["y"], source[1] - row["x"]))[2]
        assert row["flux_i"] == pytest.approx(flux, rel=0.1)
        # As the noise and the PSFs of the worse image have it.
        power = np.square(known.scene.psfs, dtype=float).sum() / (1.0 / WORSE.depth)
        assert row["snr"] == pytest.approx(flux * np.sqrt(power), rel=0.15)


def test_the_worse_image_has_the_seeing_and_the_depth_asked_for():
    scene = make_scene(PAIR, rng=np.random.default_rng(1))
    worse = WORSE.of(scene, np.random.default_rng(2))
    fwhm_arcsec = worse.psf_sigmas_pix * gaussian_sigma_to_fwhm * scene.pixel_scale_arcsec
    np.testing.assert_allclose(fwhm_arcsec, 1.5, rtol=0.03)
    np.testing.assert_allclose(worse.variance, 2 * scene.variance)
    # A band that is wider already stays as it is.
    sharp = Degradation(seeing=0.8).of(scene, np.random.default_rng(2))
    np.testing.assert_array_equal(sharp.psfs[0], scene.psfs[0])
    assert sharp.psf_sigmas_pix[2] > scene.psf_sigmas_pix[2]


def test_flux_is_kept_and_pixels_without_data_spill_nothing():
    scene = make_scene([(30.0, 30.0, 5000.0)])
    images = scene.images.copy()
    images[:, 40:44, 40:44] = np.nan
    holed = SceneFile(type(scene)(images, scene.variance, scene.psfs, scene.bands)).scene
    worse = make_worse(holed, [1.5, 1.5, 1.5], 1.0 + 1e-9, np.random.default_rng(1))
    assert worse.bad()[:, 41, 41].all()
    noiseless = make_worse(scene, 1.5, 1.0, np.random.default_rng(1)).images
    beyond = np.abs(worse.images[:, 46:50, 40:44] - noiseless[:, 46:50, 40:44])
    assert beyond.max() < 5  # noise of 1
    assert noiseless[0].sum() == pytest.approx(5000, abs=5 * 62)


def test_files_with_truth_are_judged_by_it(tmp_path):
    for seed in (5, 6):
        write_scene_file(tmp_path / f"blend{seed}.npz", make_blend(seed))
    out = tmp_path / "out"
    arguments = ["evaluate", "--scenes", tmp_path / "blend5.npz", "--scenes", tmp_path / "blend6.npz"]
    arguments += ["--detector", "oracle", "--out", out, "--jobs", 1, "--limit", "min_snr=5"]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((out / "results.json").read_text())["entries"]
    run = entry["iterations"][0]
    assert run["n_truth"] == 2 * len(BLEND_SOURCES) and run["n_unrecognized"] == run["n_recovered"] == 2
    assert run["options"]["min_snr"] == 5.0
    assert entry["average_precision"] == 1 and entry["average_precision_interval"] == [1, 1]
    assert "signal-to-noise ratio 5 and more over all bands" in (out / "results.md").read_text()


def test_files_are_judged_by_what_the_better_image_shows(tmp_path):
    scene = make_scene(PAIR, rng=np.random.default_rng(1))
    write_scene_file(tmp_path / "pair.npz", SceneFile(scene))
    out = tmp_path / "out"
    arguments = ["evaluate", "--scenes", tmp_path / "pair.npz", "--degrade", "seeing=1.5,depth=0.5"]
    arguments += ["--detector", "oracle", "--out", out, "--jobs", 1]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((out / "results.json").read_text())["entries"]
    assert entry["iterations"][0]["n_unrecognized"] == entry["iterations"][0]["n_recovered"] == 1
    again = invoke(*arguments[:-4], "--out", out, "--seed", 1)
    assert again.exit_code == 1 and "seed 9000 (now 1)" in again.output


def test_sources_beside_known_ones_are_to_be_found(tmp_path):
    places = np.array([source[:2] for source in PAIR])
    scene = make_scene(PAIR, rng=np.random.default_rng(1))
    write_scene_file(tmp_path / "pair.npz", SceneFile(scene, places, np.ones(scene.shape, np.int32)))
    injection = SourceInjection(3, (50.0, 50.0), (0.6, 1.2))
    known = FileSky("it", (tmp_path / "pair.npz",), injection=injection, seed=3).scene(0)
    added = known.truth[len(PAIR) :]
    assert 1 <= len(added) <= 3 and len(known.detections.peaks) == len(PAIR)
    np.testing.assert_allclose(added["snr"], 50, rtol=1e-4)
    away = np.hypot(*(np.stack([added["y"], added["x"]], axis=1)[:, None] - places).T).min(axis=0)
    # Their places are whole pixels.
    assert (away * scene.pixel_scale_arcsec >= 0.6).all() and (away * scene.pixel_scale_arcsec < 1.35).all()
    for band in scene.bands:
        light = (known.scene.images - scene.images)[scene.bands.index(band)].sum()
        assert added[f"flux_{band}"].sum() == pytest.approx(light, rel=1e-3)
    told = [row["flux_i"] for row in known.truth[: len(PAIR)]]
    np.testing.assert_allclose(told, [source[2] for source in PAIR], rtol=0.15)

    out = tmp_path / "out"
    arguments = ["evaluate", "--scenes", tmp_path / "pair.npz", "--inject", "snr=50:50,distance=0.6:1.2"]
    arguments += ["--detector", "oracle", "--out", out, "--jobs", 1, "--seed", 3]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((out / "results.json").read_text())["entries"]
    assert entry["iterations"][0]["n_unrecognized"] == entry["iterations"][0]["n_recovered"] == len(added)


def test_files_without_truth_say_what_to_do(tmp_path):
    write_scene_file(tmp_path / "bare.npz", make_blend(5, with_truth=False))
    sky = FileSky("it", (tmp_path / "bare.npz",))
    with pytest.raises(ValueError, match=r"bare\.npz has no truth table"):
        sky.scene(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--leave-out",), "need --scenes"),
        (("--degrade", "depth=0.5"), "need --scenes"),
        (("--inject", "number=1"), "need --scenes"),
        (("--scenes", ".", "--leave-out", "--degrade", "depth=0.5"), "only one of"),
        (("--scenes", ".", "--inject", "number=1", "--degrade", "depth=0.5"), "only one of"),
        (("--scenes", ".", "--degrade", "seeing"), "--degrade seeing: input should be a valid number"),
        (
            ("--scenes", ".", "--degrade", "seeing=bad"),
            "seeing=bad: input should be a valid number",
        ),
        (("--scenes", ".", "--degrade", "colour=3"), "--degrade: unknown 'colour'; known: seeing, depth"),
        (("--scenes", ".", "--degrade", "depth=2"), "--degrade: seeing is 0.0, depth 2.0; expected"),
        (("--scenes", ".", "--degrade", "depth=0"), "up to 1"),
        (("--scenes", ".", "--degrade", "seeing=nan"), "up to 1"),
        (("--scenes", ".", "--degrade", "depth=1"), "neither a worse seeing"),
        (
            ("--scenes", ".", "--inject", "number=many"),
            "number=many: input should be a valid integer",
        ),
        (("--scenes", ".", "--inject", "snr"), "--inject snr: field required"),
        (("--scenes", ".", "--inject", "snr=8"), "--inject snr=8: field required"),
        (("--scenes", ".", "--inject", "snr=8:9:10"), "at most 2 items"),
        (("--scenes", ".", "--inject", "colour=3:4"), "known: number, snr, distance"),
        (("--scenes", ".", "--inject", "number=0"), "at least 1"),
        (("--scenes", ".", "--inject", "snr=200:8"), "least <= greatest"),
        (("--scenes", ".", "--inject", "distance=0:1"), "least <= greatest"),
        (("--scenes", ".", "--inject", "snr=8:nan"), "least <= greatest"),
        (("--limit", "min_snr=many"), "min_snr=many: input should be a valid number"),
        (("--limit", "snr_edges=1,x"), "snr_edges=1,x: input should be a valid number"),
        (("--search", "singles.colour=3"), "--search singles.: unknown 'colour'"),
        (("--search", "singles=3"), "unknown 'singles'"),
        (("--search", "singles_engine=factorized"), "an option of its own for singles_engine"),
        (("--search", "min_bands=1.5"), "valid integer"),
        (("--search", "min_distance_pix=-1"), "min_distance_pix is -1"),
        (("--limit", "colour=3"), "known: match_radius_pix"),
        (("--limit", "core_fraction=3"), "core_fraction is 3"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene_file(tmp_path / "blend.npz", make_blend(5))
    result = invoke("evaluate", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and message in result.output


def test_a_truth_table_without_signal_to_noise_gets_that_of_point_sources(tmp_path):
    write_scene_file(tmp_path / "blend.npz", make_blend(5))
    known = read_known_scene(tmp_path / "blend.npz")
    assert "snr" not in make_blend(5).truth.dtype.names
    power = np.square(known.scene.psfs, dtype=float).sum(axis=(1, 2))
    expected = [np.sqrt((np.square(source[2]) * power).sum()) for source in BLEND_SOURCES]
    np.testing.assert_allclose(known.truth["snr"], expected, rtol=1e-5)


def test_weights_count_as_repetitions():
    rng = np.random.default_rng(1)
    score, right = rng.random(40).round(1), rng.random(40) < 0.6
    weight = rng.integers(0, 3, 40)
    again = np.repeat(np.arange(40), weight)
    weighted = ranking_curve(score, right, right, 60, weight.astype(float))
    repeated = ranking_curve(score[again], right[again], right[again], 60)
    for name in ("threshold", "purity", "recovery"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name))


def test_those_that_do_not_count_have_no_weight():
    peaks = Table({"score": [0.9, 0.8, 0.7], "class": ["right", "right_faint", "spurious"]})
    peaks["target"] = [True, False, False]
    curve = classified_curve(peaks, 2.0, np.array([2.0, 5.0, 1.0]))
    np.testing.assert_allclose(curve.purity, [1, 2 / 3])


def test_noise_alone_has_a_chi_image_of_unit_width():
    from lsst.meas.residualdetect.experiments.deblending_peers import chi_image

    scene = make_scene([], shape=(200, 200), rng=np.random.default_rng(1))
    images = scene.images.copy()
    images[2, :100] = np.nan  # fewer bands, the same noise
    images[:, :10, :10] = np.nan
    chi = chi_image(type(scene)(images, scene.variance, scene.psfs, scene.bands))
    for half in (chi[:100], chi[100:]):
        assert half.mean() == pytest.approx(0, abs=0.03) and half.std() == pytest.approx(1, abs=0.03)
    assert not chi[:10, :10].any()


@pytest.mark.parametrize("package", DEBLENDINGS)
def test_what_is_apart_is_split_and_what_is_blended_is_not(package):
    pytest.importorskip("skimage" if package == "photutils" else package, reason=f"needs {package}")
    peer = load_peers([package])[package]
    scene = make_scene(PAIR, rng=np.random.default_rng(1), origin=(100, 200))
    shifted = make_scene(
        [(y + 100, x + 200, flux) for y, x, flux in PAIR], rng=np.random.default_rng(1), origin=(100, 200)
    )
    assert scene.origin == shifted.origin
    found = peer.detect(shifted, np.zeros_like(shifted.images), ())
    for y, x, _ in PAIR:
        near = [c for c in found if np.hypot(c.y - y - 100, c.x - x - 200) < 1]
        assert len(near) == 1 and near[0].score > 20
        assert near[0].footprint.contains(near[0].y, near[0].x)
    blend = make_blend(5)
    known = KnownScene(blend.scene, detect(blend.scene), read_truth(blend))
    assert not run_scene(known, {package: peer})[package].candidates["target"].any()
    assert HIDDEN in [source[:2] for source in BLEND_SOURCES]


@pytest.mark.parametrize("package", DEBLENDINGS)
def test_noise_alone_has_nothing_to_split(package):
    pytest.importorskip("skimage" if package == "photutils" else package, reason=f"needs {package}")
    scene = make_scene([], shape=(60, 60), rng=np.random.default_rng(1))
    empty = np.zeros_like(scene.images)
    blank = type(scene)(empty, scene.variance, scene.psfs, scene.bands)
    assert load_peers([package])[package].detect(blank, empty, ()) == []


def read_truth(content):
    from lsst.meas.residualdetect.truth.known_scenes import with_snr

    return with_snr(content.truth, content.scene)
