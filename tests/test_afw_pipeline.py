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


"""The stack's deblender and residual detection under pipetask; needs the stack.

Deconvolution, deblend, residual detection and the deblend again, twice, in a
repository of simulated coadds that the stack itself detected in.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

import lsst.afw.image as afw_image
import lsst.geom as geom
from lsst.daf.butler import Butler
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

from afw_repository import (
    PIPELINE,
    RUN,
    WHERE,
    create_repository,
    detect,
    fill_patch,
    make_skymap,
    pipetask,
    select,
    simulate_exposures,
)

BANDS = tuple("grizy")
SIDE = 300


@pytest.fixture(scope="module")
def sky():
    skymap = make_skymap(SIDE)
    exposures = simulate_exposures(skymap, BANDS, 11, exposure_factor=0.1)
    return skymap, exposures, detect(exposures, skymap)


@pytest.fixture(scope="module")
def repo(sky, tmp_path_factory):
    skymap, exposures, merged = sky
    root = tmp_path_factory.mktemp("afw") / "repo"
    fill_patch(create_repository(root, skymap, BANDS), exposures, merged)
    options = ("-c", "residualDetection:write_images=True")
    # New peaks in both iterations, right or wrong, whatever the threshold that ships.
    options += ("-c", "residualDetection:score_threshold=0.3", "-c", "residualDetection2:score_threshold=0.1")
    print(pipetask(root, "-p", str(PIPELINE), *options))
    return root


@pytest.fixture(scope="module")
def butler(repo):
    return Butler.from_config(str(repo), collections="out")


def _metadata(butler, label):
    return butler.get(f"{label}_metadata", WHERE)[label].to_dict()


def test_children_of_new_peaks_carry_the_flag_and_no_others(butler):
    merged = butler.get("object_detection_merged_residual", WHERE)
    objects = butler.get("object_deblend_residual", WHERE)
    new = {
        (record.getId(), peak.getId())
        for record in merged
        for peak in record.getFootprint().peaks
        if peak["merge_peak_residual"]
    }
    assert len(new) == _metadata(butler, "residualDetection")["n_new_peaks"] > 5
    flagged = {
        (record.getParent() or record.getId(), record["deblend_peakId"])
        for record in objects
        if record["merge_peak_residual"]
    }
    made = {(record.getParent() or record.getId(), record["deblend_peakId"]) for record in objects}
    assert flagged == new & made
    # The deblender may drop a source without light, but hardly any.
    assert len(flagged) > 0.9 * len(new)
    for record in objects:
        assert bool(record["merge_peak_residual"]) == (record["residual_iteration"] == 1)
    assert not any(
        name.startswith("residual_") for name in butler.get("object_deblend_schema").schema.getNames()
    )


@pytest.mark.parametrize("suffixes", [("", "_residual"), ("_residual", "_residual2")])
def test_old_peaks_and_unchanged_parents_stay_as_they_were(butler, suffixes):
    before, after = (butler.get(f"object_detection_merged{suffix}", WHERE) for suffix in suffixes)
    names = before.schema.getNames() - {"merge_footprint_residual"}
    peak_names = before[0].getFootprint().peaks.schema.getNames()
    changed = 0
    for old, new in zip(before, after, strict=False):
        for name in names:
            assert old[name] == new[name] or old[name] != old[name]
        peaks = old.getFootprint().peaks, new.getFootprint().peaks
        for one, other in zip(*peaks, strict=False):
            assert all(one[name] == other[name] or one[name] != one[name] for name in peak_names)
        if len(peaks[0]) == len(peaks[1]):
            assert old.getFootprint().spans == new.getFootprint().spans
        else:
            changed += 1
            assert new["merge_footprint_residual"]
            assert old.getFootprint().spans.intersect(new.getFootprint().spans) == old.getFootprint().spans
    assert changed > 0


def test_footprints_do_not_overlap(butler):
    merged = butler.get("object_detection_merged_residual2", WHERE)
    box = butler.get("deep_coadd", WHERE | {"band": "i"}).getBBox()
    counts = np.zeros((box.getHeight(), box.getWidth()), int)
    for record in merged:
        image = afw_image.MaskX(box)
        record.getFootprint().spans.setMask(image, 1)
        counts += image.array
    assert counts.max() == 1


def test_counts_add_up(butler):
    merged = butler.get("object_detection_merged", WHERE)
    counts = _metadata(butler, "residualDetection")
    single = sum(len(record.getFootprint().peaks) == 1 for record in merged)
    assert counts["n_parents"] == len(merged)
    assert counts["n_sky"] == sum(record["merge_footprint_sky"] for record in merged)
    assert counts["n_singles"] == single - counts["n_sky"]
    assert counts["n_left_alone"] == 0
    print({name: counts[name] for name in counts if name.startswith("n_")})


def test_the_residual_is_the_coadd_minus_the_model_and_is_small(butler):
    for band in BANDS:
        where = WHERE | {"band": band}
        coadd, model, residual = (
            butler.get(name, where) for name in ("deep_coadd", "deep_coadd_model", "deep_coadd_residual")
        )
        good = np.isfinite(coadd.image.array)
        expected = (coadd.image.array - model.image.array)[good]
        np.testing.assert_allclose(residual.image.array[good], expected, atol=1e-3)
        inside = good & (model.image.array > 0)
        chi = residual.image.array[inside] / np.sqrt(coadd.variance.array[inside])
        assert 0.8 < 1.4826 * np.median(np.abs(chi - np.median(chi))) < 1.25


def test_the_table_of_candidates(butler):
    table = butler.get("object_candidates_residual", WHERE)
    wcs = butler.get("deep_coadd", WHERE | {"band": "i"}).getWcs()
    became = table[table["peak"] > 0]
    assert len(became) == _metadata(butler, "residualDetection")["n_new_peaks"]
    sky = wcs.pixelToSky(geom.Point2D(became["x"][0], became["y"][0]))
    assert became["ra"][0] == pytest.approx(sky.getRa().asDegrees())
    assert became["dec"][0] == pytest.approx(sky.getDec().asDegrees())
    assert all(f"snr_{band}" in table.colnames for band in BANDS)


@pytest.mark.parametrize(("suffix", "iteration"), [("_residual", 1), ("_residual2", 2)])
def test_the_table_of_new_objects_stands_alone(butler, suffix, iteration):
    table = butler.get(f"object{suffix}", WHERE)
    objects = {record.getId(): record for record in butler.get(f"object_deblend{suffix}", WHERE)}
    new = {i for i, record in objects.items() if record["residual_iteration"] == iteration}
    assert new and set(table["id"]) == new
    assert list(table["score"]) == [objects[i]["residual_score"] for i in table["id"]]
    assert all(objects[i]["residual_iteration"] < iteration for i in table["nearest_known"])
    wcs = butler.get("deep_coadd", WHERE | {"band": "i"}).getWcs()
    for row in table:
        x, y = (objects[row["id"]][f"deblend_peak_center_{axis}"] for axis in "xy")
        place = wcs.pixelToSky(geom.Point2D(x, y))
        there = geom.SpherePoint(row["ra"], row["dec"], geom.degrees)
        # The nearest pixel's.
        assert place.separation(there).asArcseconds() < 0.2
    assert all(table[name].description for name in table.colnames)
    assert {str(table[f"flux_{band}"].unit) for band in BANDS} == {"nJy"}
    assert np.isfinite(table["flux_i"][table["parent"] > 0]).all()


def _put(repo, run, catalogue=None, models=None, coadds=()):
    """Data sets that go before those of the good run."""
    butler = Butler.from_config(str(repo), writeable=True)
    butler.registry.registerRun(run)
    if catalogue is not None:
        butler.put(catalogue, "object_detection_merged", WHERE, run=run)
    if models is not None:
        butler.put(models, "object_scarlet_models", WHERE, run=run)
    for coadd in coadds:
        butler.put(coadd, "deep_coadd", WHERE | {"band": coadd.getFilter().bandLabel}, run=run)


def _detect_again(repo, run, *options, ok=True):
    text = pipetask(
        repo, "-p", f"{PIPELINE}#residualDetection", *options, first=run, output=f"again/{run}", ok=ok
    )
    return text, Butler.from_config(str(repo), collections=f"again/{run}")


def _without_blends(models):
    return LsstScarletModelData(blends={}, metadata=models.metadata)


def test_an_empty_catalogue_is_no_work(repo, sky):
    _put(repo, "empty", catalogue=select(sky[2].catalogue, lambda record: False))
    text, after = _detect_again(repo, "empty")
    assert "the detection catalogue is empty" in text
    # What is there is the good run's.
    assert after.find_dataset("object_detection_merged_residual", WHERE).run.startswith("out/")


def test_only_sky_objects_pass_through_and_are_counted(repo, butler, sky):
    is_sky = sky[2].catalogue.schema.find("merge_footprint_sky").key
    only = select(sky[2].catalogue, lambda record: record.get(is_sky))
    _put(repo, "sky", only, _without_blends(butler.get("object_scarlet_models", WHERE)))
    _, after = _detect_again(repo, "sky")
    counts = _metadata(after, "residualDetection")
    assert (counts["n_sky"], counts["n_parents"], counts["n_new_peaks"]) == (len(only), len(only), 0)
    merged = after.get("object_detection_merged_residual", WHERE)
    assert [record.getId() for record in merged] == [record.getId() for record in only]


def test_an_exposure_without_psf_is_named(repo, sky):
    coadd = sky[1]["z"].clone()
    coadd.setPsf(None)
    _put(repo, "no_psf", coadds=[coadd])
    text, _ = _detect_again(repo, "no_psf", ok=False)
    assert "the coadd in band 'z' has no PSF" in text
    assert "patch: 0" in text


def test_a_band_missing_from_the_models(repo):
    pipetask(
        repo,
        "-p",
        f"{PIPELINE}#deconvolve,deblendCoaddFootprints",
        "-d",
        "band != 'y'",
        output="four",
        first=RUN,
    )
    _, after = _detect_again(repo, "four")
    assert "snr_y" not in after.get("object_candidates_residual", WHERE).colnames
    asked = ("-c", "residualDetection:bands=['g', 'y']", "-c", "residualDetection:score_threshold=0.9")
    text = pipetask(
        repo, "-p", f"{PIPELINE}#residualDetection", *asked, first="four", output="four_y", ok=False
    )
    assert "the models have bands ['g', 'i', 'r', 'z'], not ['y']" in text


@pytest.mark.parametrize("limit", ["maxNumberOfPeaks=2", "maxFootprintArea=500"])
def test_what_the_deblender_skips_is_left_alone(repo, butler, limit):
    name = limit.split("=")[0]
    option = f"deblendCoaddFootprints:multibandDeblend.{limit}"
    pipetask(repo, "-p", f"{PIPELINE}#deblendCoaddFootprints", "-c", option, output=name, first="out")
    text, after = _detect_again(repo, name)
    counts = _metadata(after, "residualDetection")
    assert counts["n_left_alone"] > 0
    assert "parents left alone: " in text
    models = after.get("object_scarlet_models", WHERE, collections=name)
    whole = {int(parent) for parent in butler.get("object_scarlet_models", WHERE).blends}
    gone = whole - {int(parent) for parent in models.blends}
    before, merged = (after.get(f"object_detection_merged{suffix}", WHERE) for suffix in ("", "_residual"))
    for parent in gone:
        assert len(merged.find(parent).getFootprint().peaks) == len(before.find(parent).getFootprint().peaks)


def test_a_parent_of_601_peaks_without_a_model(repo, butler):
    catalogue = butler.get("object_detection_merged", WHERE).copy(deep=True)
    models = butler.get("object_scarlet_models", WHERE)
    largest = max(catalogue, key=lambda record: record.getFootprint().getArea())
    peaks = largest.getFootprint().peaks
    spans = list(largest.getFootprint().spans)
    for number in range(601 - len(peaks)):
        span = spans[number % len(spans)]
        largest.getFootprint().addPeak(span.getX0() + number // len(spans), span.getY(), 1.0).setId(
            100_000 + number
        )
    models.blends.pop(largest.getId(), None)
    _put(repo, "crowd", catalogue, models)
    text, after = _detect_again(repo, "crowd")
    assert "1 parents left alone: the deblender made no model of its 601 peaks" in text
    merged = after.get("object_detection_merged_residual", WHERE)
    assert len(merged.find(largest.getId()).getFootprint().peaks) == 601


def test_no_model_at_all_is_annotated_and_passes_the_catalogue_on(repo, butler):
    catalogue = butler.get("object_detection_merged", WHERE)
    blends = select(catalogue, lambda record: len(record.getFootprint().peaks) > 1)
    _put(repo, "none", blends, _without_blends(butler.get("object_scarlet_models", WHERE)))
    text, after = _detect_again(repo, "none", ok=None)
    assert f"none of {len(blends)} parents has a model" in text
    merged = after.get("object_detection_merged_residual", WHERE)
    assert [record.getId() for record in merged] == [record.getId() for record in blends]
    assert any("has a model" in str(value) for value in merged.metadata.toDict().values())
