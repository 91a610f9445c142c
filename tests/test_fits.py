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
import pytest
from astropy.io import fits as astropy_fits
from astropy.wcs import WCS

from conftest import make_scene
from lsst.meas.residualdetect import Detections, ParentModel, Peak, SceneModel, SourceModel
from lsst.meas.residualdetect.io.fits_coadd import read_coadd, write_coadd
from lsst.meas.residualdetect.io.fits_common import FitsError
from lsst.meas.residualdetect.io.fits_detections import read_detections, write_detections
from lsst.meas.residualdetect.io.fits_models import read_model, write_model
from lsst.meas.residualdetect.io.model_images import write_model_images
from lsst.meas.residualdetect.io.survey.sky_wcs import SkyWcs
from lsst.meas.residualdetect.psf_images import gaussian_psf
from survey_files import CARDS


@pytest.fixture
def coadd():
    scene = make_scene([(130, 233, 100)], rng=np.random.default_rng(1), origin=(100, 200), name="one")
    scene.mask[1, 3, 4] = (1 << 5) | 1
    return scene.select_bands(["r"])


def test_coadd_round_trip(tmp_path, coadd):
    coadd.variance[0, 2, 2] = np.inf
    write_coadd(tmp_path / "r.fits", coadd)
    back = read_coadd(tmp_path / "r.fits")
    for key in ("images", "variance", "mask", "psfs"):
        expected = getattr(coadd, key)
        if key == "mask":  # an infinite variance is NO_DATA
            expected = expected.copy()
            expected[0, 2, 2] |= 1 << coadd.mask_planes["NO_DATA"]
        if key == "images":
            expected = expected.copy()
            expected[0, 2, 2] = 0
        np.testing.assert_allclose(getattr(back, key), expected, rtol=2e-7)
    for key in ("bands", "name", "origin", "pixel_scale_arcsec", "mask_planes"):
        assert getattr(back, key) == getattr(coadd, key)


def test_how_wide_a_pixel_is_may_be_said_by_the_wcs(tmp_path, coadd, caplog):
    path = tmp_path / "r.fits"
    write_coadd(path, coadd)
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_1": -0.168 / 3600, "CD2_2": 0.168 / 3600}
    astropy_fits.delval(path, "PIXSCALE")
    assert read_coadd(path).pixel_scale_arcsec == 0.2
    assert "r.fits: neither PIXSCALE nor a WCS says how wide a pixel is" in caplog.text
    for card, value in wcs.items():
        astropy_fits.setval(path, card, value=value, extname="IMAGE")
    assert read_coadd(path).pixel_scale_arcsec == pytest.approx(0.168)


@pytest.mark.parametrize("distorted", [False, True])
def test_where_the_pixels_are_on_the_sky_comes_back(tmp_path, coadd, distorted):
    cards = dict(CARDS)
    if distorted:
        cards |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}
        cards |= {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4, "A_0_2": 0, "B_0_2": -2e-4, "B_2_0": 0}
    sky = SkyWcs(WCS(astropy_fits.Header(cards)))
    placed = replace(coadd, sky_position=sky)
    write_coadd(tmp_path / "r.fits", placed)
    back = read_coadd(tmp_path / "r.fits")
    # In patch coordinates, as everything; a FITS viewer counts the file's pixels from 1.
    y, x = np.array([100.0, 130.5]), np.array([233.0, 200.0])
    np.testing.assert_allclose(back.sky(y, x), sky(y, x), rtol=0, atol=1e-9)
    (model, residual) = write_model_images(tmp_path / "pictures", placed, 0 * coadd.images)
    for path, plane in ((tmp_path / "r.fits", "IMAGE"), (model, 0), (residual, 0)):
        seen = WCS(astropy_fits.getheader(path, plane))
        there = seen.pixel_to_world(x - coadd.origin[1], y - coadd.origin[0])
        np.testing.assert_allclose([there.ra.deg, there.dec.deg], sky(y, x), rtol=0, atol=1e-9)


