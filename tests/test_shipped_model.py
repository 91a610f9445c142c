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

"""The model package that ships, on simulated coadds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lsst.daf.butler import Butler

from conftest import make_blend, make_scene
from lsst.meas.residualdetect.butler.repository import COADDS_COLLECTION, create_repository, ingest_scenes
from lsst.meas.residualdetect.deblend import deblend
from lsst.meas.residualdetect.detection import detect, detections_at
from lsst.meas.residualdetect.detectors import load_detector
from lsst.meas.residualdetect.detectors.mask_rcnn import MaskRcnn
from lsst.meas.residualdetect.io.package_files import find_file
from lsst.meas.residualdetect.network.package import DEFAULT_MODEL, load_package
from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene


@pytest.fixture(scope="module")
def package():
    return load_package(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def patch():
    """A scene, the image of its model, and its peaks."""
    scene, _ = simulate_scene(SimulationOptions(shape=(320, 320), density=2.0), np.random.default_rng(11))
    found = detect(scene)
    return scene, deblend(scene, found.parents).image(scene), found.peaks


def table(candidates):
    return np.array([(c.y, c.x, c.score) for c in candidates]).reshape(-1, 3)


def assert_same(one, other, atol=0.01):
    """The same candidates, but for those that are hardly any."""
    one, other = table(one), table(other)
    # Of the scores about 0.1 the widest gap, lest a candidate be one in the one and none in the other.
    scores = np.sort(np.concatenate([[0.08, 0.12], one[:, 2], other[:, 2]]))
    about = scores[(scores >= 0.08) & (scores <= 0.12)]
    gap = np.diff(about).argmax()
    one, other = (rows[rows[:, 2] > about[gap : gap + 2].mean()] for rows in (one, other))
    assert len(one) == len(other) > 5
    # Equal scores may change places.
    one, other = (rows[np.lexsort(np.round(rows[:, :2], 1).T)] for rows in (one, other))
    np.testing.assert_allclose(one[:, :2], other[:, :2], atol=0.05)
    np.testing.assert_allclose(one[:, 2], other[:, 2], atol=atol)


def test_the_package_is_whole_small_and_calibrated(package):
    sizes = [package.file(name).stat().st_size for name in package.sha256]
    assert sum(sizes) < 40e6
    assert 0 < package.score_threshold < 1
    assert package.calibration.needs_covariates or len(package.calibration.score) > 5
    assert package.results


def test_a_patch_gives_the_same_whatever_the_tiles(package, patch):
    whole = load_detector("onnx").detect(*patch)
    network = load_detector("onnx").network
    small = MaskRcnn(replace(package, tile_size=240), network)
    assert_same(whole, small.detect(*patch))


def test_sources_that_move_take_their_detections_along(package, patch):
    scene, model, peaks = patch
    detector = load_detector("onnx")
    step = package.stride
    part = (slice(None), slice(step, None), slice(2 * step, None))
    moved = replace(
        scene,
        images=scene.images[part],
        variance=scene.variance[part],
        mask=scene.mask[part],
        origin=(step, 2 * step),
    )

    def inner(candidates):
        return [c for c in candidates if c.y > 120 and c.x > 120]

    assert_same(inner(detector.detect(*patch)), inner(detector.detect(moved, model[part], peaks)))


def test_most_candidates_lie_where_sources_are_missing(package):
    scene, truth = simulate_scene(SimulationOptions(shape=(200, 200), density=2.0), np.random.default_rng(5))
    found = detect(scene)
    model = deblend(scene, found.parents).image(scene)
    seen = truth[(truth["snr"] > 3)]
    places = np.stack([seen["y"], seen["x"]], axis=1)
    detector = load_detector("onnx")
    sure = [c for c in detector.detect(scene, model, found.peaks) if c.score >= detector.default_threshold]
    assert len(sure) > 3
    known = np.array([(peak.y, peak.x) for peak in found.peaks])
    right = [
        np.hypot(*(places - (c.y, c.x)).T).min() < 2.5 and np.hypot(*(known - (c.y, c.x)).T).min() > 1.5
        for c in sure
    ]
    assert np.mean(right) > 0.7


@pytest.mark.parametrize("brightness", [0.1, 1.0, 10.0, 100.0])
def test_a_missed_star_is_found_however_bright(brightness):
    flux = 3000.0
    sources = [(45.0, 40.0, flux), (45.0, 51.0, brightness * flux)]
    scene = make_scene(sources, shape=(91, 91), rng=np.random.default_rng(1))
    known = detections_at(scene, np.array([(45.0, 40.0)]))
    model = deblend(scene, known.parents).image(scene)
    detector = load_detector("onnx")
    best = max(detector.detect(scene, model, known.peaks), key=lambda candidate: candidate.score)
    assert best.score > detector.default_threshold
    assert np.hypot(best.y - 45.0, best.x - 51.0) < 1


def test_nothing_is_found_in_noise(package):
    scene, _ = simulate_scene(
        SimulationOptions(shape=(256, 256), density=0.0, star_density=0.0), np.random.default_rng(3)
    )
    detector = load_detector("onnx")
    empty = np.zeros_like(scene.images)
    assert not [c for c in detector.detect(scene, empty, []) if c.score >= detector.default_threshold]


@pytest.mark.train
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_both_runtimes_find_the_same(package, patch, device):
    pytest.importorskip("detectron2")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    other = load_detector("detectron2", device=device)
    assert other.network.device == device
    # On a GPU convolutions round otherwise.
    assert_same(load_detector("onnx").detect(*patch), other.detect(*patch), atol=1e-3)


def _candidates_of_a_run(repo, steps, first, output, *options):
    """Candidates that a task of the embedded pipeline wrote."""
    command = [str(Path(sys.executable).with_name("pipetask")), "run", "-b", str(repo)]
    command += ["-p", f"{find_file('pipelines', 'embedded.yaml')}#{steps}", "-i", first, "-o", output]
    command += ["--register-dataset-types", *(part for option in options for part in ("-c", option))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where = {"skymap": "embedded", "tract": 0, "patch": 0}
    return Butler.from_config(str(repo), collections=output).get("object_candidates_residual", where)


@pytest.mark.train
def test_the_task_takes_the_device_from_its_config(tmp_path):
    pytest.importorskip("detectron2")
    repo = tmp_path / "repo"
    ingest_scenes(create_repository(repo), [make_blend(1)])
    steps = "detectPeaks,deblend,residualDetection"
    one = _candidates_of_a_run(repo, steps, COADDS_COLLECTION, "one")
    options = ("residualDetection:detector=detectron2", "residualDetection:detector.active.device=cpu")
    other = _candidates_of_a_run(repo, "residualDetection", "one", "other", *options)
    assert len(one) == len(other) > 0
    for name in ("y", "x", "score"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-3)
