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

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect import Peak
from lsst.meas.residualdetect.detectors import DetectorError, detector_names, load_detector
from lsst.meas.residualdetect.detectors.matched_filter import MatchedFilter

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
    with pytest.raises(DetectorError, match="unknown detector 'nose'; known: matched_filter"):
        load_detector("nose")
