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

"""``residualdetect export``."""

from __future__ import annotations

from pathlib import Path

import click

from .common import jobs_option, progress_bar, share_option

__all__ = ["export"]


def _files(run: Path, name: str | None) -> tuple[Path, Path]:
    """Configuration and weights: a run's checkpoint of a name, or its last
    one, or what a model package has.
    """
    from ..network.package import DESCRIPTION, load_package, package_names

    by_name = str(run) in package_names()
    if by_name or (run / DESCRIPTION).is_file():
        package = load_package(str(run) if by_name else str(run.absolute()))
        return package.file("detectron2.yaml"), package.file("weights.safetensors")
    if name is None:
        pointer = run / "last_checkpoint"
        if not pointer.is_file():
            raise FileNotFoundError(f"{run} holds no checkpoint of a training run")
        name = pointer.read_text().strip()
    return run / "config.yaml", run / name


@click.command(short_help="Make a model package of a trained network.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Package to write, such as models/NAME."
)
@click.option(
    "--calibrate",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of cases that scores are calibrated on; see `residualdetect cases`.",
)
@click.option("--checkpoint", help="File in each RUN; the last one if not given.")
@share_option("--purity", 0.95, "Purity on simulated cases that sets the package's threshold.")
@share_option("--real-purity", 0.9, "Purity that it is to have on real ones, too.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a candidate becomes a peak, in place of what the purities give.",
)
@jobs_option
def export(
    runs: tuple[Path, ...],
    out: Path,
    calibrate: Path,
    checkpoint: str | None,
    purity: float,
    real_purity: float,
    threshold: float | None,
    jobs: int,
) -> None:
    """Make a model package of what `residualdetect train` left in RUN.

    Of several runs of one network, each trained on from the one before, the
    weights are averaged. A RUN may also be a model package, a folder or a
    name: alone, to calibrate its scores on cases of your own.

    The package has the weights for Detectron2, the same network for ONNX
    Runtime, the calibration of scores and a threshold.

    \b
    Example:
      residualdetect cases --out cases --blends hsc_blends
      residualdetect export run --out models/mine --calibrate cases
      residualdetect export mask_rcnn_ugrizy --out models/here --calibrate cases
    """
    from .training_options import need_detectron2

    need_detectron2()
    from ..network.modeling.config import read_config
    from ..training.cases import case_names, summary_of
    from ..training.export import export_package
    from ..training.judged import Judged
    from ..training.judging import judge_cases

    configs, checkpoints = zip(*(_files(run, checkpoint) for run in runs), strict=True)
    *others, cfg = map(read_config, configs)
    for run, other in zip(runs, others, strict=False):
        if other.FEATURES != cfg.FEATURES:
            raise ValueError(f"{run} and {runs[-1]} were trained on other channels, and cannot be averaged")
    names = case_names(calibrate)
    if not names:
        raise FileNotFoundError(f"{calibrate} holds no cases; make some with residualdetect cases")

    def judge(folder: Path) -> Judged:
        with progress_bar("Looking at cases", len(names)) as progress:
            return judge_cases(folder, calibrate, names, jobs=jobs, progress=progress)

    package = export_package(
        cfg,
        checkpoints,
        out,
        judge,
        judged_on=summary_of(names),
        simulated_purity=purity,
        real_purity=real_purity,
        threshold=threshold,
    )
    for name, figures in package.results["calibration"].items():
        click.echo(f"{name}: {figures}")
    click.echo(f"threshold: {package.score_threshold}")
    click.echo(f"model package: {out}")
