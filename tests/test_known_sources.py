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


"""Catalogues and segmentation maps of sources that are known."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from lsst.meas.residualdetect.boxes import nearest_pixel
from lsst.meas.residualdetect.io.fits_common import FitsError
from lsst.meas.residualdetect.io.remarks import Remarks
from lsst.meas.residualdetect.io.survey.fits_planes import FitsPath
from lsst.meas.residualdetect.io.survey.fits_psf import PsfWidth
from lsst.meas.residualdetect.io.survey.fits_scene import read_fits_scene
from lsst.meas.residualdetect.io.survey.known_table import read_footprints, read_known
from lsst.meas.residualdetect.io.survey.sky_wcs import SkyWcs
from survey_files import CARDS, SHAPE, noise_image, star, write

PEAKS = np.array([[10.0, 20.0], [25.0, 30.0], [40.5, 12.25]])
WCS_OF_IMAGE = SkyWcs(WCS(fits.Header(CARDS)))


def sky():
    return WCS_OF_IMAGE(*PEAKS.T)


@pytest.mark.parametrize("ending", ["ecsv", "fits", "csv", "xml", "parquet", "txt"])
def test_tables_of_any_format(tmp_path, ending):
    table = Table({"id": ["a", "b", "c"], "x": PEAKS[:, 1], "y": PEAKS[:, 0]})
    path = tmp_path / f"known.{ending}"
    table.write(path, format={"xml": "votable", "txt": "ascii.commented_header"}.get(ending))
    peaks, ids = read_known(path, SHAPE, None, Remarks())
    np.testing.assert_allclose(peaks, PEAKS)
    assert ids.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "columns",
    [
        {"RA": lambda ra, dec: ra, "DEC": lambda ra, dec: dec},
        {"ALPHA_J2000": lambda ra, dec: ra * u.deg, "DELTA_J2000": lambda ra, dec: dec * u.deg},
        {
            "coord_ra": lambda ra, dec: np.radians(ra) * u.rad,
            "coord_dec": lambda ra, dec: np.radians(dec) * u.rad,
        },
    ],
)
def test_sky_positions(tmp_path, columns):
    table = Table({name: make(*sky()) for name, make in columns.items()})
    table.write(tmp_path / "known.ecsv")
    peaks, ids = read_known(tmp_path / "known.ecsv", SHAPE, WCS_OF_IMAGE, Remarks())
    np.testing.assert_allclose(peaks, PEAKS, atol=1e-5)
    assert ids.tolist() == ["1", "2", "3"]
    with pytest.raises(FitsError, match="no WCS"):
        read_known(tmp_path / "known.ecsv", SHAPE, None, Remarks())


def test_sextractor_counts_from_one(tmp_path):
    Table({"NUMBER": [7, 8, 9], "X_IMAGE": PEAKS[:, 1] + 1, "Y_IMAGE": PEAKS[:, 0] + 1}).write(
        tmp_path / "c.fits"
    )
    peaks, ids = read_known(tmp_path / "c.fits", SHAPE, None, Remarks())
    np.testing.assert_allclose(peaks, PEAKS)
    assert ids.tolist() == ["7", "8", "9"]


def test_what_does_not_lie_in_the_image_is_left_out_and_said(tmp_path):
    ra, dec = sky()
    Table({"id": [1, 2, 3, 4, 5], "ra": [*ra, 150.0, np.nan], "dec": [*dec, 2.1, 2.0]}).write(
        tmp_path / "c.ecsv"
    )
    remarks = Remarks()
    peaks, ids = read_known(tmp_path / "c.ecsv", SHAPE, WCS_OF_IMAGE, remarks)
    assert ids.tolist() == ["1", "2", "3"] and len(peaks) == 3
    assert "1 of 5 sources lie outside" in remarks.notes[0] and "1 of 5" in remarks.doubts[0]
    Table({"ra": [151.0], "dec": [2.0]}).write(tmp_path / "far.ecsv")
    with pytest.raises(FitsError, match="none of 1 sources lies in the image"):
        read_known(tmp_path / "far.ecsv", SHAPE, WCS_OF_IMAGE, Remarks())


def test_pixels_and_sky_of_two_images(tmp_path):
    ra, dec = sky()
    Table({"x": PEAKS[:, 1] + 500, "y": PEAKS[:, 0] + 900, "ra": ra, "dec": dec}).write(tmp_path / "c.ecsv")
    remarks = Remarks()
    peaks, _ = read_known(tmp_path / "c.ecsv", SHAPE, WCS_OF_IMAGE, remarks)
    np.testing.assert_allclose(peaks, PEAKS, atol=1e-5)
    assert "made of another image" in remarks.notes[0]


def labelled():
    """Two stars, and which pixels are theirs."""
    image = noise_image(SHAPE, 0.1)
    labels = np.zeros(SHAPE, np.int32)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for number, (y, x) in enumerate(PEAKS[:2], start=1):
        image += star(SHAPE, y, x, 500, 4)
        labels[np.hypot(rows - y, columns - x) < 7] = number
    return image, labels


def test_footprints_right_and_inverted(tmp_path):
    image, labels = labelled()
    path = FitsPath(write(tmp_path / "seg.fits", {"SEG": labels}))
    np.testing.assert_array_equal(
        read_footprints(path, image[None], nearest_pixel(PEAKS[:2]), Remarks()), labels
    )
    np.testing.assert_array_equal(read_footprints(path, image[None], None, Remarks()), labels)
    path = FitsPath(write(tmp_path / "inverted.fits", {"SEG": (labels == 0).astype(np.uint8)}))
    for peaks in (nearest_pixel(PEAKS[:2]), None):
        with pytest.raises(FitsError, match="looks inverted"):
            read_footprints(path, image[None], peaks, Remarks())


def test_a_scene_with_its_catalogue_and_footprints(tmp_path):
    image, labels = labelled()
    ra, dec = sky()
    Table({"objid": [11, 12], "ra": ra[:2], "dec": dec[:2]}).write(tmp_path / "c.fits")
    content = read_fits_scene(
        {"r": write(tmp_path / "r.fits", {"SCI": image})},
        psfs={"r": PsfWidth(0.7)},
        peaks=tmp_path / "c.fits",
        footprints=write(tmp_path / "seg.fits", {"SEG": labels}),
    )
    np.testing.assert_allclose(content.peaks, PEAKS[:2], atol=1e-5)
    assert content.peak_ids.tolist() == ["11", "12"]
    np.testing.assert_array_equal(content.footprints, labels)
    assert [name.rsplit("/", 1)[-1] for name in content.files] == ["r.fits", "c.fits", "seg.fits"]
