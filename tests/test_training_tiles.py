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

"""Training tiles: what varies, what is to be learned, and how it is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect.detection import detect, detections_at
from lsst.meas.residualdetect.simulation import SimulationOptions
from lsst.meas.residualdetect.simulation.flaws import mask_pixels, with_wrong_psfs
from lsst.meas.residualdetect.simulation.saturated_star import add_saturated_star
from lsst.meas.residualdetect.simulation.simulate import simulate_with_stamps
from lsst.meas.residualdetect.training import TileOptions, generate_tiles
from lsst.meas.residualdetect.training.generate import draw_scene, make_tiles
from lsst.meas.residualdetect.training.instances import MASK_SIDE, find_instances, undetected
from lsst.meas.residualdetect.training.shards import read_shard, shard_paths, write_shard
from lsst.meas.residualdetect.training.variation import draw_variation

SMALL = TileOptions(size=64, density=(1.0, 2.0), saturated=0.0)


@pytest.fixture(scope="module")
def tiles():
    return make_tiles([0, 1, 2], SMALL, 7)


@pytest.fixture(scope="module")
def simulated():
    options = SimulationOptions(shape=(160, 160), density=2.0)
    return simulate_with_stamps(options, np.random.default_rng(3))


def positions_of(truth: np.ndarray) -> np.ndarray:
    return np.stack([truth["y"], truth["x"]], axis=1)


def test_draws_span_the_ranges_and_repeat_with_the_seed():
    options = TileOptions(surveys=("LSST", "HSC"), engines=("factorized", "scarlet_lite"))
    drawn = [draw_variation(options, np.random.default_rng(seed)) for seed in range(300)]
    assert drawn == [draw_variation(options, np.random.default_rng(seed)) for seed in range(300)]
    density = np.array([item.simulation.density for item in drawn])
    assert options.density[0] <= density.min() < 0.6 and 3.4 < density.max() <= options.density[1]
    assert {item.engine for item in drawn} == set(options.engines)
    assert {item.simulation.survey for item in drawn} == set(options.surveys)
    assert len({item.simulation.bands for item in drawn}) > 5
    told = np.array([item.told for item in drawn])
    assert 0.1 < (told > 0).mean() < 0.3
    assert (told == 1).any() and told.max() == 1


@pytest.mark.parametrize(
    "wrong",
    [{"size": 10}, {"engines": ()}, {"density": (2.0, 1.0)}, {"masked": 1.5}, {"exposure": (0.0, 1.0)}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TileOptions(**wrong)  # type: ignore[arg-type]


def test_masking_marks_pixels_and_touches_no_others():
    scene = make_scene([(30.0, 30.0, 500.0)], rng=np.random.default_rng(1))
    masked = mask_pixels(scene, np.random.default_rng(2))
    bad = masked.bad()
    assert 0 < bad.mean() < 0.6
    np.testing.assert_array_equal(masked.images[~bad], scene.images[~bad])


def test_a_wrong_psf_is_wider_by_the_error():
    scene = make_scene([], rng=np.random.default_rng(1))
    wrong = with_wrong_psfs(scene, 0.03, (0.0, 0.0))
    np.testing.assert_allclose(wrong.psf_sigmas_pix / scene.psf_sigmas_pix, 1.03, atol=0.003)
    assert with_wrong_psfs(scene, 0.0, (0.0, 0.0)) is scene


def test_a_sheared_psf_is_longer_along_the_shear():
    scene = make_scene([])
    psf = with_wrong_psfs(scene, 0.0, (0.05, 0.0)).psfs[0]
    y, x = np.mgrid[: psf.shape[0], : psf.shape[1]] - psf.shape[0] // 2
    # Second moments of a Gaussian sheared by g differ by (1 + g)^2 / (1 - g)^2.
    ratio = (psf * x**2).sum() / (psf * y**2).sum()
    assert ratio == pytest.approx((1.05 / 0.95) ** 2, rel=0.02)


def test_every_source_is_told_of_or_to_be_found(simulated):
    scene, truth, _ = simulated
    positions = positions_of(truth)
    found = detect(scene)
    left = undetected(scene, found, positions, truth["snr"], min_snr=5.0)
    assert len(left) > 5
    assert (truth["snr"][left] >= 5).all()
    peaks = np.array([(peak.y, peak.x) for peak in found.peaks])
    told = detections_at(scene, np.concatenate([peaks, positions[left]]))
    assert len(undetected(scene, told, positions, truth["snr"], min_snr=5.0)) < 0.1 * len(left)


def test_masks_hold_the_light_and_lie_in_their_boxes(simulated):
    scene, truth, stamps = simulated
    positions = positions_of(truth)
    left = undetected(scene, detect(scene), positions, truth["snr"], min_snr=5.0)
    rows = find_instances(scene, positions, truth["snr"], stamps, left)
    assert len(rows) == len(left)
    for row, index in zip(rows, left, strict=True):
        mask = np.unpackbits(row["mask"]).reshape(MASK_SIDE, MASK_SIDE).astype(bool)
        y, x = np.nonzero(mask)
        y, x = y + row["mask_y"], x + row["mask_x"]
        assert abs(y.mean() - row["y"]) < 3 and abs(x.mean() - row["x"]) < 3
        inside = (abs(y - row["y"]) <= row["half_size"] + 0.5) & (abs(x - row["x"]) <= row["half_size"] + 0.5)
        assert inside.mean() > 0.8
        stamp = stamps[index]
        held = [
            stamp.pixels[:, a - stamp.rows.start, b - stamp.columns.start].sum()
            for a, b in zip(y, x, strict=True)
            if stamp.rows.start <= a < stamp.rows.stop and stamp.columns.start <= b < stamp.columns.stop
        ]
        assert sum(held) > 0.4 * stamp.pixels.sum()


def test_a_source_on_masked_pixels_is_not_to_be_found(simulated):
    scene, truth, stamps = simulated
    positions = positions_of(truth)
    left = undetected(scene, detect(scene), positions, truth["snr"], min_snr=5.0)
    mask = scene.mask.copy()
    y, x = np.rint(positions[left[0]]).astype(int)
    mask[:, y, x] |= 1 << scene.mask_planes["BAD"]
    rows = find_instances(replace(scene, mask=mask), positions, truth["snr"], stamps, left)
    assert len(rows) == len(left) - 1


def test_a_tile_depends_on_its_number_only(tiles):
    (again,) = make_tiles([2], SMALL, 7)
    assert again.name == tiles[2].name
    np.testing.assert_array_equal(again.instances, tiles[2].instances)
    # Parents are fitted together with those of other tiles, to within rounding.
    difference = again.residual.astype(float) - tiles[2].residual
    assert abs(difference).max() < 0.05


def test_a_saturated_star_drowns_what_lies_behind_it(simulated):
    scene, _, stamps = simulated
    bright = [add_saturated_star(scene, np.random.default_rng(seed)) for seed in range(8)]
    added = [item.images - scene.images for item in bright]
    for item, light in zip(bright, added, strict=True):
        full = item.bad(("SAT",)) & ~scene.bad(("SAT",))
        assert full.any() or light.max() < 600 * np.sqrt(scene.variance.max())
        assert (item.variance >= scene.variance).all() and np.isfinite(item.images).all()
        weights = scene.weights(), item.weights()
        before, after = (np.array([0 if s is None else s.snr(w) for s in stamps]) for w in weights)
        assert (after <= before * (1 + 1e-6)).all() and (after < 0.99 * before).any()
    # The halo is no PSF: at 40 pixels it is as bright as at 20 within the power law.
    assert max(np.median(light) for light in added) > 0.1 * np.sqrt(np.median(scene.variance))


def test_surveys_see_a_saturated_star():
    options = replace(SMALL, saturated=1.0, forgetful=0.0, informed=0.0, artefacts=0.0, masked=0.0)
    drawn = [draw_scene(number, options, 7) for number in range(4)]
    plain = [draw_scene(number, replace(options, saturated=0.0), 7) for number in range(4)]
    assert all((item.truth["y"] == other.truth["y"]).all() for item, other in zip(drawn, plain, strict=True))
    inside = 0
    for item, other in zip(drawn, plain, strict=True):
        assert (item.truth["snr"] <= other.truth["snr"] * (1 + 1e-6)).all()
        core = (item.scene.bad(("SAT",)) & ~other.scene.bad(("SAT",))).all(axis=0)
        inside += sum(core[round(peak.y), round(peak.x)] for peak in item.detections.peaks)
    assert inside


def test_residual_and_model_are_in_units_of_the_noise(tiles):
    for tile in tiles:
        there = tile.has_band
        assert not tile.residual[~there].any() and not tile.model[~there].any()
        spread = 1.4826 * np.median(abs(tile.residual[there].astype(float)))
        assert 0.8 < spread < 1.1


def test_a_shard_gives_back_what_was_written(tiles, tmp_path):
    path = tmp_path / "shard-7-00000.npz"
    write_shard(path, tiles)
    for before, after in zip(tiles, read_shard(path), strict=True):
        assert before.name == after.name
        np.testing.assert_array_equal(before.residual, after.residual)
        np.testing.assert_array_equal(before.peaks, after.peaks)
        for name in ("y", "x", "snr", "mask"):
            np.testing.assert_array_equal(before.instances[name], after.instances[name])


def test_a_broken_shard_is_named(tmp_path):
    path = tmp_path / "shard-1-00000.npz"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match=r"shard-1-00000\.npz"):
        read_shard(path)
    np.savez(path, residual=np.zeros(3))
    with pytest.raises(ValueError, match="lacks"):
        read_shard(path)
    with pytest.raises(FileNotFoundError, match="no training tiles"):
        shard_paths(tmp_path / "nothing")


def test_a_run_cut_off_goes_on_where_it_was(tmp_path):
    done: list[int] = []
    assert generate_tiles(tmp_path, 2, SMALL, 5, jobs=1, progress=done.append) == 2
    assert sum(done) == 2
    (path,) = shard_paths(tmp_path)
    written = path.stat().st_mtime_ns
    done.clear()
    assert generate_tiles(tmp_path, 2, SMALL, 5, jobs=1, progress=done.append) == 0
    assert sum(done) == 2 and path.stat().st_mtime_ns == written
