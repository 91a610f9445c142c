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

"""What of a training run needs no Detectron2: its arithmetic, and the picture at its end."""

from __future__ import annotations

import json

import matplotlib.image
import numpy as np

from lsst.meas.residualdetect.network.modeling import precision
from lsst.meas.residualdetect.training.curves import plot_curves, read_metrics


def test_bfloat16_goes_by_the_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_bf16\n")
    assert "avx512_bf16" in precision.cpu_flags(path)
    assert precision.cpu_flags(tmp_path / "none") == frozenset()
    assert not precision.has_bfloat16("xla")


def _drawn_panels(path):
    """Whether there is a coloured line in each of the three panels."""
    picture = matplotlib.image.imread(path)[..., :3]
    coloured = np.ptp(picture, axis=2) > 0.2
    return [bool(part.any()) for part in np.array_split(coloured, 3, axis=1)]


def test_curves_are_drawn_of_what_was_logged(tmp_path):
    rows = [{"iteration": k, "total_loss": 2.0 / (k + 1)} for k in range(0, 60, 20)]
    rows += [{"iteration": 40, "sky/validation/average_precision": 0.5, "sky/validation/recovery90": 0.3}]
    rows += [{"iteration": 40, "total_loss": 7.0}]  # the run went back to a checkpoint
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "metrics.json").write_text("\n".join([*lines, '{"iteration": 80, "tot']))
    curves = read_metrics(tmp_path / "metrics.json")
    assert curves["total_loss"] == ([0, 20, 40], [2.0, 2.0 / 21, 7.0])
    assert _drawn_panels(plot_curves(tmp_path)) == [True, True, True]
    (tmp_path / "metrics.json").write_text("\n".join(lines[:3]))  # the loss alone
    assert _drawn_panels(plot_curves(tmp_path)) == [True, False, False]
