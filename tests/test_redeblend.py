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

from conftest import HIDDEN, make_blend
from lsst.meas.residualdetect import Detections, Peak
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.deblend.redeblend import changed_parents, redeblend
from lsst.meas.residualdetect.detection import detect


def _with_hidden_peak(detections):
    """The catalogue with the hidden source's peak in its parent."""
    return Detections(
        tuple(
            replace(parent, peaks=(*parent.peaks, Peak(99, *HIDDEN, iteration=1)))
            if parent.footprint.contains(*HIDDEN)
            else parent
            for parent in detections
        )
    )


def test_changed_parents_are_those_with_other_peaks_or_footprints():
    detections = detect(make_blend(1).scene)
    assert changed_parents(detections, detections) == ()
    after = _with_hidden_peak(detections)
    assert [parent.peaks[-1].id for parent in changed_parents(detections, after)] == [99]
    assert changed_parents(Detections(detections.parents[1:]), detections) == detections.parents[:1]


def test_a_second_deblend_is_what_a_deblend_of_everything_gives():
    scene = make_blend(1).scene
    before = detect(scene)
    after = _with_hidden_peak(before)
    first = deblend(scene, before.parents)
    second = redeblend(scene, before, after, first)
    everything = deblend(scene, after.parents)
    assert [parent.parent_id for parent in second] == [parent.id for parent in after]
    np.testing.assert_allclose(
        second.image(scene), everything.image(scene), atol=1e-3 * float(scene.images.max())
    )
    kept = [parent.parent_id for parent in second if parent in first.parents]
    assert len(kept) == len(after) - 1


def test_nothing_changed_costs_nothing():
    scene = make_blend(1).scene
    before = detect(scene)
    first = deblend(scene, before.parents)
    second = redeblend(scene, before, before, first)
    assert all(new is old for new, old in zip(second, first, strict=True))
