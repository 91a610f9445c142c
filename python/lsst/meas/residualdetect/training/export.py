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

"""From a checkpoint to a model package that runs anywhere."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import build_model
from safetensors.torch import load_file, save_file
from torch import nn

from ..network.covariates import COVARIATES, FORMULA
from ..network.features import CANONICAL_BANDS
from ..network.modeling.config import feature_options
from ..network.package import ModelPackage, write_package
from .for_onnx import for_onnx
from .judged import Judged
from .settings import Settings, choose_settings

__all__ = ["export_package", "load_trained", "write_onnx"]

_FILES = ("model.onnx", "weights.safetensors", "detectron2.yaml")

# Least objectness and score that a calibration looks at. What a package is exported with
# was chosen for its own calibration; another would be fitted to the rest alone.
_CALIBRATED_FROM = (0.5, 0.02)

_OPSET = 17  # 15 and below are silently wrong for ROIAlign


class _Flat(nn.Module):
    """A Mask R-CNN with tensors in and tensors out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Or the number of proposals of the example would be a constant.
        with patch_builtin_len():
            (found,) = self.network.inference([{"image": channels}], do_postprocess=False)
        return found.pred_boxes.tensor, found.scores, found.pred_masks[:, 0]


def _weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
    return weights


def load_trained(cfg: CfgNode, checkpoints: Sequence[Path]) -> Any:
    """A network with the weights of this project's own checkpoints and packages.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        What it was trained with.
    checkpoints : `~collections.abc.Sequence` [`pathlib.Path`]
        Files that `train` wrote, or weights of packages. Of several the mean of the weights is taken,
        which is as good as the best of them, or better, where each was
        trained on from the one before (Wortsman et al. 2022, ICML, Model
        soups).

    Returns
    -------
    network : `torch.nn.Module`
        On the CPU, ready for inference.

    Raises
    ------
    ValueError
        Raised with the file's name if it holds another network.
    """
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cpu"
    network = build_model(cfg)
    mean: dict[str, torch.Tensor] = {}
    for checkpoint in checkpoints:
        weights = _weights(checkpoint)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{checkpoint} holds another network than the configuration says") from error
        for name, value in weights.items():
            mean[name] = mean.get(name, 0) + value.double() / len(checkpoints)
    network.load_state_dict(mean)
    return network.eval()