def test_coadd_is_plain_fits(tmp_path, coadd):
    write_coadd(tmp_path / "r.fits", coadd)
    with astropy_fits.open(tmp_path / "r.fits") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "PSF"]
        assert hdus["MASK"].header["MP_NO_DATA"] == 8
        # DS9's physical coordinates are the patch's, counted from 1.
        assert (1 - hdus["IMAGE"].header["LTV1"], 1 - hdus["IMAGE"].header["LTV2"]) == (201, 101)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hdus: hdus.pop(4), "no PSF extension"),
        (lambda hdus: hdus[0].header.remove("BAND"), "neither BAND nor FILTER"),
        (lambda hdus: setattr(hdus[3], "data", hdus[3].data[1:]), "variance has shape"),
        (lambda hdus: setattr(hdus[4], "data", hdus[4].data[1:]), "both sides must be odd"),
        (lambda hdus: setattr(hdus[4], "data", 0 * hdus[4].data), "PSF in band 'r' sums to 0"),
    ],
)
def test_a_bad_coadd_is_named_with_its_fault(tmp_path, coadd, change, words):
    write_coadd(tmp_path / "good.fits", coadd)
    with astropy_fits.open(tmp_path / "good.fits") as hdus:
        change(hdus)
        hdus.writeto(tmp_path / "bad.fits")
    with pytest.raises(FitsError) as caught:
        read_coadd(tmp_path / "bad.fits")
    assert "bad.fits: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("fraction", [0, 0.01, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_a_truncated_coadd_is_named(tmp_path, coadd, fraction):
    write_coadd(tmp_path / "good.fits", coadd)
    content = (tmp_path / "good.fits").read_bytes()
    (tmp_path / "short.fits").write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(FitsError, match="short.fits: "):
        read_coadd(tmp_path / "short.fits")


def test_a_coadd_file_holds_one_band(tmp_path):
    with pytest.raises(ValueError, match="holds one band"):
        write_coadd(tmp_path / "gri.fits", make_scene([]))


@pytest.mark.parametrize("empty", [False, True])
def test_detections_round_trip(tmp_path, empty):
    labels = np.zeros((20, 20), int)
    labels[2:5, 3:9] = 1
    labels[10:18, 10:12] = 2
    peaks = [Peak(1, 3, 4.25, frozenset("gr")), Peak(2, 12, 11), Peak(5, 4, 8, frozenset("i"), 2, 7.5)]
    one, other = Detections.from_labels(labels, peaks, (0, 0))
    detections = Detections(() if empty else (one, replace(other, is_sky=True)))
    write_detections(tmp_path / "d.fits", detections)
    back = read_detections(tmp_path / "d.fits")
    assert back == detections


def test_detections_are_small(tmp_path):
    # A span for each row, not an image for each footprint.
    labels = np.zeros((2000, 2000), int)
    labels[100:1900, 100:1900] = 1
    write_detections(tmp_path / "d.fits", Detections.from_labels(labels, [Peak(1, 200, 200)]))
    assert (tmp_path / "d.fits").stat().st_size < 100_000


@pytest.mark.parametrize("n_parents", [0, 1, 3])
def test_models_round_trip(tmp_path, n_parents):
    rng = np.random.default_rng(2)
    scene = make_scene([])

    def source(peak):
        shape = tuple(rng.integers(1, 9, 2))
        return SourceModel(
            peak, rng.random(3, np.float32), rng.random(shape, np.float32), (int(rng.integers(-3, 9)), 5)
        )

    parents = (
        ParentModel(4, (source(1), source(2), source(2)), 12.5, 30, 17, True),
        ParentModel(9, (), failure="every pixel is masked"),
        ParentModel(11, (source(7),), 1e9, 10**9, 200, False, unmodelled={8: "masked", 9: "outside"}),
    )[:n_parents]
    model = SceneModel(scene.bands, scene.psfs, gaussian_psf(0.8, (17, 17)).astype(np.float32), parents)
    write_model(tmp_path / "m.fits", model)
    back = read_model(tmp_path / "m.fits")
    assert back.bands == model.bands
    np.testing.assert_array_equal(back.model_psf, model.model_psf)
    np.testing.assert_array_equal(back.psfs, model.psfs)
    np.testing.assert_array_equal(back.image(scene), model.image(scene))
    for new, old in zip(back, model, strict=True):
        assert repr(new).split("sources")[0] == repr(old).split("sources")[0]
        assert (new.n_pixels, new.n_iterations, new.converged, new.failure, new.unmodelled) == (
            old.n_pixels,
            old.n_iterations,
            old.converged,
            old.failure,
            old.unmodelled,
        )
        for ours, theirs in zip(new.sources, old.sources, strict=True):
            assert (ours.peak_id, ours.origin) == (theirs.peak_id, theirs.origin)
            np.testing.assert_array_equal(ours.morphology, theirs.morphology)
            np.testing.assert_array_equal(ours.spectrum, theirs.spectrum)
            ours.morphology[:] = 0  # writable, and no longer tied to the file
