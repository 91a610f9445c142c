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

import gc
import os
import re
import resource
import shutil
import signal
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lsst.daf.butler import Butler, DatasetType

from conftest import invoke, make_blend, make_scene
from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.butler import DataModelError, image_form_of
from lsst.meas.residualdetect.butler.formatters import DetectionsFormatter
from lsst.meas.residualdetect.butler.images.stack import stack_bands
from lsst.meas.residualdetect.butler.inputs import read_inputs
from lsst.meas.residualdetect.butler.repository import (
    COADDS_COLLECTION,
    SKYMAP,
    RepositoryError,
    create_repository,
    ingest_scenes,
    ingested_scenes,
    leftovers,
    new_repository,
    open_repository,
)
from lsst.meas.residualdetect.cli.common import ended_by_signals
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.io.fits_coadd import write_coadd
from lsst.meas.residualdetect.io.scene_file import SceneFile, write_scene_file


def _where(patch):
    return {"skymap": SKYMAP, "tract": 0, "patch": patch}


def _n_datasets(butler):
    return sum(1 for _ in butler.registry.queryDatasets(..., collections=COADDS_COLLECTION))


@pytest.fixture
def butler(tmp_path):
    return create_repository(tmp_path / "repo")


def test_what_goes_in_comes_out(butler):
    content = make_blend(1)
    content = replace(content, peaks=np.array([[30.0, 30.0], [12, 50]]))
    assert ingest_scenes(butler, [content, make_blend(2, name="other")]) == [0, 1]
    assert ingest_scenes(butler, [make_blend(3)]) == [2]
    for band in "gri":
        coadd = butler.get("deep_coadd", _where(0), band=band, collections=COADDS_COLLECTION)
        expected = content.scene.select_bands([band])
        np.testing.assert_array_equal(coadd.images, expected.images)
        assert coadd.name == "blend"
    given = butler.get("object_detection_given", _where(0), collections=COADDS_COLLECTION)
    assert sorted((peak.y, peak.x) for peak in given.peaks) == [(12, 50), (30, 30)]
    truth = butler.get("truth", _where(1), collections=COADDS_COLLECTION)
    np.testing.assert_array_equal(truth["x"], content.truth["x"])
    assert len(butler.query_datasets("object_detection_given", COADDS_COLLECTION)) == 1


def test_one_bad_scene_keeps_all_out(butler):
    good = make_blend(1)
    bad = replace(good, peaks=np.array([[30.0, 300.0]]))
    with pytest.raises(SceneError, match="blend: 1 of 1 peaks lie outside"):
        ingest_scenes(butler, [good, bad])
    assert _n_datasets(butler) == 0


def test_a_failure_half_way_leaves_nothing(butler, tmp_path, monkeypatch):
    def fail(path, detections):
        raise OSError("disk full")

    monkeypatch.setattr(DetectionsFormatter, "writer", staticmethod(fail))
    content = replace(make_blend(1), peaks=np.array([[30.0, 30.0]]))
    with pytest.raises(RepositoryError, match="^blend: disk full$"):
        ingest_scenes(butler, [make_blend(2), content])
    assert _n_datasets(butler) == 0
    assert not list(butler.registry.queryDimensionRecords("patch"))
    assert not list(tmp_path.rglob("*.fits"))


def test_not_all_scenes_are_in_memory(butler):
    alive = []

    def scenes():
        for number in range(4):
            gc.collect()
            assert sum(scene() is not None for scene in alive) <= 1
            content = make_blend(number)
            alive.append(weakref.ref(content.scene))
            yield content
            del content

    assert ingest_scenes(butler, scenes()) == [0, 1, 2, 3]


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError, SystemExit])
def test_an_interrupted_repository_leaves_nothing(tmp_path, end):
    with pytest.raises(end), new_repository(tmp_path / "repo") as butler:
        ingest_scenes(butler, [make_blend(1)])
        (left,) = leftovers(tmp_path / "repo")
        assert (left / "butler.yaml").is_file() and not (tmp_path / "repo").exists()
        raise end
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_work_as_an_exception():
    with pytest.raises(SystemExit), ended_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["with space", "hsc.2024", "ü;:{x}"])
