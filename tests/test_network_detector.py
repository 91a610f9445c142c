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

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import HIDDEN, invoke, make_blend, make_scene
from lsst.meas.residualdetect import Peak
from lsst.meas.residualdetect.detectors import (
    DetectorError,
    detector_names,
    load_detector,
)
from lsst.meas.residualdetect.detectors.mask_rcnn import MaskRcnn
from lsst.meas.residualdetect.io.scene_file import write_scene_file
from lsst.meas.residualdetect.network.covariates import COVARIATES, FORMULA
from lsst.meas.residualdetect.network.package import ModelPackageError
from lsst.meas.residualdetect.network.paste_mask import paste_mask
from lsst.meas.residualdetect.network.sky import measure_sky
from tiny_network import find_maxima, make_package

BLEND = [(30.0, 30.0, 800.0), (30.0, 34.0, 150.0)]
TOLD = [Peak(1, 30.0, 30.0)]


@pytest.fixture
def package(tmp_path):
    return make_package(tmp_path / "tiny")


@pytest.fixture
def detector(package):
    return MaskRcnn(package, find_maxima)


def places(candidates):
    return [(candidate.y, candidate.x) for candidate in candidates]


class Fixed:
    """A network that always finds the same, and remembers what it saw."""

    def __init__(self, boxes, scores, side=7):
        self.boxes, self.scores = np.array(boxes, np.float32), np.array(scores, np.float32)
        self.masks = np.zeros((len(boxes), side, side), np.float32)
        self.seen = []

    def __call__(self, channels):
        self.seen.append(channels)
        return self.boxes, self.scores, self.masks


def test_the_source_left_out_of_the_model_is_found(detector):
    scene = make_scene(BLEND, rng=np.random.default_rng(2))
    best = detector.detect(scene, make_scene(BLEND[:1]).images, TOLD)[0]
    assert np.hypot(best.y - 30, best.x - 34) <= 1
    assert best.footprint.contains(best.y, best.x)
    assert best.bands == {"g", "r", "i"}
    assert best.score > detector.default_threshold == 0.7


def test_a_perfect_model_leaves_nothing(detector):
    scene = make_scene(BLEND)
    assert detector.detect(scene, scene.images, TOLD) == []


def test_sources_that_move_take_their_detections_along(detector):
    found = detector.detect(make_scene(BLEND), make_scene(BLEND[:1]).images, TOLD)
    moved = [(y - 7, x + 11, flux) for y, x, flux in BLEND]
    there = detector.detect(make_scene(moved), make_scene(moved[:1]).images, [Peak(1, 23.0, 41.0)])
    assert places(there) == [(y - 7, x + 11) for y, x in places(found)]
    for one, other in zip(found, there, strict=True):
        np.testing.assert_array_equal(other.footprint.spans, np.add(one.footprint.spans, [-7, 11, 11]))
        assert other.bands == one.bands


def test_units_origin_and_band_order_do_not_matter(detector):
    scene = make_scene(BLEND, rng=np.random.default_rng(4))
    model = make_scene(BLEND[:1]).images
    found = detector.detect(scene, model, TOLD)
    unit = np.float32(1e6)
    scaled = replace(scene, images=scene.images * unit, variance=scene.variance * unit**2)
    moved = replace(scene, origin=(101, 200))
    for other, shift in (
        (detector.detect(scaled, model * unit, TOLD), 0),
        (detector.detect(scene.select_bands(["i", "r", "g"]), model[::-1], TOLD), 0),
        (detector.detect(moved, model, [Peak(1, 131.0, 230.0)]), 1),
    ):
        assert len(other) == len(found) > 0
        for one, same in zip(found, other, strict=True):
            assert (same.y - 101 * shift, same.x - 200 * shift) == (one.y, one.x)
            assert same.score == pytest.approx(one.score, rel=1e-3)
            assert same.bands == one.bands
            np.testing.assert_array_equal(
                same.footprint.spans - np.multiply(shift, [101, 200, 200]), one.footprint.spans
            )


