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

"""The network's own side of training; needs Detectron2."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

pytest.importorskip("detectron2")
torch = pytest.importorskip("torch")
for _needed in ("torchvision", "onnx", "safetensors"):
    pytest.importorskip(_needed)

from detectron2.structures import Boxes, Instances, pairwise_iou  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from lsst.meas.residualdetect.io.package_files import find_file  # noqa: E402
from lsst.meas.residualdetect.network.covariates import COVARIATES  # noqa: E402
from lsst.meas.residualdetect.network.modeling.config import feature_options, read_config  # noqa: E402
from lsst.meas.residualdetect.network.package import load_package  # noqa: E402
from lsst.meas.residualdetect.network.sky import SKY_FACTS  # noqa: E402
from lsst.meas.residualdetect.training import TileOptions, generate_tiles  # noqa: E402
from lsst.meas.residualdetect.training.dataset import TileCrops, crop_tile, to_detectron2  # noqa: E402
from lsst.meas.residualdetect.training.export import export_package, load_trained, write_onnx  # noqa: E402
from lsst.meas.residualdetect.training.judged import Found, Judged  # noqa: E402
from lsst.meas.residualdetect.training.settings import choose_settings  # noqa: E402
from lsst.meas.residualdetect.training.shards import read_shard, shard_paths  # noqa: E402
from lsst.meas.residualdetect.training.train import Trainer, n_processes, train  # noqa: E402
from lsst.meas.residualdetect.training.validation import RecoveryEvaluator  # noqa: E402

CONFIG = find_file("config/training", "mask_rcnn_ugrizy.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    generate_tiles(folder, 4, TileOptions(size=96, density=(2.0, 3.0), informed=0.0), 3, jobs=1)
    return folder


@pytest.fixture
def cfg(folder: Path, tmp_path: Path):
    return read_config(
        CONFIG,
        [
            *("TILES.TRAIN", str(folder), "TILES.VALIDATION", str(folder), "OUTPUT_DIR", str(tmp_path)),
            *("TILES.CROP", "64", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
            *("SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "2"),
        ],
    )


def test_an_unknown_option_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("TILES:\n  COLOUR: red\nVERSION: 2\n")
    with pytest.raises(ValueError, match=r"mine\.yaml.*COLOUR"):
        read_config(path)


def test_boxes_and_masks_follow_every_turn_and_flip(cfg, folder):
    crops = iter(TileCrops({folder: 1.0}, cfg, seed=1))
    seen = 0
    for _ in range(24):
        example = next(crops)
        instances = example["instances"]
        for box, mask in zip(instances.gt_boxes.tensor, instances.gt_masks.tensor, strict=True):
            y, x = (mask.nonzero().float() + 0.5).T
            if mask.sum() < 5 or min(box[:2]) < 0 or max(box[2:]) > 64:
                continue
            seen += 1
            assert abs((box[0] + box[2]) / 2 - x.mean()) < 3
            assert abs((box[1] + box[3]) / 2 - y.mean()) < 3
    assert seen > 10


def test_known_peaks_keep_their_place_beside_the_model(cfg, folder):
    # Turned or not, the model is brighter at the peaks than elsewhere.
    crops = iter(TileCrops({folder: 1.0}, cfg, seed=2))
    for _ in range(12):
        image = next(crops)["image"].numpy()
        at_peaks = image[12] > 0.99
        if at_peaks.sum() > 3:
            assert image[6:12, at_peaks].sum() / at_peaks.sum() > 1.5 * image[6:12].sum() / 64**2


def test_what_counts_neither_way_is_not_learnt_from(cfg, folder):
    tile = read_shard(shard_paths(folder)[0])[0]
    crop = crop_tile(tile, 0, 0, 96)
    crop.instances["snr"] = 4.0
    (faint,) = [to_detectron2(crop, feature_options(cfg), 5.0)]
    (sure,) = [to_detectron2(crop, feature_options(cfg), 3.0)]
    assert len(faint["instances"]) and (faint["instances"].gt_classes == -1).all()
    assert (sure["instances"].gt_classes == 0).all()
    cfg.MODEL.DEVICE = "cpu"
    network = Trainer.build_model(cfg)
    first, second = network.proposal_generator, network.roi_heads
    side = 96 // 2
    anchors = first.anchor_generator([torch.zeros(1, 1, side, side)])
    instances = faint["instances"]
    (labels,), _ = first.label_and_sample_anchors(anchors, [instances])
    inside = pairwise_iou(instances.gt_boxes, Boxes.cat(anchors)).amax(dim=0) >= 0.3
    assert inside.any() and not (labels == 1).any()
    assert (labels[inside] == -1).all() and (labels[~inside] == 0).any()
    proposals = Instances((96, 96), proposal_boxes=Boxes.cat(anchors))
    proposals.objectness_logits = torch.zeros(len(proposals))
    with EventStorage():
        (sampled,) = second.label_and_sample_proposals([proposals], [instances])
    overlap = pairwise_iou(instances.gt_boxes, sampled.proposal_boxes).amax(dim=0)
    assert (sampled.gt_classes == 1).all() and overlap.max() < 0.5


def test_a_crop_holds_the_sources_whose_centres_lie_in_it(folder):
    tile = read_shard(shard_paths(folder)[0])[0]
    pieces = [crop_tile(tile, top, left, 48) for top in (0, 48) for left in (0, 48)]
    assert sum(len(piece.instances) for piece in pieces) == len(tile.instances)
    assert sum(len(piece.peaks) for piece in pieces) == len(tile.peaks)
    for piece in pieces:
        assert piece.masks.shape == (len(piece.instances), 48, 48)


def test_a_perfect_detector_scores_one_and_doubles_are_spurious(folder):
    tile = read_shard(shard_paths(folder)[0])[0]
    counted = tile.instances[tile.instances["snr"] >= 8]
    centres = np.stack([counted["y"], counted["x"]], axis=1)
    no_peaks = np.zeros((0, 2))
    perfect = RecoveryEvaluator()
    perfect.add(centres, np.linspace(1, 0.5, len(centres)), no_peaks, tile.instances)
    found = perfect.curve()
    assert found.purity[-1] == 1 and found.recovery[-1] > 0.9  # but for the closest pairs
    twice = RecoveryEvaluator()
    doubles = np.concatenate([centres, centres + np.array([0.0, 2.0])])
    twice.add(doubles, np.linspace(1, 0.5, len(doubles)), no_peaks, tile.instances)
    assert twice.curve().purity[-1] < 0.7
    assert twice.curve().at_purity(0.99)[0] > 0.9


def test_a_run_goes_on_from_its_checkpoint(cfg, tmp_path):
    train(cfg)
    assert (tmp_path / "model_final.pth").exists()
    metrics = (tmp_path / "metrics.json").read_text()
    assert "validation/average_precision" in metrics
    cfg.SOLVER.MAX_ITER = 3
    train(cfg)
    assert (tmp_path / "model_0000002.pth").exists()
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] >= 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU one process trains on the CPU")
def test_on_a_processor_each_core_has_its_crops(cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cfg.SOLVER.IMS_PER_BATCH = 8
    assert n_processes(cfg) == 2  # of four crops; a third would have fewer
    train(cfg)
    assert (tmp_path / "log.txt.rank1").exists()
    weights = torch.load(tmp_path / "model_final.pth", weights_only=False)["model"]
    assert all(torch.isfinite(values).all() for values in weights.values())
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert "validation/average_precision" in last
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert n_processes(cfg) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    cfg.SOLVER.IMS_PER_BATCH = 2
    assert n_processes(cfg) == 1


def test_a_folder_without_tiles_is_named_before_work_begins(cfg, tmp_path):
    (tmp_path / "empty").mkdir()
    cfg.TILES.VALIDATION = str(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="empty holds no training tiles"):
        train(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU one process trains on the CPU")
def test_what_goes_wrong_in_a_process_is_told(cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cfg.SOLVER.IMS_PER_BATCH = 8
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "shard-1-00000.npz").write_bytes(b"no shard")
    cfg.TILES.TRAIN = str(tmp_path / "bad")
    with pytest.raises(RuntimeError, match="^ValueError: .*shard-1-00000.npz: no shard of training tiles"):
        train(cfg)


def test_onnx_runtime_and_detectron2_agree(cfg, folder, tmp_path):
    import onnxruntime

    torch.manual_seed(1)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 50
    cfg.MODEL.DEVICE = "cpu"
    network = Trainer.build_model(cfg).eval()
    write_onnx(network, 13, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    tile = read_shard(shard_paths(folder)[0])[0]
    # Other sizes than the one that was traced.
    for side in (64, 96):
        image = to_detectron2(crop_tile(tile, 0, 0, side), feature_options(cfg), 5.0)["image"]
        boxes, scores, masks = session.run(None, {"channels": image.numpy()})
        with torch.no_grad():
            (found,) = network.inference([{"image": image}], do_postprocess=False)
        assert len(boxes) == len(found) > 10
        np.testing.assert_allclose(boxes, found.pred_boxes.tensor, atol=1e-3)
        np.testing.assert_allclose(scores, found.scores, atol=1e-4)
        np.testing.assert_allclose(masks, found.pred_masks[:, 0], atol=1e-3)


@pytest.mark.parametrize(("objectness", "score"), [(0.0, 1.1), (1.1, 0.0)])
def test_onnx_runtime_may_find_nothing(cfg, tmp_path, objectness, score):
    import onnxruntime

    cfg.MODEL.RPN.MIN_OBJECTNESS, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = objectness, score
    cfg.MODEL.DEVICE = "cpu"
    write_onnx(Trainer.build_model(cfg).eval(), 13, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    boxes, scores, masks = session.run(None, {"channels": np.zeros((13, 64, 64), np.float32)})
    assert boxes.shape == (0, 4) and scores.shape == (0,) and masks.shape[0] == 0


def test_a_package_is_written_whole_and_read_back(cfg, tmp_path):
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.MIN_OBJECTNESS = 0.3
    train(cfg)
    seen = []

    def judge(package: Path) -> Judged:
        seen.append(load_package(str(package)))
        return judged

    rng = np.random.default_rng(1)
    measured = rng.normal(0, 2, (400, len(COVARIATES)))
    score = expit(measured[:, 0])
    right = rng.uniform(0, 1, 400) < score
    case = np.repeat([0, 1], 200)
    judged = Judged(
        Found(score, score, measured, right, right, ~right),
        case,
        np.array(["smooth", "lessons"]),
        np.array(["1", "2"]),
        np.bincount(case, right).astype(int),
        ({**dict.fromkeys(SKY_FACTS, 1.0), "host_snr": 10.0},) * 2,
    )
    purities = {"simulated_purity": 0.8, "real_purity": 0.5}
    made = export_package(
        cfg, [tmp_path / "model_final.pth"], tmp_path / "mine", judge, judged_on="noise", **purities
    )
    package = load_package(str(tmp_path / "mine"))
    assert package.name == "mine" and package.results == made.results
    assert seen[0].calibration.probability(np.array([0.3])) == pytest.approx(0.3)
    assert package.calibration.needs_covariates and package.calibrated_on["host_snr"] == (9.5, 10.5)
    cut = choose_settings(judged, **purities).min_score
    assert f"SCORE_THRESH_TEST: {cut}" in (tmp_path / "mine" / "detectron2.yaml").read_text()
    # Exported once more, what it leaves out is calibrated on again.
    again = read_config(tmp_path / "mine" / "detectron2.yaml")
    assert again.MODEL.ROI_HEADS.SCORE_THRESH_TEST == cut > 0.02
    weights = [tmp_path / "mine" / "weights.safetensors"]
    shown = []

    def look(folder: Path) -> Judged:
        shown.append(read_config(folder / "detectron2.yaml").MODEL)
        return judged

    export_package(again, weights, tmp_path / "again", look, judged_on="noise", **purities)
    assert shown[0].ROI_HEADS.SCORE_THRESH_TEST == 0.02 and shown[0].RPN.MIN_OBJECTNESS == 0.3
    for name in ("model.onnx", "weights.safetensors", "detectron2.yaml"):
        assert package.file(name).stat().st_size > 1000


def test_weights_of_several_runs_are_averaged(cfg, tmp_path):
    cfg.MODEL.DEVICE = "cpu"
    paths = [tmp_path / "first.pth", tmp_path / "second.pth"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        torch.save({"model": Trainer.build_model(cfg).state_dict()}, path)
    package = tmp_path / "weights.safetensors"
    save_file(load_trained(cfg, paths[1:]).state_dict(), package)
    paths[1] = package
    (one, other), both = (load_trained(cfg, [path]).state_dict() for path in paths), load_trained(cfg, paths)
    assert any((one[name] != other[name]).any() for name in one)
    for name, value in both.state_dict().items():
        torch.testing.assert_close(value, ((one[name].double() + other[name]) / 2).to(value.dtype))
    cfg.MODEL.FINE_FPN.OUT_CHANNELS = 32
    with pytest.raises(ValueError, match=r"first\.pth holds another network"):
        load_trained(cfg, paths)


def test_the_network_sees_hardly_farther_than_the_margin_of_a_tile(cfg):
    cfg.MODEL.DEVICE = "cpu"
    network = Trainer.build_model(cfg).eval()
    image = torch.randn(1, 13, 256, 256, requires_grad=True)
    features = network.backbone(image)["p1"]
    hidden = network.proposal_generator.rpn_head.conv(features)
    # Where the heads look for the largest box round a centre, 12 pixels away.
    hidden[..., 64 - 6 : 64 + 7, 64 - 6 : 64 + 7].sum().backward()
    influence = image.grad.abs().sum(dim=(0, 1)).numpy()
    margin = inspect.signature(export_package).parameters["margin"].default
    near = influence[128 - margin : 128 + margin + 1, 128 - margin : 128 + margin + 1]
    assert near.sum() > 0.998 * influence.sum()
