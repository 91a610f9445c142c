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


"""Columns of the Object table; needs the stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip(
    "lsst.pipe.tasks.postprocess",
    reason="needs the LSST Science Pipelines (lsst.pipe.tasks.postprocess)",
    exc_type=ImportError,
)

from lsst.pipe.base import InMemoryDatasetHandle

from lsst.meas.residualdetect.tasks.transform_objects import ResidualObjectCatalogTask

OURS = ("merge_peak_residual", "residual_iteration", "residual_score")
STACK_S = """
funcs:
    objectId: {functor: Index}
    parentObjectId: {functor: Column, args: parent, dataset: ref}
    area: {functor: Column, args: base_FootprintArea_value, dataset: meas}
    epoch: {functor: Column, args: value, dataset: epoch}
    exp: {functor: Column, args: value, dataset: Exp_multiprofit}
    sersic: {functor: Column, args: value, dataset: Sersic_multiprofit}
"""


def test_what_residual_detection_says_is_in_the_object_table_beside_the_stack_s_columns(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MEAS_RESIDUALDETECT_DIR", str(Path(__file__).parents[1]))
    ids = pd.Index([11, 12], name="id")
    reference = pd.DataFrame(
        {
            "parent": [5, 5],
            "coord_ra": [1.0, 1.0],
            "coord_dec": [0.5, 0.5],
            "merge_peak_residual": [False, True],
            "residual_iteration": np.array([0, 2], np.int32),
            "residual_score": [np.nan, 0.75],
        },
        index=ids,
    )
    of_a_band = {"base_FootprintArea_value": [30, 40], "coord_ra": [1.0, 1.0], "coord_dec": [0.5, 0.5]}
    measured = pd.concat(
        {("meas", band): pd.DataFrame(of_a_band, index=ids) for band in "gi"},
        axis=1,
        names=("dataset", "band", "column"),
    )
    stack_s = tmp_path / "Object.yaml"
    stack_s.write_text(STACK_S)
    config = ResidualObjectCatalogTask.ConfigClass()
    config.functorFile = str(stack_s)
    task = ResidualObjectCatalogTask(config=config)
    other = reference[["coord_ra", "coord_dec"]].assign(value=1.0)
    other = InMemoryDatasetHandle(other, storageClass="DataFrame")
    table = task.run(
        handle=InMemoryDatasetHandle(measured, storageClass="DataFrame"),
        funcs=task.funcs,
        dataId={"tract": 1, "patch": 2},
        handle_ref=InMemoryDatasetHandle(reference, storageClass="DataFrame"),
        handle_epoch=other,
        handle_Exp_multiprofit=other,
        handle_Sersic_multiprofit=other,
    ).outputCatalog
    assert {"parentObjectId", "g_area", "i_area", *OURS} <= set(table.colnames)
    for name in OURS:
        np.testing.assert_array_equal(table[name], reference[name])