def test_a_patch_of_many_tiles_is_one_image(package):
    rng = np.random.default_rng(9)
    sources = [(*rng.uniform(5, 195, 2), rng.uniform(60, 400)) for _ in range(60)]
    scene = make_scene(sources, shape=(200, 190), rng=rng, origin=(-30, 50))
    nothing = np.zeros_like(scene.images)
    tiled = MaskRcnn(package, find_maxima).detect(scene, nothing, [])
    whole = MaskRcnn(replace(package, tile_size=1000), find_maxima).detect(scene, nothing, [])
    assert tiled == whole
    assert len(tiled) > 20
    for options in ({"tile_size": 37}, {"n_tiles": 3}):
        assert MaskRcnn(package, find_maxima, **options).detect(scene, nothing, []) == tiled
    assert [c.score for c in tiled] == sorted((c.score for c in tiled), reverse=True)
    for candidate in tiled:
        rows, columns = candidate.footprint.bbox
        assert -30 <= rows.start < rows.stop <= 170 and 50 <= columns.start < columns.stop <= 240
        assert candidate.footprint.contains(candidate.y, candidate.x)


@pytest.mark.parametrize("pixel", [np.nan, np.inf, 1e30, -1e30])
def test_a_wild_pixel_does_not_wipe_other_detections(detector, pixel):
    scene = make_scene(BLEND, rng=np.random.default_rng(2))
    model = make_scene(BLEND[:1]).images
    best = detector.detect(scene, model, TOLD)[0]
    images = scene.images.copy()
    images[1, 5, 60] = pixel
    wild = model.copy()
    wild[2, 55, 3] = pixel if np.isfinite(pixel) else 1e38
    found = detector.detect(replace(scene, images=images), wild, TOLD)
    assert (best.y, best.x, best.score) in [(c.y, c.x, c.score) for c in found]
    assert all(np.isfinite([c.y, c.x, c.score]).all() for c in found)


def test_the_bands_are_those_in_which_the_residual_stands_out(detector):
    scene = make_scene([(20, 20, (400.0, 0.0, 0.0)), (40, 40, (0.0, 400.0, 400.0))])
    mask = scene.mask.copy()
    mask[2, 30:50, 30:50] = 1 << scene.mask_planes["BAD"]
    found = detector.detect(replace(scene, mask=mask), np.zeros_like(scene.images), [])
    assert {(c.y, c.x): c.bands for c in found} == {(20.0, 20.0): {"g"}, (40.0, 40.0): {"r"}}


def test_the_network_sees_the_peaks_where_the_pixels_are(package):
    network = Fixed(np.zeros((0, 4)), [])
    scene = make_scene([], shape=(40, 48), origin=(100, -50))
    MaskRcnn(package, network).detect(scene, np.zeros_like(scene.images), [Peak(1, 110.0, -45.0)])
    (channels,) = network.seen
    assert np.argwhere(channels[12] == 1).tolist() == [[10, 5]]


def test_of_two_detections_of_one_source_the_surer_is_kept(package):
    # Centres at 10, 10.9 and 11.8: the second repeats the first, and the
    # third repeats only the second.
    boxes = [[6, 6, 15 + shift, 15] for shift in (0, 1.8, 3.6)]
    scene = make_scene([], shape=(32, 32))
    empty = np.zeros_like(scene.images)

    def found(scores):
        return [c.x for c in MaskRcnn(package, Fixed(boxes, scores)).detect(scene, empty, [])]

    assert found([0.9, 0.8, 0.7]) == pytest.approx([10, 11.8])
    assert found([0.7, 0.8, 0.9]) == pytest.approx([11.8, 10])
    assert found([0.8, 0.9, 0.7]) == pytest.approx([10.9])
    assert found([0.8, 0.8, 0.8]) == pytest.approx([10, 11.8])


def test_scores_are_calibrated_and_equal_ones_ordered_by_place(package):
    boxes = [[x, y, x + 3, y + 3] for x, y in ((20, 4), (4, 20), (4, 4), (12, 12))]
    scene = make_scene([], shape=(32, 32))
    found = MaskRcnn(package, Fixed(boxes, [0.25, 0.25, 0.25, 0.75])).detect(
        scene, np.zeros_like(scene.images), []
    )
    assert [(c.score, c.y, c.x) for c in found] == [
        (pytest.approx(0.575), 13, 13),
        (pytest.approx(0.1), 5, 5),
        (pytest.approx(0.1), 5, 21),
        (pytest.approx(0.1), 21, 5),
    ]
    # Of an empty mask the centre is left.
    assert [c.footprint.spans.tolist() for c in found[:1]] == [[[13, 13, 14]]]


