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


"""The table of what a second deblend made of new peaks."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from lsst.meas.residualdetect.find_missing.new_objects import new_object_table

BANDS = ("g", "r")
SCALE = 0.2


def _objects():
    """A new object between two known ones, and a founded one; in parents 7 and 9."""
    before = np.array([[50.0, 80.0], [10.0, 20.0], [np.nan, np.nan], [np.nan, np.nan]])
    after = np.array([[30.0, 60.0], [10.0, 20.0], [20.0, 20.0], [5.0, np.nan]])
    return Table(
        {
            "id": [71, 72, 73, 9],
            "parent": [7, 7, 7, 0],
            "family": [7, 7, 7, 9],
            "peak": [1, 2, 5, 5],
            "y": [10.0, 10.0, 10.0, 40.0],
            "x": [10.0, 30.0, 13.0, 30.0],
            "score": [np.nan, np.nan, 0.6, 0.8],
            "iteration": np.array([0, 0, 1, 1], np.int32),
            "before": before,
            "after": after,
        }
    )


def _candidates():
    """Two that became peaks, of one number in two parents, and one that did not."""
    return Table(
        {
            "parent": [0, 9, 7],
            "peak": [0, 5, 5],
            "ra": [1.0, 2.0, 3.0],
            "dec": [-1.0, -2.0, -3.0],
            "snr_g": np.array([1, 2, 3], np.float32),
        }
    )


def test_each_new_object_has_its_candidate_and_its_nearest_known():
    table = new_object_table(_objects(), _candidates(), BANDS, SCALE)
    assert list(table["id"]) == [9, 73]
    assert list(table["parent"]) == [0, 7]
    assert list(table["ra"]) == [2, 3] and list(table["dec"]) == [-2, -3]
    assert list(table["score"]) == [0.8, 0.6] and list(table["iteration"]) == [1, 1]
    assert list(table["snr_g"]) == [2, 3]
    # A band that residual detection did not look at.
    assert np.isnan(table["snr_r"]).all()
    assert list(table["nearest_known"]) == [72, 71]
    np.testing.assert_allclose(table["nearest_distance"], [30 * SCALE, 3 * SCALE])
    assert list(table["nearest_flux_before_g"]) == [10, 50]
    assert list(table["nearest_flux_after_r"]) == [20, 60]
    assert list(table["flux_g"]) == [5, 20] and np.isnan(table["flux_r"][0])


def test_every_column_says_what_it_is():
    table = new_object_table(_objects(), _candidates(), BANDS, SCALE)
    assert all(table[name].description for name in table.colnames)
    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit is not None}
    fluxes = [
        f"{name}_{band}" for name in ("flux", "nearest_flux_before", "nearest_flux_after") for band in BANDS
    ]
    assert units == {"ra": "deg", "dec": "deg", "nearest_distance": "arcsec"} | dict.fromkeys(fluxes, "nJy")


@pytest.mark.parametrize("rows", [slice(2, None), slice(0)])
def test_nothing_known_and_nothing_at_all(rows):
    whole = new_object_table(_objects(), _candidates(), BANDS, SCALE)
    table = new_object_table(_objects()[rows], _candidates(), BANDS, SCALE)
    assert len(table) == len(_objects()[rows])
    assert {name: table[name].dtype for name in table.colnames} == {
        name: whole[name].dtype for name in whole.colnames
    }
    assert (table["nearest_known"] == 0).all() and np.isnan(table["nearest_distance"]).all()
    assert np.isnan(table["nearest_flux_before_g"]).all()


def test_nothing_new():
    assert not len(new_object_table(_objects(), _candidates()[:1], BANDS, SCALE))