def test_a_folder_with_an_odd_name_holds_a_repository(tmp_path, name):
    ingest_scenes(create_repository(tmp_path / name), [make_blend(1)])
    butler = open_repository(tmp_path / name)
    assert butler.get("deep_coadd", _where(0), band="g", collections=COADDS_COLLECTION).name == "blend"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b"])
def test_a_name_that_the_butler_takes_for_another_is_refused(tmp_path, name):
    with pytest.raises(RepositoryError, match=r"in which \?, # and %20 do not mean"):
        create_repository(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_half_made_repository_is_named(butler, tmp_path):
    (tmp_path / "half").mkdir()
    shutil.copy(tmp_path / "repo" / "butler.yaml", tmp_path / "half")
    (tmp_path / "half" / "gen3.sqlite3").touch()
    with pytest.raises(RepositoryError, match="half cannot be opened: .*remove it and ingest again"):
        open_repository(tmp_path / "half")


def test_folders_that_are_no_repository_are_refused(tmp_path):
    with pytest.raises(RepositoryError, match="has no butler.yaml"):
        open_repository(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RepositoryError, match="is there already and is not empty"):
        create_repository(tmp_path)


def test_another_kind_of_repository_is_refused(tmp_path):
    Butler.makeRepo(str(tmp_path / "other"))
    with pytest.raises(RepositoryError, match="not one that ingest made"):
        open_repository(tmp_path / "other")


def test_fits_coadds_of_one_object_make_a_scene(tmp_path):
    scene = make_blend(1).scene
    paths = []
    for band in scene.bands:
        paths.append(tmp_path / f"{band}.fits")
        write_coadd(paths[-1], scene.select_bands([band]))
    write_scene_file(tmp_path / "other.npz", SceneFile(make_scene([])))
    first, second = read_inputs([*paths[:2], tmp_path / "other.npz", paths[2]])
    scales = [item.scene.pixel_scale_arcsec for item in read_inputs(paths, pixel_scale_arcsec=0.168)]
    assert scales == [0.168]
    np.testing.assert_array_equal(first.scene.images, scene.images)
    assert (first.scene.name, second.scene.name) == ("blend", "other")
    with pytest.raises(SceneError, match="g.fits: band 'g' of 'blend' was given before"):
        list(read_inputs([paths[0], paths[0]]))


def test_files_of_another_kind_are_named(tmp_path):
    with pytest.raises(SceneError, match="notes.txt: expected a scene file"):
        list(read_inputs([tmp_path / "notes.txt"]))


def test_stacking_pads_psfs_and_refuses_other_grids():
    scene = make_scene([(30, 30, 100)])
    g, r = scene.select_bands(["g"]), scene.select_bands(["r"])
    small = replace(r, psfs=r.psfs[:, 3:-3, 3:-3])
    stacked = stack_bands([g, small], 2)
    assert stacked.psfs.shape == (2, 21, 21)
    assert np.unravel_index(stacked.psfs[1].argmax(), (21, 21)) == (10, 10)
    with pytest.raises(SceneError, match="differ in origin: band 'g' has .0, 0., band 'r' has .5, 0."):
        stack_bands([g, replace(r, origin=(5, 0))], 2)
    with pytest.raises(SceneError, match="differ in shape"):
        stack_bands([g, make_scene([], shape=(60, 63)).select_bands(["r"])], 2)


def test_stacking_tells_mask_planes_by_their_names():
    scene = make_scene([(30, 30, 100)])
    g, r = scene.select_bands(["g"]), scene.select_bands(["r"])
    mask = np.zeros_like(r.mask)
    mask[0, 4, 5], mask[0, 6, 7] = 1 << 0, 1 << 2
    other = replace(r, mask=mask, mask_planes={"SAT": 0, "NO_DATA": 1, "STREAK": 2})
    stacked = stack_bands([g, other], 2)
    for plane, place in (("SAT", (1, 4, 5)), ("STREAK", (1, 6, 7))):
        bad = stacked.bad([plane])
        assert bad.sum() == 1 and bad[place]


def test_any_flux_unit_and_all_mask_bits_survive_the_repository(butler):
    content = make_blend(1)
    scene = content.scene
    jansky = 1e-32  # of nJy would be 1e-9: far beyond what single precision squares
    mask = scene.mask.astype(np.int64)
    mask[1, 4, 5] |= 1 << 40
    planes = {**scene.mask_planes, "STREAK": 40}
    small = replace(
        scene,
        images=scene.images.astype(float) * jansky,
        variance=scene.variance.astype(float) * jansky**2,
        mask=mask,
        mask_planes=planes,
    )
    ingest_scenes(butler, [SceneFile(small)])
    coadds = [
        butler.get("deep_coadd", _where(0), band=band, collections=COADDS_COLLECTION) for band in scene.bands
    ]
    stacked = stack_bands(coadds, len(coadds))
    np.testing.assert_allclose(stacked.images / jansky, scene.images, rtol=1e-6)
    np.testing.assert_allclose(stacked.variance / jansky**2, scene.variance, rtol=1e-6)
    bad = stacked.bad(["STREAK"])
    assert bad.sum() == 1 and bad[1, 4, 5]


def test_an_image_form_is_told_by_its_storage_class():
    assert image_form_of("ArrayCoadd") == "array"
    assert image_form_of("MultipleCellCoadd") == "afw_cells"
    with pytest.raises(DataModelError, match="stored as Mosaic cannot be read; known: ExposureF, "):
        image_form_of("Mosaic")


def test_what_was_ingested_before_is_named(tmp_path):
    scene = make_scene([(30, 30, 300.0), (12, 50, 200.0)], rng=np.random.default_rng(3))
    write_scene_file(tmp_path / "blend.npz", SceneFile(scene))
    repo = tmp_path / "repo"

    def ingest(*options):
        arguments = ["ingest", str(repo), str(tmp_path / "blend.npz"), *options]
        return invoke(*arguments)

    assert "warning" not in ingest().output
    again = ingest("--strict")
    assert again.exit_code and "blend is in" in again.output and "already, as patch 0" in again.output
    butler = open_repository(repo)
    assert ingested_scenes(butler) == {"blend": 0}
    again = ingest()
    assert again.exit_code == 0 and "warning: blend is in" in again.output
    assert ingested_scenes(open_repository(repo)) == {"blend": 1}


def test_what_is_likely_wrong_is_told_when_it_is_ingested(tmp_path):
    scene = make_scene([(30, 30, 300.0)], rng=np.random.default_rng(3))
    write_scene_file(tmp_path / "blend.npz", SceneFile(replace(scene, variance=scene.variance / 100)))
    result = invoke("ingest", tmp_path / "repo", tmp_path / "blend.npz")
    assert result.exit_code == 0 and "warning: blend: band 'g': pixels scatter by" in result.output
    result = invoke("ingest", tmp_path / "other", tmp_path / "blend.npz", "--strict")
    assert result.exit_code and "pixels scatter by" in result.output and not (tmp_path / "other").exists()


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path):
    """Files may not grow as large as a repository's database is."""
    scene = make_scene([(30, 30, 300.0)], rng=np.random.default_rng(3))
    write_scene_file(tmp_path / "blend.npz", SceneFile(scene))
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        result = invoke("ingest", tmp_path / "repo", tmp_path / "blend.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    assert result.exit_code and "repo cannot be written" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["blend.npz"]


def test_a_repository_of_others_takes_what_the_tasks_write_by_a_line(tmp_path):
    page = (Path(__file__).parents[1] / "doc" / "files.md").read_text()
    (line,) = re.findall(r"^includeConfigs: .*$", page, re.MULTILINE)
    Butler.makeRepo(str(tmp_path))
    config = tmp_path / "butler.yaml"
    config.write_text(f"{line}\n{config.read_text()}")
    butler = Butler.from_config(str(tmp_path), run="run")
    dataset_type = DatasetType("found", ("skymap",), "ArrayDetections", universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    insert = {"name": "made", "hash": b"made", "tract_max": 1, "patch_nx_max": 1, "patch_ny_max": 1}
    butler.registry.insertDimensionData("skymap", insert)
    butler.put(detect(make_blend(1).scene), dataset_type, skymap="made")
    assert len(butler.get(dataset_type, skymap="made").peaks) == 3