def test_what_is_hardly_a_source_is_no_candidate(package):
    boxes = [[x, 4, x + 3, 7] for x in (4, 12, 20)]
    scene = make_scene([], shape=(32, 32))
    network = Fixed(boxes, [0.04, 0.051, 0.5])

    def scores(**options):
        found = MaskRcnn(package, network, **options).detect(scene, np.zeros_like(scene.images), [])
        return [c.score for c in found]

    assert scores() == pytest.approx([0.2, 0.0204])
    assert scores(min_score=0) == pytest.approx([0.2, 0.0204, 0.016])
    assert scores(min_score=0.1) == pytest.approx([0.2])


@pytest.mark.parametrize("origin", [(0, 0), (1, 1)])
def test_the_footprint_holds_a_centre_between_pixels(package, origin):
    scene = make_scene([], shape=(32, 32), origin=origin)
    boxes = [[0, 0, 1, 1], [5.9, 6, 6.1, 8], [30, 31, 32, 32]]
    found = MaskRcnn(package, Fixed(boxes, [0.9, 0.8, 0.7])).detect(scene, np.zeros_like(scene.images), [])
    assert len(found) == 3
    for candidate in found:
        assert candidate.footprint.area == 1
        assert candidate.footprint.contains(candidate.y, candidate.x)


def test_masks_are_pasted_as_detectron2_does():
    rng = np.random.default_rng(5)
    shape = (30, 40)
    for _ in range(20):
        corner = rng.uniform(-3, 22, 2)
        box = np.concatenate([corner, corner + rng.uniform(4, 15, 2)])
        mask = rng.uniform(0, 1, (14, 14)).astype(np.float32)
        x0, y0, x1, y1 = box
        # detectron2.layers.mask_ops._do_paste_mask
        y = torch.tensor((np.arange(shape[0]) + 0.5 - y0) / (y1 - y0) * 2 - 1)
        x = torch.tensor((np.arange(shape[1]) + 0.5 - x0) / (x1 - x0) * 2 - 1)
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
        expected = torch.nn.functional.grid_sample(
            torch.from_numpy(mask).double()[None, None], grid, align_corners=False
        )
        pixels, where = paste_mask(mask, box, shape)
        pasted = np.zeros(shape, bool)
        pasted[where] = pixels
        np.testing.assert_array_equal(pasted, expected[0, 0].numpy() >= 0.5)


def test_bands_that_the_network_does_not_know_are_named(detector, caplog):
    scene = make_scene([])
    with caplog.at_level(logging.WARNING):
        detector.detect(scene, scene.images, [])
        assert not caplog.records
        detector.detect(replace(scene, bands=("g", "VR", "Y106")), scene.images, [])
    (record,) = caplog.records
    assert "made: model tiny knows no bands VR, Y106" in record.getMessage()


def test_another_pixel_scale_is_warned_of_once(detector, caplog):
    scene = make_scene([])
    with caplog.at_level(logging.WARNING):
        detector.detect(replace(scene, pixel_scale_arcsec=0.168), scene.images, [])
        assert not caplog.records
        for _ in range(2):
            detector.detect(replace(scene, pixel_scale_arcsec=0.3), scene.images, [])
    (record,) = caplog.records
    assert "made: a pixel is 0.3 arcsec wide; model tiny was trained on 0.2 arcsec" in record.getMessage()


def test_a_sky_unlike_those_of_the_calibration_is_warned_of_once(tmp_path, caplog):
    logistic = {"formula": FORMULA, "intercept": 0.0, "coefficients": dict.fromkeys(COVARIATES, 0.1)}
    scene = make_scene(BLEND)
    half = scene.images / 2
    facts = measure_sky(scene, half, np.array([[30.0, 30.0]]))[1]
    near = {name: [value * 0.9, value * 1.1] for name, value in facts.items()}
    known = MaskRcnn(make_package(tmp_path / "a", calibration=logistic, calibrated_on=near), find_maxima)
    other = {**near, "host_snr": [1e5, 1e6]}
    strange = MaskRcnn(make_package(tmp_path / "b", calibration=logistic, calibrated_on=other), find_maxima)
    with caplog.at_level(logging.WARNING):
        known.detect(scene, half, TOLD)
        assert not caplog.records
        for _ in range(2):
            strange.detect(scene, half, TOLD)
    (record,) = caplog.records
    assert "half of the known sources have a signal-to-noise ratio above" in record.getMessage()
    assert "1e+05 to 1e+06 in the calibration" in record.getMessage()


