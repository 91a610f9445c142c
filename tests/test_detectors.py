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

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lsst.pex.config import makeRegistry
from lsst.pipe.base.configOverrides import ConfigOverrides

from conftest import make_scene
from lsst.meas.residualdetect import Peak, Scene
from lsst.meas.residualdetect.detectors import DetectorError, detector_names, load_detector, registry
from lsst.meas.residualdetect.detectors.matched_filter import MatchedFilter
from lsst.meas.residualdetect.tasks.residual_detection import ResidualDetectionConfig, ResidualDetectionTask

BLEND = [(30.0, 30.0, 800.0), (30.0, 34.0, 150.0)]
PEAKS = (Peak(1, 30.0, 30.0),)


def _best(found):
    return max(found, key=lambda candidate: candidate.score)


def test_the_source_left_out_of_the_model_is_found():
    scene = make_scene(BLEND, rng=np.random.default_rng(2))
    model = make_scene(BLEND[:1]).images
    best = _best(MatchedFilter().detect(scene, model, PEAKS))
    assert np.hypot(best.y - 30, best.x - 34) < 1.5
    assert best.footprint.contains(best.y, best.x)
    assert best.bands == {"g", "r", "i"}


def test_the_score_is_the_signal_to_noise_ratio():
    # Of a point source, summed over bands: flux * sqrt(sum over bands of sum(psf^2)) / noise.
    scene = make_scene([(30, 33, 200.0)])
    expected = 200 * np.sqrt((scene.psfs**2).sum())
    assert _best(MatchedFilter().detect(scene, np.zeros_like(scene.images), PEAKS)).score == pytest.approx(
        expected, rel=1e-3
    )


def test_a_perfect_model_leaves_nothing_but_rare_noise():
    scene = make_scene(BLEND, shape=(200, 200), rng=np.random.default_rng(3))
    found = MatchedFilter().detect(scene, make_scene(BLEND, shape=(200, 200)).images, PEAKS)
    assert not [c for c in found if c.score >= MatchedFilter().default_threshold]


def test_units_translation_and_band_order_do_not_matter():
    scene = make_scene(BLEND, rng=np.random.default_rng(4))
    model = make_scene(BLEND[:1]).images
    found = MatchedFilter().detect(scene, model, PEAKS)
    unit = np.float32(1e6)
    scaled = replace(scene, images=scene.images * unit, variance=scene.variance * unit**2)
    moved = replace(scene, origin=(100, 200))
    for other, shift in (
        (MatchedFilter().detect(scaled, model * unit, PEAKS), 0),
        (MatchedFilter().detect(scene.select_bands(["i", "r", "g"]), model[::-1], PEAKS), 0),
        (MatchedFilter().detect(moved, model, PEAKS), 1),
    ):
        assert [(c.y - 100 * shift, c.x - 200 * shift) for c in other] == [(c.y, c.x) for c in found]
        assert [c.score for c in other] == pytest.approx([c.score for c in found], rel=1e-3)


def test_residuals_of_opposite_sign_cancel():
    scene = make_scene([])
    dipole = make_scene([(30, 33, 200.0)]).images
    dipole[0] *= -1
    dipole[2] *= 0
    assert not MatchedFilter().detect(replace(scene, images=dipole), np.zeros_like(dipole), PEAKS)


def test_masked_pixels_are_not_found():
    scene = make_scene([(30, 33, 200.0)])
    mask = np.zeros(scene.images.shape, np.int32)
    mask[:, 22:40, 25:42] = 1
    found = MatchedFilter().detect(replace(scene, mask=mask), np.zeros_like(scene.images), PEAKS)
    assert not [c for c in found if np.hypot(c.y - 30, c.x - 33) < 5]


def test_an_unknown_detector_is_named():
    assert "matched_filter" in detector_names()
    with pytest.raises(DetectorError, match="unknown detector 'nose'; known: .*matched_filter"):
        load_detector("nose")


def test_each_detector_brings_its_own_options():
    assert load_detector("matched_filter", min_score=7.0).config.min_score == 7
    with pytest.raises(DetectorError, match="'matched_filter' has no option 'device'; it has .*min_score"):
        load_detector("matched_filter", device="cpu")
    with pytest.raises(DetectorError, match="'matched_filter'.*band_snr.*-1"):
        load_detector("matched_filter", band_snr=-1.0)


