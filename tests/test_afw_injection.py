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


"""Companions injected with source_injection, and found again; needs the stack."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")
pytest.importorskip("lsst.source.injection", reason="needs the LSST Science Pipelines (source_injection)")

from astropy.table import Table
from lsst.daf.butler import Butler, DatasetType

from afw_repository import (
    PIPELINE,
    RUN,
    WHERE,
    create_repository,
    detect,
    fill_patch,
    make_skymap,
    pipetask,
    simulate_exposures,
)
from lsst.meas.residualdetect.injection.companion_counts import summarise_companions
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.tasks.inject_companions import InjectCompanionsConfig, InjectCompanionsTask
from lsst.meas.residualdetect.truth import PeakClass, TruthClass

BANDS = tuple("grizy")
SIDE = 450
INJECTED = find_file("pipelines", "injected_companions.yaml")
ALL_HOSTS = ("-c", "parameters:fraction=1.0")


@pytest.fixture(scope="module")
def sky():
    skymap = make_skymap(SIDE)
    return skymap, simulate_exposures(skymap, BANDS, 21, exposure_factor=0.1)


@pytest.fixture(scope="module")
def repo(sky, tmp_path_factory):
    skymap, exposures = sky
    root = tmp_path_factory.mktemp("injection") / "repo"
    fill_patch(create_repository(root, skymap, BANDS), exposures, detect(exposures, skymap))
    pipetask(root, "-p", f"{PIPELINE}#deconvolve,deblendCoaddFootprints")
    print(pipetask(root, "-p", str(INJECTED), *ALL_HOSTS, first="out", output="injected"))
    return root


@pytest.fixture(scope="module")
def butler(repo):
    return Butler.from_config(str(repo), collections="injected")


@pytest.fixture(scope="module")
def companions(butler):
    return butler.get("injected_evaluation_companions_residual", WHERE)


def _inject(exposure, companions, band, seed=1, **options):
    task = InjectCompanionsTask(config=InjectCompanionsConfig(**options))
    return task.run(exposure.clone(), companions, band, np.random.default_rng(seed))


def _alone(exposure, flux, **columns):
    """A catalogue of one companion in the middle of the patch."""
    centre = exposure.getBBox().getCenter()
    y, x = centre.y + 0.3, centre.x - 0.2
    ra, dec = exposure.getWcs().pixelToSkyArray(np.array([x]), np.array([y]), degrees=True)
    shape = {"source_type": "Sersic", "n": 1.0, "half_light_radius": 0.3, "q": 0.6, "beta": 30.0} | columns
    row = {"id": 1, "ra": ra[0], "dec": dec[0], "y": y, "x": x, "flux_i": flux, **shape}
    return Table({name: [value] for name, value in row.items()})


@pytest.mark.parametrize("kind", ["Sersic", "DeltaFunction"])
def test_the_light_injected_is_what_was_asked_for_where_it_was_asked_for(sky, kind):
    exposure = sky[1]["i"].clone()
    asked = _alone(exposure, 5000.0, source_type=kind)
    result = _inject(exposure, asked, "i", add_noise=False)
    light = result.injected.image.array - exposure.image.array
    # The calibration is that of an aperture of 12 pixels.
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    dy = rows + exposure.getY0() - asked["y"][0]
    dx = columns + exposure.getX0() - asked["x"][0]
    assert light[np.hypot(dy, dx) <= 12].sum() == pytest.approx(5000.0, rel=0.01)
    assert (light * dy).sum() / light.sum() == pytest.approx(0, abs=0.03)
    assert (light * dx).sum() / light.sum() == pytest.approx(0, abs=0.03)
    np.testing.assert_array_equal(result.injected.variance.array, exposure.variance.array)
    assert result.in_band["mag_i"][0] == pytest.approx(31.4 - 2.5 * np.log10(5000.0), abs=2e-3)
    assert result.injected.getMetadata()["INJECTED"]


def test_magnitudes_follow_the_calibration(sky):
    # The same light in a coadd of another zero point: another flux, the same magnitude.
    from lsst.afw.image import PhotoCalib

    exposure = sky[1]["i"].clone()
    exposure.setPhotoCalib(PhotoCalib(10.0))
    result = _inject(exposure, _alone(exposure, 500.0), "i", add_noise=False)
    assert result.in_band["mag_i"][0] == pytest.approx(31.4 - 2.5 * np.log10(5000.0), abs=2e-3)
    assert (result.injected.image.array - exposure.image.array).sum() == pytest.approx(500.0, rel=0.03)


def test_the_noise_is_the_variance_s_and_each_band_s_own(butler, companions):
    """As real light brings it: white, and not the same in all bands."""
    rng = np.random.default_rng(0)
    pulls = {}
    for band in "ri":
        coadd = butler.get("deep_coadd", WHERE | {"band": band})
        noisy = butler.get("injected_deep_coadd", WHERE | {"band": band})
        task = InjectCompanionsTask(config=InjectCompanionsConfig(add_noise=False))
        smooth = task.run(coadd.clone(), companions, band, rng).injected
        added = noisy.variance.array - coadd.variance.array
        assert (added >= 0).all()
        lit = added > 0.02 * coadd.variance.array
        assert lit.sum() > 300
        difference = noisy.image.array - smooth.image.array
        pulls[band] = np.where(lit, difference / np.sqrt(np.where(lit, added, 1)), np.nan)
        assert np.nanstd(pulls[band]) == pytest.approx(1, abs=0.1)
        # Twice the light, twice the variance.
        light = smooth.image.array - coadd.image.array
        assert np.corrcoef(light[lit], added[lit])[0, 1] > 0.999
    both = np.isfinite(pulls["r"]) & np.isfinite(pulls["i"])
    assert both.sum() > 200
    assert abs(np.corrcoef(pulls["r"][both], pulls["i"][both])[0, 1]) < 0.2


def test_nothing_but_companions_was_added(butler, companions):
    for band in "gz":
        where = WHERE | {"band": band}
        before, after = butler.get("deep_coadd", where), butler.get("injected_deep_coadd", where)
        assert before.getBBox() == after.getBBox()
        plane = after.mask.getPlaneBitMask("INJECTED")
        dark = (after.mask.array & plane) == 0
        assert dark.any()
        np.testing.assert_array_equal(before.image.array[dark], after.image.array[dark])
        np.testing.assert_array_equal(before.variance.array[dark], after.variance.array[dark])
        total = (after.image.array - before.image.array).sum()
        assert total == pytest.approx(companions[f"flux_{band}"].sum(), rel=0.05)


def test_signal_to_noise_is_close_to_what_was_expected(companions):
    ratio = companions["snr"] / companions["expected_snr"]
    assert 0.7 < np.median(ratio) < 1.1
    assert companions["snr"].min() > 0


def test_the_catalogue_that_was_deblended_knows_no_companions(butler, companions):
    before = butler.get("object_detection_merged", WHERE)
    peaks = {peak.getId() for record in before for peak in record.getFootprint().peaks}
    after = butler.get("injected_object_detection_merged_residual", WHERE)
    for old, new in zip(before, after, strict=False):
        assert old.getId() == new.getId()
        assert len(new.getFootprint().peaks) >= len(old.getFootprint().peaks)
    assert len(companions) > 15
    assert not np.isin(companions["new_peak_id"], list(peaks)).any()
    assert set(companions["class"]) <= {
        TruthClass.UNRECOGNIZED,
        TruthClass.PARTIALLY_DEBLENDED,
        TruthClass.FAINT,
    }


def test_most_companions_are_recovered_and_the_control_is_no_success(butler, companions):
    peaks = butler.get("injected_evaluation_peaks_residual", WHERE)
    counts = butler.get("evaluateInjected_metadata", WHERE)["evaluateInjected"].to_dict()
    summary = summarise_companions(companions, peaks)
    print(summary)
    assert {name: counts[name] for name in summary} == summary
    assert summary["n_to_find"] > 10
    wide = companions["counted"] & (companions["separation_fwhm"] > 1)
    assert companions["recovered"][wide].mean() > 0.6
    assert np.nanmax(companions["new_distance_pix"]) <= 2.5
    control = butler.get("object_detection_merged_residual", WHERE)
    new = [
        (peak.getFy(), peak.getFx())
        for record in control
        for peak in record.getFootprint().peaks
        if peak["merge_peak_residual"]
    ]
    assert len(new) == counts["n_control"]
    assert counts["n_control"] - counts["n_lost"] == summary["n_unlabelled"]
    for peak in peaks[peaks["class"] == PeakClass.UNLABELLED]:
        assert np.hypot(*(np.array(new) - [peak["y"], peak["x"]]).T).min() <= 2.5


def test_a_seed_gives_the_same_companions_in_any_run(repo, companions):
    drawn = {}
    for name, options in (("again", ()), ("other", ("-c", "parameters:seed=1"))):
        pipetask(repo, "-p", f"{INJECTED}#makeCompanions", *ALL_HOSTS, *options, output=name, first=RUN)
        drawn[name] = Butler.from_config(str(repo), collections=name).get("injected_companions", WHERE)
    np.testing.assert_array_equal(drawn["again"]["x"], companions["x"])
    np.testing.assert_array_equal(drawn["again"]["flux_g"], companions["flux_g"])
    assert len(drawn["other"]) != len(companions) or not np.array_equal(drawn["other"]["x"], companions["x"])


def test_no_host_is_no_work(repo):
    text = pipetask(
        repo,
        "-p",
        f"{INJECTED}#makeCompanions,injectCompanions",
        "-c",
        "makeCompanions:companions.min_host_snr=1e9",
        output="none",
        first=RUN,
    )
    assert "no object got a companion" in text


def test_a_missing_reference_band_is_named(repo):
    text = pipetask(
        repo,
        "-p",
        f"{INJECTED}#makeCompanions",
        "-c",
        "makeCompanions:companions.reference_band=u",
        output="u",
        first=RUN,
        ok=False,
    )
    assert "no reference band 'u'" in text
    assert "patch: 0" in text


def test_coadds_in_cells_get_the_same_light(repo, sky, butler):
    cells = pytest.importorskip("test_afw_cells")
    writer = Butler.from_config(str(repo), writeable=True)
    for name, storage_class in (
        ("deep_coadd_cell_predetection", "MultipleCellCoadd"),
        ("deep_coadd_background", "Background"),
    ):
        dimensions = ("skymap", "tract", "patch", "band")
        writer.registry.registerDatasetType(
            DatasetType(name, dimensions, storage_class, universe=writer.dimensions)
        )
    for band, exposure in sky[1].items():
        where = WHERE | {"band": band}
        bright = exposure.clone()
        bright.image += 10.0
        writer.put(cells._cells(bright, band), "deep_coadd_cell_predetection", where, run=RUN)
        writer.put(cells._background(exposure, 10.0), "deep_coadd_background", where, run=RUN)
    options = ("-c", "parameters:use_cell_coadds=True", "-p", f"{INJECTED}#makeCompanions,injectCompanions")
    pipetask(repo, *ALL_HOSTS, *options, output="cells", first=RUN)
    after = Butler.from_config(str(repo), collections="cells")
    one, other = (b.get("injected_companions", WHERE) for b in (butler, after))
    np.testing.assert_allclose(one["x"], other["x"], atol=1e-2)
    for band in "gi":
        where = WHERE | {"band": band}
        whole, stitched = (b.get("injected_deep_coadd", where) for b in (butler, after))
        assert stitched.getPhotoCalib().getCalibrationMean() == 1
        np.testing.assert_allclose(whole.image.array, stitched.image.array, rtol=1e-3, atol=0.1)


def test_the_control_must_look_the_same_way(repo):
    text = pipetask(
        repo,
        "-p",
        str(INJECTED),
        "-c",
        "residualDetectionInjected:score_threshold=0.5",
        output="unlike",
        first="out",
        ok=False,
    )
    assert "the control must look as residualDetectionInjected does" in text