def test_the_facts_of_a_sky_are_what_it_was_made_of():
    scene = make_scene(BLEND)
    peaks = np.array([[30.0, 30.0], [30.0, 34.0]])
    _, facts = measure_sky(scene, scene.images / 2, peaks)
    assert facts["pixel_scale_arcsec"] == scene.pixel_scale_arcsec
    area = scene.shape[0] * scene.shape[1] * (scene.pixel_scale_arcsec / 60) ** 2
    assert facts["known_per_arcmin2"] == pytest.approx(2 / area)
    _, fainter = measure_sky(scene, scene.images / 4, peaks)
    assert fainter["host_snr"] == pytest.approx(facts["host_snr"] / 2, rel=1e-3) and facts["host_snr"] > 10
    fwhm = 2 * np.sqrt(2 * np.log(2)) * np.median(scene.psf_sigmas_pix)
    assert facts["psf_fwhm_pix"] == pytest.approx(fwhm)


def tiny_onnx(threshold=4.0, input_name="channels"):
    """A network to which every pixel whose residuals sum to more than a
    threshold is a source.
    """
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    constants = {
        "threshold": np.float32(threshold),
        "first": np.array([0], np.int64),
        "six": np.array([6], np.int64),
        "flip": np.array([1, 0], np.int64),
        "low": np.float32(4),
        "high": np.float32(5),
        "mask_axes": np.array([1, 2], np.int64),
        "mask_shape": np.array([1, 3, 3], np.int64),
    }
    nodes = [
        helper.make_node("Slice", [input_name, "first", "six", "first"], ["residuals"]),
        helper.make_node("ReduceSum", ["residuals", "first"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "threshold"], ["bright"]),
        helper.make_node("NonZero", ["bright"], ["yx"]),
        helper.make_node("Transpose", ["yx"], ["places"], perm=[1, 0]),
        helper.make_node("GatherND", ["sum", "places"], ["values"]),
        helper.make_node("Div", ["threshold", "values"], ["faintness"]),
        helper.make_node("Exp", ["faintness"], ["growth"]),
        helper.make_node("Reciprocal", ["growth"], ["scores"]),
        helper.make_node("Gather", ["places", "flip"], ["xy"], axis=1),
        helper.make_node("Cast", ["xy"], ["centres"], to=types.FLOAT),
        helper.make_node("Sub", ["centres", "low"], ["corners"]),
        helper.make_node("Add", ["centres", "high"], ["opposite"]),
        helper.make_node("Concat", ["corners", "opposite"], ["boxes"], axis=1),
        helper.make_node("Unsqueeze", ["scores", "mask_axes"], ["tall"]),
        helper.make_node("Expand", ["tall", "mask_shape"], ["masks"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, types.FLOAT, [13, "height", "width"])],
        [
            helper.make_tensor_value_info("boxes", types.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("scores", types.FLOAT, ["n"]),
            helper.make_tensor_value_info("masks", types.FLOAT, ["n", 3, 3]),
        ],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def onnx_package(tmp_path):
    pytest.importorskip("onnxruntime")
    return make_package(tmp_path / "onnx", {"model.onnx": tiny_onnx()})


def test_onnx_runtime_finds_what_the_graph_says(onnx_package):
    scene = make_scene([(30, 33, 600.0), (10, 50, 600.0)])
    found = load_detector("onnx", str(onnx_package.folder)).detect(scene, np.zeros_like(scene.images), [])
    assert {(30.0, 33.0), (10.0, 50.0)} <= set(places(found))
    assert all(min(np.hypot(y - 30, x - 33), np.hypot(y - 10, x - 50)) < 4 for y, x in places(found))
    assert found[0].bands == {"g", "r", "i"}
    assert load_detector("onnx", str(onnx_package.folder)).detect(scene, scene.images, []) == []


def test_a_network_of_another_interface_is_refused(tmp_path):
    make_package(tmp_path / "other", {"model.onnx": tiny_onnx(input_name="pixels")})
    scene = make_scene([])
    with pytest.raises(ModelPackageError, match="model.onnx makes .* of \\['pixels'\\]; expected"):
        load_detector("onnx", str(tmp_path / "other")).detect(scene, scene.images, [])


@pytest.mark.parametrize(("name", "module"), [("onnx", "onnxruntime"), ("detectron2", "detectron2")])
def test_a_missing_runtime_is_named(package, monkeypatch, name, module):
    for part in [part for part in sys.modules if part.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, part)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"lsst.meas.residualdetect.network.{name}", raising=False)
    monkeypatch.delattr(f"lsst.meas.residualdetect.network.{name}", raising=False)
    with pytest.raises(DetectorError, match=f"detector '{name}' cannot be used here: .*; it needs {module}"):
        load_detector(name, str(package.folder))


def test_what_is_wrong_with_a_package_is_said_before_any_work(package):
    assert {"onnx", "detectron2"} < set(detector_names())
    with pytest.raises(ModelPackageError, match="no model package 'nowhere'"):
        load_detector("onnx", "nowhere")
    pytest.importorskip("onnxruntime")
    (package.folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelPackageError, match="model.onnx is damaged"):
        load_detector("onnx", str(package.folder))


def test_the_task_takes_model_and_threshold_from_its_config(onnx_package):
    from lsst.meas.residualdetect.tasks.residual_detection import ResidualDetectionTask

    config = ResidualDetectionTask.ConfigClass()
    config.data_model = "array"
    config.detector = "onnx"
    config.model = str(onnx_package.folder)
    config.validate()
    task = ResidualDetectionTask(config=config)
    assert task.detector.package == onnx_package


def test_the_command_runs_the_model_it_is_given(onnx_package, tmp_path):
    content = make_blend(1)
    model = make_scene([(30.0, 30.0, (30.0, 100.0, 360.0))]).images
    peaks = np.array([[30.0, 30.0]])
    write_scene_file(tmp_path / "blend.npz", replace(content, model=model, peaks=peaks))
    arguments = ["detect", tmp_path / "blend.npz", "--out", tmp_path / "new.csv"]
    arguments += ["--model", onnx_package.folder, "--threshold", 0]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    rows = [line.split(",") for line in (tmp_path / "new.csv").read_text().splitlines()[1:]]
    assert any(np.hypot(float(y) - HIDDEN[0], float(x) - HIDDEN[1]) <= 2 for _, y, x, *_ in rows)
    assert all(0 < float(score) < 1 for _, _, _, score, *_ in rows)


@pytest.mark.train
def test_detectron2_runs_the_weights_of_the_package(tmp_path):
    pytest.importorskip("detectron2")
    safetensors = pytest.importorskip("safetensors.torch")
    from detectron2.modeling import build_model

    from lsst.meas.residualdetect.io.package_files import find_file
    from lsst.meas.residualdetect.network.detectron2 import Detectron2Network
    from lsst.meas.residualdetect.network.modeling.config import read_config

    options = ("MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.WEIGHTS", "")
    cfg = read_config(find_file("config/training", "mask_rcnn_ugrizy.yaml"), options)
    torch.manual_seed(3)
    network = build_model(cfg).eval()
    files = {
        "detectron2.yaml": cfg.dump().encode(),
        "weights.safetensors": safetensors.save(network.state_dict()),
    }
    package = make_package(tmp_path / "d2", files)
    channels = np.random.default_rng(3).normal(size=(13, 64, 72)).astype(np.float32)
    found = Detectron2Network(package, device="cpu")(channels)
    with torch.no_grad():
        (expected,) = network.inference([{"image": torch.from_numpy(channels)}], do_postprocess=False)
    assert len(found[0]) > 5
    for ours, theirs in zip(
        found, (expected.pred_boxes.tensor, expected.scores, expected.pred_masks[:, 0]), strict=True
    ):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    scene = make_scene(BLEND, rng=np.random.default_rng(2))
    candidates = load_detector("detectron2", str(package.folder)).detect(
        scene, np.zeros_like(scene.images), []
    )
    assert all(candidate.footprint.contains(candidate.y, candidate.x) for candidate in candidates)