def write_onnx(network: Any, n_channels: int, path: Path) -> None:
    """Write a network in the Open Neural Network Exchange format.

    Parameters
    ----------
    network : `torch.nn.Module`
        Trained `GeneralizedRCNN`.
    n_channels : `int`
        Number of its input channels.
    path : `pathlib.Path`
        File to write: input ``channels`` (channel, y, x), outputs ``boxes``
        (n, 4: x0, y0, x1, y1), ``scores`` (n,), ``masks`` (n, y, x).
    """
    example = torch.randn(n_channels, 192, 224, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every Python number it meets
        torch.onnx.export(
            _Flat(for_onnx(network)).eval(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["channels"],
            output_names=["boxes", "scores", "masks"],
            dynamic_axes={
                "channels": {1: "height", 2: "width"},
                "boxes": {0: "detections"},
                "scores": {0: "detections"},
                "masks": {0: "detections"},
            },
        )


def _write_network(network: Any, cfg: CfgNode, folder: Path) -> None:
    """Weights, configuration and ONNX model."""
    write_onnx(network, feature_options(cfg).n_channels, folder / "model.onnx")
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "weights.safetensors").chmod(0o644)  # safetensors makes it private
    config = cfg.clone()
    config.MODEL.WEIGHTS = config.TILES.TRAIN = config.TILES.VALIDATION = config.OUTPUT_DIR = ""
    (folder / "detectron2.yaml").write_text(config.dump())


def _calibrated(settings: Settings) -> dict[str, Any]:
    """What a package's description says of its calibration."""
    calibration = settings.calibration
    coefficients = zip(COVARIATES, calibration.coefficients, strict=True)
    return {
        "calibration": {
            "formula": FORMULA,
            "intercept": round(calibration.intercept, 5),
            "coefficients": {name: round(value, 5) for name, value in coefficients},
        },
        "score_threshold": settings.score_threshold,
        "calibrated_on": {name: list(limits) for name, limits in settings.calibrated_on.items()},
        "results": {"calibration": settings.results},
    }


def export_package(
    cfg: CfgNode,
    checkpoints: Sequence[Path],
    folder: Path,
    judge: Callable[[Path], Judged],
    *,
    judged_on: str,
    simulated_purity: float = 0.95,
    real_purity: float = 0.9,
    threshold: float | None = None,
    pixel_scale_arcsec: float = 0.2,
    tile_size: int = 1536,
    margin: int = 80,
) -> ModelPackage:
    """Write a model package: weights for Detectron2, the same network for
    ONNX Runtime, and what both need to know.

    Parameters
    ----------
    cfg : `detectron2.config.CfgNode`
        What the network was trained with.
    checkpoints : `~collections.abc.Sequence` [`pathlib.Path`]
        Its weights, or those of several runs, to be averaged; see
        `load_trained`.
    folder : `pathlib.Path`
        Package to write; it is named like its folder.
    judge : `~collections.abc.Callable`
        Told the folder of the package, whose scores are the network's own,
        it gives what the package finds in cases; see `judge_cases`.
    judged_on : `str`
        What these cases are, for whoever reads the package.
    simulated_purity, real_purity : `float`, optional
        Purity on simulated and on real skies that sets the threshold; see
        `choose_settings`.
    threshold : `float`, optional
        Threshold to ship whatever its purity.
    pixel_scale_arcsec : `float`, optional
        Pixels it was trained on.
    tile_size, margin : `int`, optional
        How to cut patches; see `ModelPackage`.

    Returns
    -------
    package : `ModelPackage`
        Its ``results`` are those on the cases, cross-validated.

    Raises
    ------
    ValueError
        Raised if the purity is not reached on these cases, or they give too
        few candidates to calibrate with.
    """
    cfg = cfg.clone()
    objectness, score = _CALIBRATED_FROM
    cfg.MODEL.RPN.MIN_OBJECTNESS = min(objectness, cfg.MODEL.RPN.MIN_OBJECTNESS)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = min(score, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
    network = load_trained(cfg, checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.yaml").unlink(missing_ok=True)  # no package until it is whole again
    _write_network(network, cfg, folder)
    description: dict[str, Any] = {
        "name": folder.resolve().name,
        "bands": list(CANONICAL_BANDS),
        "pixel_scale_arcsec": pixel_scale_arcsec,
        "features": asdict(feature_options(cfg)),
        "tile_size": tile_size,
        "margin": margin,
        "stride": int(network.backbone.size_divisibility),
        "calibration": {"score": [0.0, 1.0], "probability": [0.0, 1.0]},
        "score_threshold": 0.5,
        "training": {
            "date": datetime.now(UTC).date().isoformat(),
            "checkpoint": " + ".join(f"{path.parent.name}/{path.name}" for path in checkpoints),
            "iterations": cfg.SOLVER.MAX_ITER,
            "crops_per_iteration": cfg.SOLVER.IMS_PER_BATCH,
            "crop": cfg.TILES.CROP,
            "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "results": {},
    }
    write_package(folder, description, _FILES)
    try:
        settings = choose_settings(
            judge(folder), simulated_purity=simulated_purity, real_purity=real_purity, threshold=threshold
        )
    except BaseException:
        (folder / "package.yaml").unlink()
        raise
    # The same weights, that no longer work on what would be left out anyway.
    cfg.MODEL.RPN.MIN_OBJECTNESS = max(settings.min_objectness, cfg.MODEL.RPN.MIN_OBJECTNESS)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = max(settings.min_score, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
    _write_network(load_trained(cfg, checkpoints), cfg, folder)
    calibrated = _calibrated(settings)
    calibrated["results"]["calibration"]["cases"] = judged_on
    return write_package(folder, {**description, **calibrated}, _FILES)
