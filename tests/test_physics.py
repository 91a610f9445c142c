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

"""The parts together, on the project's own simulation."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect, detections_at
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_given_all_true_centres_the_model_explains_the_data(seed):
    scene, truth = simulate_scene(SimulationOptions(shape=(110, 110)), np.random.default_rng(seed))
    inside = (np.abs(np.stack([truth["y"], truth["x"]]) - 54.5) < 54.5).all(axis=0)
    seen = truth[inside & (truth["snr"] > 3)]
    detections = detections_at(scene, np.stack([seen["y"], seen["x"]], axis=1))
    models = deblend(scene, detections.parents)
    assert not [parent.failure for parent in models if parent.failure]
    chi2 = sum(parent.chi2 for parent in models) / sum(parent.n_pixels for parent in models)
    assert chi2 == pytest.approx(1.0, abs=0.1)


def test_fluxes_of_isolated_sources_are_unbiased():
    options = SimulationOptions(shape=(400, 400), density=0.25, clustering=0.0, star_density=1.0)
    ratios = []
    for seed in (1, 2):
        scene, truth = simulate_scene(options, np.random.default_rng(seed))
        truth = truth[truth["snr"] > 1]
        detections = detect(scene)
        models = {parent.parent_id: parent for parent in deblend(scene, detections.parents)}
        for parent in detections:
            inside = [parent.footprint.contains(row["y"], row["x"]) for row in truth]
            if len(parent.peaks) == 1 and sum(inside) == 1 and truth["snr"][inside][0] > 30:
                flux = sum(source.flux[1:5].sum() for source in models[parent.id].sources)
                ratios.append(flux / sum(truth[f"flux_{band}"][inside][0] for band in "griz"))
    assert len(ratios) >= 15
    # What lies outside a footprint is lost: a few per cent.
    assert np.median(ratios) == pytest.approx(1, abs=0.05)
