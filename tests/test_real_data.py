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

"""Real HSC COSMOS pixels, where they are at hand: the example blend of the
public repository lsst/scarlet_lite, as a scene file.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lsst.meas.residualdetect.deblend import DeblendOptions, deblend
from lsst.meas.residualdetect.detection import detect, detections_at
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.find_missing import find_missing
from lsst.meas.residualdetect.io.scene_file import read_scene_file

PATH = Path(
    os.environ.get(
        "RESIDUALDETECT_HSC_SCENE", Path(__file__).parents[2] / "shared" / "data" / "hsc_cosmos_35.npz"
    )
)

pytestmark = pytest.mark.skipif(not PATH.is_file(), reason=f"no real pixels at {PATH}")


@pytest.fixture(scope="module")
def blend():
    return read_scene_file(PATH, pixel_scale_arcsec=0.168)


def _new_peaks(scene, peaks):
    detections = detections_at(scene, peaks)
    missing = find_missing(
        scene, detections, deblend(scene, detections.parents), load_detector("matched_filter")
    )
    return np.array([(peak.y, peak.x) for peak in missing.detections.peaks if peak.from_residual])


def test_detection_finds_the_catalogued_bright_peaks(blend):
    found = np.array([(peak.y, peak.x) for peak in detect(blend.scene).peaks])
    for peak in blend.peaks[:4]:
        assert np.hypot(*(found - peak).T).min() <= 1.5


def test_the_model_explains_the_data(blend):
    # With its wings, as far as the model can go.
    options = DeblendOptions(background_threshold=0.25, tolerance=1e-4)
    models = deblend(blend.scene, detections_at(blend.scene, blend.peaks).parents, options)
    # Not 1: the cutout has sources that the seven peaks leave out.
    assert sum(p.chi2 for p in models) / sum(p.n_pixels for p in models) < 1.3


def test_the_model_is_about_as_good_as_that_of_lsst_scarlet_lite(blend):
    # Reduced chi-square of lsst.scarlet.lite 29.2025.4300 with the stack's
    # settings: benchmarks/deblenders.py --scene hsc_cosmos_35.npz.
    expected = 1.3265
    models = deblend(blend.scene, detections_at(blend.scene, blend.peaks).parents)
    assert [model.reduced_chi2 for model in models] == [pytest.approx(expected, rel=0.05)]
    options = DeblendOptions(tolerance=1e-4, max_iterations=300)
    models = deblend(blend.scene, detections_at(blend.scene, blend.peaks).parents, options)
    assert all(model.reduced_chi2 < 1.01 * expected for model in models)


def test_a_source_left_out_is_found_again(blend):
    found = 0
    for left_out in range(7):
        new = _new_peaks(blend.scene, np.delete(blend.peaks, left_out, axis=0))
        found += np.hypot(*(new - blend.peaks[left_out]).T).min() < 2.5
    assert found >= 5
