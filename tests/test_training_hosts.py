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

"""Training tiles of real blends, and what is no source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.io.scene_file import SceneFile, write_scene_file
from lsst.meas.residualdetect.lessons.hosts import read_hosts
from lsst.meas.residualdetect.lessons.lesson import LessonOptions, draw_lesson
from lsst.meas.residualdetect.simulation.flaws import with_wrong_psfs
from lsst.meas.residualdetect.training.artefacts import ARTEFACTS, add_artefacts
from lsst.meas.residualdetect.training.host_tiles import HostTileOptions, make_host_tiles
from lsst.meas.residualdetect.truth.blends import read_split
from lsst.meas.residualdetect.truth.worse import make_worse

PLACES = [(20.0, 18.0, 3000.0), (28.0, 30.0, 2000.0), (36.0, 20.0, 900.0)]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blends")
    for number in range(2):
        scene = make_scene(PLACES, rng=np.random.default_rng(number))
        footprints = np.zeros(scene.shape, np.int32)
        footprints[4:-4, 4:-4] = 1
        peaks = np.array([place[:2] for place in PLACES])
        write_scene_file(folder / f"blend{number}.npz", SceneFile(scene, peaks, footprints))
    return folder, read_hosts(folder, ["blend0", "blend1"], 0.2)


def test_the_split_names_every_blend_once():
    split = read_split(find_file("config/training", "hsc_blends_split.yaml"))
    assert not set(split["training"]) & set(split["validation"])
    assert 0.6 < len(split["training"]) / (len(split["training"]) + len(split["validation"])) < 0.8


def test_a_name_in_both_lists_is_refused(tmp_path):
    (tmp_path / "split.yaml").write_text("training: [a, b]\nvalidation: [b]\n")
    with pytest.raises(ValueError, match=r"split\.yaml has b in both"):
        read_split(tmp_path / "split.yaml")


@pytest.mark.parametrize(
    "text",
    ["training: [a]", "training: abc\nvalidation: [b]", "{training: [a], validation: [b], more: []}", "["],
)
def test_what_is_no_split_is_refused_by_the_file_s_name(tmp_path, text):
    (tmp_path / "split.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"split\.yaml: expected just the lists training and validation"):
        read_split(tmp_path / "split.yaml")


def test_blends_that_are_not_there_are_missed(tmp_path):
    with pytest.raises(FileNotFoundError, match="do not come with this package"):
        read_hosts(tmp_path / "none", ["a"], 0.2)
    with pytest.raises(FileNotFoundError, match=r"a\.npz is missing"):
        read_hosts(tmp_path, ["a"], 0.2)


def test_an_untouched_blend_has_nothing_to_find(hosts):
    options = LessonOptions(
        untouched=1.0, one_withheld=0.0, some_withheld=0.0, blurred=0, noisier=0, surroundings=0
    )
    lesson = draw_lesson(hosts[1][0], hosts[1], options, np.random.default_rng(1))
    assert not len(lesson.positions)
    assert len(lesson.detections.peaks) == len(PLACES)
    assert lesson.scene.bad()[:, :4].all() and not lesson.scene.bad()[:, 10:-10, 10:-10].any()


def test_a_withheld_peak_is_what_is_to_be_found(hosts):
    options = LessonOptions(untouched=0.0, one_withheld=1.0, some_withheld=0.0, max_added=1, surroundings=0)
    for seed in range(8):
        lesson = draw_lesson(hosts[1][0], hosts[1], options, np.random.default_rng(seed))
        told = {(peak.y, peak.x) for peak in lesson.detections.peaks}
        hidden = {place[:2] for place in PLACES} - told
        assert len(hidden) == 1 and hidden <= {tuple(place) for place in lesson.positions.tolist()}


def test_added_light_has_its_signal_to_noise_ratio_and_distance(hosts):
    options = LessonOptions(
        untouched=0.0,
        one_withheld=0.0,
        some_withheld=0.0,
        told=0.0,
        snr=(100.0, 100.0),
        blurred=0,
        noisier=0,
        psf_error=0,
        surroundings=0,
    )
    host = hosts[1][0]
    n = 0
    for seed in range(10):
        lesson = draw_lesson(host, hosts[1], options, np.random.default_rng(seed))
        added = lesson.scene.images - host.scene.images
        assert added.sum() > 0 and len(lesson.detections.peaks) == len(PLACES)
        for position, snr in zip(lesson.positions, lesson.snr, strict=True):
            n += 1
            assert snr == pytest.approx(100, rel=1e-3)
            away = np.hypot(*(host.peaks - position).T).min()
            assert 1.5 <= away <= 11
            y, x = position.astype(int)
            near = added.sum(axis=0)[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
            assert near.max() > 0.5 * added.sum(axis=0).max() or len(lesson.positions) > 1
    assert n > 8


def test_tiles_hold_what_the_lessons_hold(hosts):
    options = HostTileOptions(hosts[0], ("blend0", "blend1"), 0.2, size=128)
    (tile,) = make_host_tiles([3], hosts[1], options, 5)
    assert len(tile.peaks) > 3 and tile.psfs.any(axis=(1, 2)).tolist() == tile.has_band.tolist()
    for rows in (tile.peaks, np.stack([tile.instances["y"], tile.instances["x"]], axis=1)):
        assert (rows >= 0).all() and (rows < 128).all()
    # Every source told of is in the model, every one withheld in the residual.
    y, x = np.rint(tile.peaks).astype(int).T
    assert np.median(tile.model.astype(float).sum(axis=0)[y, x]) > 5
    again = make_host_tiles([3], hosts[1], options, 5)[0]
    np.testing.assert_array_equal(again.residual, tile.residual)


def test_worse_is_noisier_by_the_factor_and_wider():
    scene = make_scene([], rng=np.random.default_rng(1))
    for blur in (0.0, 1.2):
        worse = make_worse(scene, blur, 4.0, np.random.default_rng(2))
        np.testing.assert_allclose(worse.variance, 4 * scene.variance, rtol=1e-6)
        middle = worse.images[:, 8:-8, 8:-8] / np.sqrt(worse.variance[:, 8:-8, 8:-8])
        assert middle.std() == pytest.approx(1, abs=0.06)
        expected = np.sqrt(scene.psf_sigmas_pix**2 + blur**2)
        np.testing.assert_allclose(worse.psf_sigmas_pix, expected, rtol=0.03)
    with pytest.raises(ValueError, match="variance factor"):
        make_worse(scene, 0.0, 0.5, np.random.default_rng(2))


def test_a_psf_can_be_off_the_centre():
    scene = make_scene([])
    psf = with_wrong_psfs(scene, 0.0, (0.0, 0.0), (0.3, -0.2)).psfs[0].astype(float)
    y, x = np.indices(psf.shape) - np.array(psf.shape)[:, None, None] // 2
    assert [(psf * y).sum(), (psf * x).sum()] == pytest.approx([0.3, -0.2], abs=0.02)


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_artefacts_are_finite_and_stand_out(kind):
    for seed in range(5):
        image = ARTEFACTS[kind]((64, 64), np.random.default_rng(seed))
        assert image.shape == (64, 64) and np.isfinite(image).all()
    strongest = max(abs(ARTEFACTS[kind]((64, 64), np.random.default_rng(s))).max() for s in range(20))
    assert strongest > 0.5


def test_artefacts_leave_variance_and_masks_alone():
    scene = make_scene(PLACES, rng=np.random.default_rng(1))
    changed = [add_artefacts(scene, np.random.default_rng(seed)) for seed in range(12)]
    assert all(
        (item.variance == scene.variance).all() and (item.mask == scene.mask).all() for item in changed
    )
    bands = [(abs(item.images - scene.images).max(axis=(1, 2)) > 0).sum() for item in changed]
    assert min(bands) < len(scene.bands)


def test_options_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="more than 1"):
        LessonOptions(untouched=0.8, one_withheld=0.5)
    with pytest.raises(ValueError, match="snr"):
        replace(LessonOptions(), snr=(5.0, 1.0))
