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

"""Memory that goes with what is there, and no more of it than need be."""

from __future__ import annotations

import tracemalloc
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from conftest import make_scene
from lsst.meas.residualdetect import Detections, Footprint, Parent, Peak
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detectors.mask_rcnn import MaskRcnn
from lsst.meas.residualdetect.plots.markers import Window, patch_markers
from lsst.meas.residualdetect.truth import PatchResult, evaluate_patch
from tiny_network import find_maxima, make_package


@contextmanager
def at_most(n_bytes):
    """Of what Python and numpy allocate within the scope."""
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < n_bytes, f"{most / n_bytes:.2f} times what it may be"


def test_channels_are_made_tile_by_tile(tmp_path):
    scene = make_scene([(300.0, 300.0, 500.0)], shape=(400, 400))
    model = np.zeros_like(scene.images)
    package = make_package(tmp_path / "tiny", tile_size=96)
    detector = MaskRcnn(package, find_maxima, n_tiles=1)
    # There are 13, and a network makes as much again of them.
    with at_most(10 * scene.images[0].nbytes):
        detector.detect(scene, model, [Peak(1, 300.0, 300.0)])


def test_marks_of_many_peaks_take_memory_by_their_number():
    scene = make_scene([], shape=(300, 300))
    places = np.random.default_rng(3).uniform(5, 295, (3000, 2)).tolist()
    peaks = tuple(Peak(number, y, x) for number, (y, x) in enumerate(places, start=1))
    whole = Footprint.from_mask(np.ones(scene.shape, bool))
    detections = Detections((Parent(1, whole, peaks),))
    new = replace(peaks[0], id=3001, iteration=1, score=0.9)
    after = Detections((Parent(1, whole, (*peaks, new)),))
    nothing = deblend(scene, [])
    result = PatchResult(
        name="", scene=scene, before=detections, after=after, model_before=nothing, model_after=nothing
    )
    evaluation = evaluate_patch(result)
    # Of pairs there are nine million.
    with at_most(1000 * len(peaks)):
        assert len(patch_markers(result, evaluation, Window(0, 0, 300, 300))) == 3001
