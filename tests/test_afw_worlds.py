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


"""The same coadds and peaks through both data models; needs the stack."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

from lsst.daf.butler import Butler

from afw_repository import (
    PIPELINE,
    WHERE,
    create_repository,
    detect,
    fill_patch,
    make_skymap,
    pipetask,
    read_exposures,
    simulate_exposures,
)
from lsst.meas.residualdetect.butler.catalogues.afw import read_catalogue
from lsst.meas.residualdetect.butler.models.afw import AfwModels
from lsst.meas.residualdetect.tasks.deblend import DeblendConfig, DeblendTask
from lsst.meas.residualdetect.tasks.residual_detection import ResidualDetectionConfig, ResidualDetectionTask

BANDS = tuple("grizy")
SIDE = 250


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Scene, catalogue, models and candidates of the stack; and the same of
    the embedded world.
    """
    skymap = make_skymap(SIDE)
    exposures = simulate_exposures(skymap, BANDS, 23)
    merged = detect(exposures, skymap, n_sky=0)
    root = tmp_path_factory.mktemp("worlds") / "repo"
    fill_patch(create_repository(root, skymap, BANDS), exposures, merged)
    singles = ("-c", "residualDetection:singles.engine=scarlet_lite")
    singles += ("-c", "residualDetection:singles.max_iterations=300")
    # Many peaks to compare, right or wrong.
    threshold = ("-c", "residualDetection:score_threshold=0.1")
    pipetask(
        root, "-p", f"{PIPELINE}#deconvolve,deblendCoaddFootprints,residualDetection", *singles, *threshold
    )
    butler = Butler.from_config(str(root), collections="out")

    scene = read_exposures(exposures, merged.catalogue)
    detections = read_catalogue(merged.catalogue, ())
    models = (
        DeblendTask(config=DeblendConfig(engine="scarlet_lite", max_iterations=300))
        .run(scene, detections)
        .models
    )
    task = ResidualDetectionTask(config=ResidualDetectionConfig(data_model="array", score_threshold=0.1))
    return (
        scene,
        (
            AfwModels().read(butler.get("object_scarlet_models", WHERE), merged.catalogue),
            butler.get("object_candidates_residual", WHERE),
        ),
        (models, task.run(scene, detections, models).candidates),
    )


def test_models_agree(worlds):
    scene, (stack, _), (embedded, _) = worlds
    blends = {parent.parent_id for parent in stack}
    assert len(blends) > 5
    one, other = (
        type(model)(
            model.bands,
            model.psfs,
            model.model_psf,
            tuple(parent for parent in model if parent.parent_id in blends),
        )
        .select_bands(BANDS)
        .image(scene)
        for model in (stack, embedded)
    )
    chi = (one - other) * np.sqrt(scene.weights())
    print("largest difference of the models, in sigma:", np.abs(chi).max())
    assert np.abs(chi).max() < 1e-3


def test_detections_agree(worlds):
    _, (_, stack), (_, embedded) = worlds
    assert (stack["peak"] > 0).sum() == (embedded["peak"] > 0).sum() > 10
    ours = np.stack([embedded["y"], embedded["x"]], axis=1)
    tree = cKDTree(ours)
    became = stack[stack["peak"] > 0]
    distance, index = tree.query(np.stack([became["y"], became["x"]], axis=1))
    difference = np.abs(np.asarray(became["score"]) - np.asarray(embedded["score"])[index])
    print(f"{len(became)} peaks; at most {distance.max():.4f} pixels, {difference.max():.1e} in score apart")
    assert distance.max() < 0.1
    # A score answers to a difference of the models, below 1e-3 sigma.
    assert difference.max() < 1e-3
