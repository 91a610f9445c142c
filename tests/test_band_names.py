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


"""What surveys call the bands."""

from __future__ import annotations

import pytest

from lsst.meas.residualdetect.io.band_names import BandNameError, canonical_band, canonical_bands


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("g", "g"),
        ("G", "g"),
        (b"r", "r"),
        ("i ", "i"),
        ("HSC-I", "i"),
        ("HSC-R2", "r"),
        ("HSC-Y", "y"),
        ("i2", "i"),
        ("DECam i", "i"),
        ("z DECam SDSS c0004 9260.0 1520.0", "z"),
        ("Y DECam c0005 10095.0 1130.0", "y"),
        ("lsst_i", "i"),
        ("lsst.g", "g"),
        ("LSST-u", "u"),
        ("i_sdss", "i"),
        ("SDSS g'", "g"),
        ("g_01", "g"),
        ("i_39", "i"),
        ("i.MP9702", "i"),
        ("rp1", "r"),
        ("g.00000", "g"),
        ("des_z", "z"),
        ("kids_r", "r"),
    ],
)
def test_surveys_names_are_known(name, band):
    assert canonical_band(name) == band


@pytest.mark.parametrize(
    "name", ["R", "I", "U", "V", "VR", "Y106", "VIS", "H", "J", "Ks", "F814W", "", "gr", "i3", "HSC", "N921"]
)
def test_other_filters_are_not_taken_for_ours(name):
    assert canonical_band(name) is None
    with pytest.raises(BandNameError, match=f"unknown bands {name!r}"):
        canonical_bands(["g", name])


def test_a_map_overrides_the_table_and_keeps_names():
    assert canonical_bands(["i2", "VIS", "H"], {"i2": "z", "VIS": "r", "H": "H"}) == ("z", "r", "H")


def test_all_unknown_bands_are_listed():
    with pytest.raises(BandNameError, match=r"'VR', 'Y106'.*u, g, r, i, z, y"):
        canonical_bands(["g", "VR", "Y106"])


def test_cousins_filters_are_hinted_at():
    with pytest.raises(BandNameError, match="Cousins"):
        canonical_bands(["g", "R", "I"])


def test_one_band_under_two_names_is_refused():
    with pytest.raises(BandNameError, match="'HSC-I' and 'HSC-I2' are all 'i'"):
        canonical_bands(["HSC-I", "g", "HSC-I2"])


def test_a_map_to_nowhere_is_refused():
    with pytest.raises(BandNameError, match="'VIS' to 'optical'"):
        canonical_bands(["VIS"], {"VIS": "optical"})
