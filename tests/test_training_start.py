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

"""Where a training run starts, and what it trains on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("detectron2")
torch = pytest.importorskip("torch")
for _needed in ("torchvision", "safetensors"):
    pytest.importorskip(_needed)

from detectron2.modeling import build_model  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from lsst.meas.residualdetect.io.package_files import find_file  # noqa: E402
from lsst.meas.residualdetect.network.modeling.config import read_config  # noqa: E402
from lsst.meas.residualdetect.training.folders import (  # noqa: E402
    join_folders,
    train_folders,
    validation_folders,
)
from lsst.meas.residualdetect.training.warm_start import load_weights, widened  # noqa: E402

CONFIG = find_file("config/training", "mask_rcnn_ugrizy.yaml")


def test_a_widened_network_answers_as_the_old_one(tmp_path):
    torch.manual_seed(1)
    old = build_model(read_config(CONFIG, ["MODEL.DEVICE", "cpu"])).eval()
    save_file(
        {name: value.contiguous() for name, value in old.state_dict().items()}, tmp_path / "w.safetensors"
    )
    cfg = read_config(CONFIG, ["MODEL.DEVICE", "cpu", "FEATURES.SIGNIFICANCE", "True"])
    new = build_model(cfg).eval()
    load_weights(new, tmp_path / "w.safetensors")
    image = torch.randn(1, 19, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            new.backbone(image)["p1"], old.backbone(image[:, :13])["p1"], rtol=1e-5, atol=1e-5
        )


def test_only_channels_can_be_added():
    with pytest.raises(ValueError, match="only input channels"):
        widened(torch.zeros(4, 13, 5, 5), torch.zeros(4, 7, 5, 5))
    with pytest.raises(ValueError, match="only input channels"):
        widened(torch.zeros(4, 13, 5, 5), torch.zeros(8, 19, 5, 5))


def test_folders_have_weights():
    cfg = read_config(CONFIG, ["TILES.TRAIN", join_folders(["sky=0.6", "real=2", "more"])])
    assert train_folders(cfg) == {Path("sky"): 0.6, Path("real"): 2.0, Path("more"): 1.0}
    cfg.TILES.TRAIN = "sky=-1"
    with pytest.raises(ValueError, match="must be positive"):
        train_folders(cfg)
    cfg.TILES.VALIDATION = os.pathsep.join(["a/val", "b/val"])
    with pytest.raises(ValueError, match="different names"):
        validation_folders(cfg)