def test_options_of_the_matched_filter_do_what_they_say():
    scene = make_scene(BLEND, rng=np.random.default_rng(2))
    model = make_scene(BLEND[:1]).images
    all_found = load_detector("matched_filter", min_score=3.0).detect(scene, model, PEAKS)
    sure = load_detector("matched_filter", min_score=6.0).detect(scene, model, PEAKS)
    assert [c for c in all_found if c.score > 6] == sure and len(sure) < len(all_found)
    blind = load_detector("matched_filter", band_snr=1000.0).detect(scene, model, PEAKS)
    assert blind and not any(candidate.bands for candidate in blind)


def test_the_task_s_config_reaches_the_options_of_the_detector():
    config = ResidualDetectionConfig(data_model="array", detector="matched_filter")
    config.detector["matched_filter"].band_snr = 2.0
    overrides = ConfigOverrides()
    overrides.addValueOverride("detector.active.min_score", "6.5")
    overrides.applyTo(config)
    # As the Butler keeps it.
    kept = ResidualDetectionConfig()
    kept.loadFromString(config.saveToString())
    assert kept.detector.name == "matched_filter"
    detector = ResidualDetectionTask(config=kept).detector
    assert (detector.config.min_score, detector.config.band_snr) == (6.5, 2.0)


def of_the_page():
    """The detector that doc/detectors.md shows."""
    page = Path(__file__).parents[1] / "doc" / "detectors.md"
    return re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1]


def test_a_package_of_somebody_else_s_adds_a_detector(tmp_path):
    (tmp_path / "nose.py").write_text(
        "from lsst.pex.config import Config, Field\n"
        "class NoseConfig(Config):\n"
        "    length = Field[int](doc='Of the nose.', default=3)\n"
        "class Nose:\n"
        "    ConfigClass = NoseConfig\n"
        "    def __init__(self, config):\n"
        "        self.length = config.length\n"
    )
    (tmp_path / "bumps.py").write_text(of_the_page())
    about = tmp_path / "nose-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nose\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[lsst.meas.residualdetect.detectors]\n"
        "broken = nowhere:Nose\nnose = nose:Nose\nonnx = nose:Nose\nbumps = bumps:Bumps\n"
    )
    script = (
        "from lsst.meas.residualdetect.detectors import load_detector\n"
        "from lsst.meas.residualdetect.tasks.residual_detection import ResidualDetectionTask\n"
        "config = ResidualDetectionTask.ConfigClass(data_model='array', detector='nose')\n"
        "config.detector['nose'].length = 5\n"
        "print(load_detector('nose').length, ResidualDetectionTask(config=config).detector.length)\n"
        "print(load_detector('bumps', height=4.0).config.height)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["3", "5", "4.0"], done.stderr
    assert "bumps" not in done.stderr  # which registers itself, too
    # One that cannot be used, and one of a name that is taken, do no harm.
    for words in (
        "detector 'broken' cannot be used: No module named 'nowhere'",
        "detector 'onnx' cannot be used",
    ):
        assert words in done.stderr


def test_the_detector_of_the_page_finds_what_is_missing(monkeypatch):
    monkeypatch.setattr(registry, "DETECTORS", makeRegistry("Of the page alone."))
    exec(of_the_page(), {})
    detector = load_detector("bumps", height=4.0)
    scene = make_scene(BLEND, rng=np.random.default_rng(2), origin=(-5, 7))
    model = make_scene(BLEND[:1], origin=(-5, 7)).images
    best = _best(detector.detect(scene, model, PEAKS))
    assert np.hypot(best.y - 30, best.x - 34) < 1.5
    assert best.footprint.contains(best.y, best.x)
    assert not detector.detect(scene, scene.images, PEAKS)


def test_bands_without_data_do_not_speak_against_a_candidate():
    # Of what stands out in one band a little must be seen in the others that there are.
    scene = make_scene([(30, 33, (40.0, 15.0, 100.0))])
    blind = [np.full_like(plane, value) for plane, value in ((scene.images, np.nan), (scene.variance, 1))]
    more = Scene(
        np.concatenate([scene.images, blind[0]]),
        np.concatenate([scene.variance, blind[1]]),
        np.concatenate([scene.psfs, scene.psfs]),
        (*scene.bands, "u", "z", "y"),
    )
    alone, beside = (
        _best(MatchedFilter().detect(of, np.zeros_like(of.images), PEAKS)) for of in (scene, more)
    )
    assert alone.seen_in == beside.seen_in == 3
