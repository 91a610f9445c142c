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


"""Which candidates a report lists, what it says of them, and in how much
memory.
"""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from lsst.meas.residualdetect.candidates import Fate
from lsst.meas.residualdetect.noise import point_source_flux
from lsst.meas.residualdetect.report import ReportOptions
from lsst.meas.residualdetect.report.contents import draw_contents
from lsst.meas.residualdetect.report.listing import choose_candidates
from lsst.meas.residualdetect.truth import EvaluatedPatch, PatchResult, evaluate_patch
from test_evaluation import every_class, make_result
from test_pictures import pixels


def candidate_table(rows: list[tuple[int, float, float, float, str]]) -> Table:
    """Peak, y, x, score and reason, as in ``object_candidates``."""
    names = ("peak", "y", "x", "score", "reason")
    return Table(rows=rows, names=names, dtype=("i8", "f8", "f8", "f8", "U32"))


def patch_of(result: PatchResult, candidates: Table | None = None) -> EvaluatedPatch:
    return EvaluatedPatch(evaluate_patch(result), candidates, lambda: result)


OTHERS = [
    (50, 20.0, 24.0, 0.9, ""),
    (0, 5.0, 60.0, 0.4, Fate.BELOW_THRESHOLD.value),
    (0, 20.0, 20.5, 0.7, Fate.NEAR_PEAK.value),
]


def test_new_peaks_come_first_and_nobody_twice() -> None:
    result = every_class()
    patches = [patch_of(result, candidate_table(OTHERS)), patch_of(replace(result, name="patch 2"))]
    chosen, left_out = choose_candidates(patches, ReportOptions())
    n_peaks = 2 * len(result.new_peaks)
    assert [bool(item.peak) for item in chosen] == [True] * n_peaks + [False] * 2
    scores = [item.score for item in chosen]
    assert scores[:n_peaks] == sorted(scores[:n_peaks], reverse=True)
    assert scores[n_peaks:] == [0.7, 0.4]
    assert not left_out
    chosen, left_out = choose_candidates(patches, ReportOptions(max_peaks=3, max_others=1))
    assert [item.score for item in chosen] == [*scores[:3], 0.7]
    assert left_out == {"new peaks": n_peaks - 3, "other candidates": 1}


@pytest.mark.parametrize("origin", [(0, 0), (400, 900)])
def test_facts_of_a_candidate(origin: tuple[int, int]) -> None:
    result = make_result(
        true=[(20.0, 20.0, 900.0), (20.0, 26.0, 300.0)],
        old=[[(20.0, 20.0, 900.0)]],
        new=[[(20.0, 26.0, 300.0, 0.8)]],
        boxes=[(10, 30, 10, 34)],
        origin=origin,
    )
    there = (0, 12.0 + origin[0], 13.0 + origin[1], 0.3, Fate.BELOW_THRESHOLD.value)
    beyond = (0, 50.0 + origin[0], 50.0 + origin[1], 0.2, Fate.TOO_FEW_BANDS.value)
    patch = patch_of(result, candidate_table([there, beyond]))
    peak, inside, outside = (item.facts for item in draw_contents([patch], ReportOptions()).drawn)
    assert (peak["peak"], peak["parent"], peak["class"], peak["reason"]) == (50, 1, "right", "")
    assert (peak["y"], peak["x"]) == (origin[0] + 20, origin[1] + 26)
    assert peak["distance_pix"] == 6.0
    assert peak["distance_arcsec"] == pytest.approx(6 * result.scene.pixel_scale_arcsec)
    residual = result.scene.images - result.model_before.image(result.scene)
    snr = np.divide(*point_source_flux(residual, result.scene, np.array([peak["y"]]), np.array([peak["x"]])))
    assert peak["snr"] == pytest.approx(np.sqrt(np.square(snr).sum()), abs=0.01)
    assert peak["snr"] > 20 > inside["snr"]
    assert (inside["peak"], inside["parent"], inside["reason"]) == (0, 1, "below the threshold")
    assert (outside["parent"], outside["class"]) == (0, "")
    assert outside["ra"] is None


def test_sky_positions_are_those_of_the_scene() -> None:
    result = every_class()
    scene = replace(result.scene, sky_position=lambda y, x: (150 + x / 3600, 2 + y / 3600))
    drawn = draw_contents([patch_of(replace(result, scene=scene))], ReportOptions()).drawn
    for item in drawn:
        assert item.facts["ra"] == pytest.approx(150 + item.facts["x"] / 3600, abs=1e-6)
        assert item.facts["dec"] == pytest.approx(2 + item.facts["y"] / 3600, abs=1e-6)


@pytest.mark.parametrize("size", [24, 100])
def test_close_ups_stand_side_by_side(size: int) -> None:
    result = every_class()
    height, width = result.scene.shape
    (first, *_) = draw_contents([patch_of(result)], ReportOptions(zoom_pix=size)).drawn
    told = json.loads(first.pictures)
    strip = pixels(told["jpeg"]).astype(int)
    assert strip.shape == (size, 4 * size, 3)
    data, model, residual, after = np.split(strip, 4, axis=1)
    x, y = (int(value) for value in told["subject"])
    # The source shows in the data and in the residual, and is gone after.
    core = (slice(y - 1, y + 2), slice(x - 1, x + 2))
    assert data[core].mean() > model[core].mean() + 20
    assert residual[core].mean() > after[core].mean() + 20
    if size > height:
        assert not data[height + 8 :].any() and not data[:, width + 8 :].any()
    kinds = {mark[0] for mark in told["found"]}
    assert f"new {first.facts['class']}" in kinds
    assert {mark[0] for mark in told["known"]} <= {"old", "truth"}


def test_one_patch_at_a_time_is_in_memory() -> None:
    results = [replace(every_class(seed=seed), name=f"patch {seed}") for seed in range(1, 5)]
    alive: list[weakref.ref[PatchResult]] = []
    most = 0

    def read(number: int) -> PatchResult:
        nonlocal most
        result = replace(results[number])
        alive.append(weakref.ref(result))
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        return result

    patches = [
        EvaluatedPatch(evaluate_patch(result), None, lambda number=number: read(number))
        for number, result in enumerate(results)
    ]
    contents = draw_contents(patches, ReportOptions(max_patches=2))
    assert len(alive) == len(patches)
    assert len(contents.views) == 2
    assert most == 1
