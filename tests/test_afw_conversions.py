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


"""The stack's types to the core's and back; needs lsst.afw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import BLEND_SOURCES, make_scene
from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.butler import DataModelError
from lsst.meas.residualdetect.candidates import Candidate, add_candidates
from lsst.meas.residualdetect.detections import Footprint
from lsst.meas.residualdetect.psf_images import gaussian_psf

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

import lsst.afw.detection as afw_detection
import lsst.afw.image as afw_image
import lsst.geom as geom
from lsst.meas.algorithms import ImagePsf
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

from afw_repository import detect, make_exposures, make_skymap, read_exposures
from lsst.meas.residualdetect.butler.catalogues.afw import (
    Schemas,
    peak_ids,
    read_catalogue,
    write_catalogue,
)
from lsst.meas.residualdetect.butler.images.afw import AfwImages
from lsst.meas.residualdetect.butler.models.afw import AfwModels

PSEUDO = ("merge_peak_sky", "sky_source")
SCENE = make_scene(BLEND_SOURCES, rng=np.random.default_rng(5), shape=(100, 100))


@pytest.fixture(scope="module")
def sky():
    skymap = make_skymap(100)
    patch = skymap[0][0]
    exposures = make_exposures(SCENE, patch.getOuterBBox().getMin(), skymap[0].getWcs())
    return exposures, detect(exposures, skymap)


@pytest.fixture
def merged(sky):
    return sky[1]


@pytest.fixture
def schemas(merged):
    return Schemas(merged.schema.schema, merged.peak_schema.schema)


def _same_peaks(old, new, schema):
    assert len(old) == len(new)
    for one, other in zip(old, new, strict=True):
        for name in schema.getNames():
            assert one[name] == other[name] or one[name] != one[name]


def test_pixels_psfs_and_places(sky):
    exposures, merged = sky
    scene = read_exposures(exposures, merged.catalogue)
    np.testing.assert_array_equal(scene.images, SCENE.images)
    np.testing.assert_array_equal(scene.variance, SCENE.variance)
    np.testing.assert_allclose(scene.psfs, SCENE.psfs, atol=1e-7)
    box = exposures["g"].getBBox()
    assert scene.origin == (box.getMinY(), box.getMinX())
    assert scene.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-4)
    ra, dec = scene.sky_position(np.array([box.getMinY() + 3.0]), np.array([box.getMinX() + 5.0]))
    there = exposures["g"].getWcs().pixelToSky(box.getMinX() + 5.0, box.getMinY() + 3.0)
    assert (ra[0], dec[0]) == pytest.approx((there.getRa().asDegrees(), there.getDec().asDegrees()))


def test_mask_planes_by_name(sky):
    exposures = {band: exposure.clone() for band, exposure in sky[0].items()}
    exposures["r"].mask.addMaskPlane("STREAK")
    exposures["r"].mask.array[4, 5] |= exposures["r"].mask.getPlaneBitMask(["STREAK", "SAT"])
    scene = read_exposures(exposures, sky[1].catalogue)
    for plane in ("STREAK", "SAT"):
        bad = scene.bad([plane])
        assert bad.sum() == 1 and bad[1, 4, 5]


def test_an_exposure_without_a_psf_is_named(sky):
    exposures = {band: exposure.clone() for band, exposure in sky[0].items()}
    exposures["i"].setPsf(None)
    with pytest.raises(SceneError, match="band 'i' has no PSF"):
        read_exposures(exposures, sky[1].catalogue)


class HoledPsf(ImagePsf):
    """No PSF near a place, one that tells where it was asked for elsewhere."""

    def __init__(self, hole, radius):
        ImagePsf.__init__(self, isFixed=False)
        self._hole, self._radius = hole, radius

    def clone(self):
        return HoledPsf(self._hole, self._radius)

    def _doComputeBBox(self, position, color):  # noqa: N802
        return geom.Box2I(geom.Point2I(-7, -7), geom.Extent2I(15, 15))

    def _doComputeKernelImage(self, position, color):  # noqa: N802
        if (position - self._hole).computeNorm() < self._radius:
            raise afw_detection.InvalidPsfError("a hole")
        image = afw_image.ImageD(self._doComputeBBox(position, color))
        image.array[:] = gaussian_psf(1.5 + position.x / 1000, (15, 15))
        return image


def test_without_a_psf_at_the_centre_the_nearest_peak_s_is_taken(sky):
    exposures, merged = sky
    centre = geom.Point2D(exposures["r"].getBBox().getCenter())
    places = [
        geom.Point2D(peak.getI())
        for record in merged.catalogue
        for peak in record.getFootprint().peaks
        if peak["merge_peak_r"]
    ]
    nearest = min(places, key=lambda place: (place - centre).computeNorm())
    broken = {band: exposure.clone() for band, exposure in exposures.items()}
    broken["r"].setPsf(HoledPsf(centre, 1.0))
    scene = read_exposures(broken, merged.catalogue)
    expected = gaussian_psf(1.5 + nearest.x / 1000, (15, 15))
    middle = (scene.psfs.shape[1] - 15) // 2
    np.testing.assert_allclose(scene.psfs[1, middle:-middle, middle:-middle], expected, atol=1e-6)
    furthest = max((place - centre).computeNorm() for place in places)
    broken["r"].setPsf(HoledPsf(centre, furthest + 1.0))
    assert read_exposures(broken, merged.catalogue).psfs[1].sum() == pytest.approx(1, abs=1e-3)
    broken["r"].setPsf(HoledPsf(centre, 1e6))
    with pytest.raises(SceneError, match="band 'r' has no valid PSF anywhere"):
        read_exposures(broken, merged.catalogue)


def test_the_psf_of_a_place_is_the_exposure_s_there(sky):
    exposures, merged = sky
    box = exposures["r"].getBBox()
    centre = geom.Point2D(box.getCenter())
    varying = {band: exposure.clone() for band, exposure in exposures.items()}
    varying["r"].setPsf(HoledPsf(centre, 1.0))
    scene = read_exposures(varying, merged.catalogue)
    psf = scene.at(box.getMinY() + 4.0, box.getMinX() + 3.0).psfs
    middle = (psf.shape[1] - 15) // 2
    expected = gaussian_psf(1.5 + (box.getMinX() + 3) / 1000, (15, 15))
    np.testing.assert_allclose(psf[1, middle:-middle, middle:-middle], expected, atol=1e-6)
    # The others do not change, and where there is none that of the scene stays.
    np.testing.assert_allclose(psf[[0, 2]], scene.psfs[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(scene.at(centre.y, centre.x).psfs, scene.psfs, atol=1e-6)


def test_another_box_is_named(sky):
    exposures = dict(sky[0])
    exposures["i"] = exposures["i"][geom.Box2I(geom.Point2I(exposures["i"].getXY0()), geom.Extent2I(50, 50))]
    with pytest.raises(SceneError, match="differ in shape: .* band 'i'"):
        read_exposures(exposures, sky[1].catalogue)


def test_a_picture_is_the_coadd_with_other_pixels(sky):
    exposures, merged = sky
    scene = read_exposures(exposures, merged.catalogue)
    picture = AfwImages().picture(scene.images[0] * 2, scene, exposures["g"])
    np.testing.assert_array_equal(picture.image.array, 2 * exposures["g"].image.array)
    assert picture.getBBox() == exposures["g"].getBBox()
    assert picture.getWcs() == exposures["g"].getWcs()


def test_the_catalogue_is_read_whole(merged):
    detections = read_catalogue(merged.catalogue, PSEUDO)
    assert [parent.id for parent in detections] == [record.getId() for record in merged.catalogue]
    assert sum(parent.is_sky for parent in detections) == 5
    for parent, record in zip(detections, merged.catalogue, strict=True):
        footprint = record.getFootprint()
        assert parent.footprint.area == footprint.getArea()
        for peak, theirs in zip(parent.peaks, footprint.peaks, strict=True):
            assert (peak.y, peak.x) == (theirs.getFy(), theirs.getFx())
            assert ("r" in peak.bands) == theirs["merge_peak_r"]


def test_nothing_found_changes_nothing_but_the_schema(merged, schemas):
    detections = read_catalogue(merged.catalogue, PSEUDO)
    after = write_catalogue(detections, merged.catalogue, schemas)
    assert len(after) == len(merged.catalogue)
    for old, new in zip(merged.catalogue, after, strict=True):
        for name in merged.schema.schema.getNames():
            assert old[name] == new[name] or old[name] != old[name]
        assert not new["merge_footprint_residual"]
        assert new.getFootprint().spans == old.getFootprint().spans
        assert new.getFootprint().getRegion() == old.getFootprint().getRegion()
        _same_peaks(old.getFootprint().peaks, new.getFootprint().peaks, merged.peak_schema.schema)
        assert not any(peak["merge_peak_residual"] for peak in new.getFootprint().peaks)


def test_new_peaks_come_last_and_make_their_way_back(sky, schemas, tmp_path):
    exposures, merged = sky
    scene = read_exposures(exposures, merged.catalogue)
    detections = read_catalogue(merged.catalogue, PSEUDO)
    left_alone = [parent.id for parent in detections if parent.is_sky]
    first = next(parent for parent in detections if not parent.is_sky)
    y, x = first.peaks[0].y, first.peaks[0].x
    spot = np.ones((9, 9), bool)
    inside = Candidate(
        y + 4.75, x - 0.75, 0.9, Footprint.from_mask(spot, (int(y), int(x) - 4)), frozenset("gi")
    )
    top, left = scene.origin
    free = Candidate(
        top + 90.0, left + 90.0, 0.8, Footprint.from_mask(spot, (top + 86, left + 86)), frozenset("r")
    )
    found = add_candidates(detections, [inside, free], scene, left_alone=left_alone).detections
    after = write_catalogue(found, merged.catalogue, schemas)
    after.writeFits(str(tmp_path / "after.fits"))
    after = type(after).readFits(str(tmp_path / "after.fits"))

    assert read_catalogue(after, PSEUDO) == found
    grown = after.find(first.id)
    assert grown["merge_footprint_residual"]
    peaks = grown.getFootprint().peaks
    _same_peaks(merged.catalogue.find(first.id).getFootprint().peaks, peaks[:-1], merged.peak_schema.schema)
    assert peaks[-1]["merge_peak_residual"] and peaks[-1]["residual_iteration"] == 1
    assert [peaks[-1][f"merge_peak_{band}"] for band in "gri"] == [True, False, True]
    assert after[-1].getId() == found.parents[-1].id
    assert after[-1]["merge_footprint_r"] and not after[-1]["merge_footprint_g"]
    assert after[-1].getFootprint().getArea() > 81
    counts = np.zeros(scene.shape, int)
    for record in after:
        image = afw_image.MaskX(exposures["g"].getBBox())
        record.getFootprint().spans.setMask(image, 1)
        counts += image.array
    assert counts.max() == 1
    # Again: the schema has the fields already.
    assert Schemas(after.schema, schemas.peak).peak == schemas.peak


def test_what_stands_out_in_no_band_alone_has_the_flags_of_all(sky, schemas):
    exposures, merged = sky
    scene = read_exposures(exposures, merged.catalogue)
    detections = read_catalogue(merged.catalogue, PSEUDO)
    top, left = scene.origin
    spot = Footprint.from_mask(np.ones((5, 5), bool), (top + 88, left + 88))
    found = add_candidates(detections, [Candidate(top + 90.0, left + 90.0, 0.8, spot)], scene).detections
    founded = write_catalogue(found, merged.catalogue, schemas)[-1]
    for band in "gri":
        assert founded[f"merge_footprint_{band}"]
        assert founded.getFootprint().peaks[0][f"merge_peak_{band}"]
    assert not founded.getFootprint().peaks[0]["merge_peak_sky"]


def test_peak_ids_that_are_unique_only_in_their_parents(merged):
    catalogue = merged.catalogue.copy(deep=True)
    for record in catalogue:
        for number, peak in enumerate(record.getFootprint().peaks, start=1):
            peak.setId(number)
    ids = peak_ids(catalogue)
    assert len(set(ids.values())) == len(ids)
    assert ids == peak_ids(catalogue)


def test_a_record_without_peaks_is_named(merged):
    catalogue = merged.catalogue.copy(deep=True)
    catalogue[1].setFootprint(afw_detection.Footprint(catalogue[1].getFootprint().spans))
    with pytest.raises(DataModelError, match=f"record {catalogue[1].getId()} is no parent"):
        read_catalogue(catalogue, PSEUDO)


def test_models_of_an_older_format_are_refused(merged):
    legacy = LsstScarletModelData.parse_obj(
        {"blends": {}, "metadata": {"psf": [1.0], "psfShape": [1, 1]}, "version": "1.0.0"}
    )
    with pytest.raises(DataModelError, match="no bands, model_psf in their metadata: .* older"):
        AfwModels().read(legacy, merged.catalogue)


def test_sources_that_do_not_say_whose_peak_they_are_of_are_refused(merged):
    metadata = {"bands": ("g",), "psf": np.ones((1, 3, 3)), "model_psf": np.ones((3, 3))}
    blend = SimpleNamespace(sources={"1": SimpleNamespace(metadata={"id": 1}, components=[])})
    parent = merged.catalogue[0].getId()
    models = LsstScarletModelData(blends={parent: blend}, metadata=metadata)
    with pytest.raises(DataModelError, match=f"no peak_id of a source in parent {parent} .* older"):
        AfwModels().read(models, merged.catalogue)


def test_models_of_another_catalogue_are_refused(merged):
    metadata = {"bands": ("g",), "psf": np.ones((1, 3, 3)), "model_psf": np.ones((3, 3))}
    models = LsstScarletModelData(blends={12345: None}, metadata=metadata)
    with pytest.raises(DataModelError, match=r"parents \[12345\], which the catalogue lacks"):
        AfwModels().read(models, merged.catalogue)
    models.blends = {}
    assert len(AfwModels().read(models, merged.catalogue)) == 0
