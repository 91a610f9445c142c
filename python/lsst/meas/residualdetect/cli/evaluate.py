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

"""``residualdetect evaluate``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..experiments.peers import DEBLENDINGS, ORACLE, peer_names
from ..experiments.populations import POPULATIONS
from ..network.package import DEFAULT_MODEL
from .common import (
    check_folder,
    engine_option,
    folder_option,
    jobs_option,
    limit_option,
    limits_of,
    number_option,
    options_of,
    progress_bar,
    search_of,
    search_option,
    seed_option,
    size_option,
    values_option,
)
from .extras import need_extras
from .training_options import config_path

if TYPE_CHECKING:
    from ..experiments.comparison_options import ComparisonOptions
    from ..experiments.skies import Sky
    from ..find_missing import FindMissingOptions

__all__ = ["evaluate"]


@click.command(short_help="Measure detectors on simulated or real scenes.")
@folder_option("results")
@number_option(50, "Simulated scenes of a population.")
@seed_option(9000)
@size_option(300, 100, "simulated scene")
@click.option(
    "--population",
    "populations",
    type=click.Choice(tuple(POPULATIONS)),
    multiple=True,
    default=("default", "dense"),
    show_default=True,
    help="Sky to simulate; several are possible.",
)
@click.option(
    "--scenes",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Scene file, or folder of them, in place of simulated scenes; several are possible.",
)
@click.option(
    "--split",
    help="Only those scene files that the list validation names of a YAML file, or of a name under"
    " config/training such as hsc_blends_split.",
)
@click.option("--pixel-scale", type=float, help="Side of their pixels in arcsec, if they do not say it.")
@click.option("--leave-out", is_flag=True, help="Withhold every known peak of the scene files once.")
@click.option(
    "--degrade",
    metavar="seeing=ARCSEC,depth=SHARE",
    help="See the scene files worse; what they show and the worse ones do not is to be found.",
)
@click.option(
    "--inject",
    metavar="number=N,snr=LOW:HIGH,distance=NEAR:FAR",
    help="Put sources beside the known ones of the scene files: up to so many in each, of such S/N, so far"
    " from a peak in arcsec.",
)
@click.option(
    "--detector",
    "detectors",
    type=click.Choice(peer_names()),
    multiple=True,
    default=("matched_filter", "onnx"),
    show_default=True,
    help="Who looks; several are possible. The oracle is told the true centres; sep and photutils"
    " are SExtractor's and photutils' deblending of all bands together.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=(DEFAULT_MODEL,),
    show_default=True,
    help="Model package: a folder or a name; several are possible, each run by the detectors onnx and"
    " detectron2.",
)
@values_option(
    *("--option", "detector_options"),
    text="Option of a detector, such as onnx.min_score=0.1 or sep.contrast=0.001.",
    metavar="DETECTOR.NAME=VALUE",
)
@click.option(
    "--iterations", type=click.IntRange(1, 5), default=1, show_default=True, help="Rounds of re-deblending."
)
@engine_option
@limit_option
@search_option
@jobs_option
def evaluate(
    out: Path,
    number: int,
    seed: int,
    size: int,
    populations: tuple[str, ...],
    scenes: tuple[Path, ...],
    split: str | None,
    pixel_scale: float | None,
    leave_out: bool,
    degrade: str | None,
    inject: str | None,
    detectors: tuple[str, ...],
    models: tuple[str, ...],
    detector_options: tuple[str, ...],
    iterations: int,
    engine: str,
    limits: tuple[str, ...],
    search: tuple[str, ...],
    jobs: int,
) -> None:
    """Measure detectors side by side, on simulated scenes or on real ones.

    All look at the same residuals, and the deblender is run again with what
    each of them found. Writes results.md, results.json and figures; results
    of single scenes are kept, so that a run that was cut off goes on.

    Scene files (--scenes) need a truth table, or else --leave-out, --degrade
    or --inject makes one; see doc/judging.md.

    \b
    Examples:
      residualdetect evaluate --out results
      residualdetect evaluate --out results -n 20 --population dense \\
          --detector onnx --detector oracle --iterations 2
      residualdetect evaluate --out judged --scenes blends --leave-out
      residualdetect evaluate --out worse --scenes blends --degrade seeing=0.9,depth=0.5
      residualdetect evaluate --out beside --scenes blends --inject snr=8:200,distance=0.3:1.5
      residualdetect evaluate --out both --detector onnx --model mask_rcnn_ugrizy --model ./mine
    """
    from ..experiments.comparison_options import ComparisonOptions

    if not scenes and (leave_out or degrade or inject or split or pixel_scale):
        raise click.UsageError("--leave-out, --degrade, --inject, --split and --pixel-scale need --scenes")
    if sum(map(bool, (leave_out, degrade, inject))) > 1:
        raise click.UsageError("only one of --leave-out, --degrade and --inject is possible")
    need_extras(
        "report",
        *(("simulate",) if inject or not scenes else ()),
        *(("peers",) if DEBLENDINGS.keys() & set(detectors) else ()),
    )
    detectors = tuple(dict.fromkeys(detectors))
    paths = _paths(scenes, split)
    options = search_of(search, singles_engine=engine)
    check_folder(out)
    if leave_out:
        if ORACLE in detectors or limits or iterations > 1:
            raise click.UsageError("--leave-out does not go with the oracle, --limit or --iterations")
        _leave_out(out, paths, pixel_scale, detectors, models, detector_options, options, seed, jobs)
        return
    skies: Sequence[Sky]
    if scenes:
        skies = [_file_sky(scenes, paths, pixel_scale, degrade, inject, seed, engine)]
    else:
        from ..experiments.skies import SimulatedSky

        skies = [SimulatedSky(name, number, seed, size) for name in dict.fromkeys(populations)]
    _compare(
        out,
        ComparisonOptions(
            tuple(skies), detectors, models, iterations, options, limits_of(limits), detector_options
        ),
        jobs,
    )


def _paths(scenes: Sequence[Path], split: str | None) -> list[Path]:
    if not scenes:
        return []
    from ..truth.blends import read_split
    from ..truth.known_scenes import scene_paths

    return scene_paths(scenes, read_split(config_path(split))["validation"] if split else None)


def _file_sky(
    scenes: Sequence[Path],
    paths: Sequence[Path],
    pixel_scale: float | None,
    degrade: str | None,
    inject: str | None,
    seed: int,
    engine: str,
) -> Sky:
    from ..experiments.skies import FileSky
    from ..truth.degradation import Degradation

    name = scenes[0].resolve().stem if len(scenes) == 1 else "scenes"
    sky = FileSky(name, tuple(paths), pixel_scale, seed=seed, engine=engine)
    given = degrade or inject
    if given is None:
        return sky
    sky = replace(sky, name=f"{name}-{given.replace(',', '-').replace(':', '-')}")
    if degrade:
        return replace(sky, degradation=options_of(Degradation, degrade.split(","), "--degrade"))
    from ..lessons.injected import SourceInjection

    parts = [part.replace(":", ",") for part in given.split(",")]
    return replace(sky, injection=options_of(SourceInjection, parts, "--inject"))


def _compare(out: Path, options: ComparisonOptions, jobs: int) -> None:
    from ..experiments.comparison import compare
    from ..experiments.figures import write_figures
    from ..experiments.tables import markdown
    from ..experiments.wrong_pictures import draw_surest_wrong
    from ..io.whole_file import write_whole
    from ..truth.summary import strict_json

    with progress_bar("Looking at scenes", sum(sky.n_scenes for sky in options.skies)) as progress:
        entries = compare(out, options, jobs=jobs, progress=progress)
    command = shlex.join(["residualdetect", *sys.argv[1:]])
    text = markdown(entries, command)
    for path, content in (
        (out / "results.md", text),
        (out / "results.json", strict_json({"command": command, "entries": [e.figures for e in entries]})),
    ):
        write_whole(path, content)
    write_figures(entries, out)
    draw_surest_wrong(entries, options, out)
    click.echo(text)
    click.echo(f"results.md, results.json and figures in {out}")


def _leave_out(
    out: Path,
    paths: Sequence[Path],
    pixel_scale: float | None,
    detectors: tuple[str, ...],
    models: tuple[str, ...],
    detector_options: tuple[str, ...],
    search: FindMissingOptions,
    seed: int,
    jobs: int,
) -> None:
    import numpy as np

    from ..experiments.leave_out_files import leave_out_files
    from ..experiments.leave_out_results import leave_out_markdown, write_leave_out

    with progress_bar("Looking at scenes", len(paths)) as progress:
        left_out = leave_out_files(
            paths,
            detectors,
            models=models,
            detector_options=detector_options,
            pixel_scale_arcsec=pixel_scale,
            search=search,
            seed=seed,
            jobs=jobs,
            progress=progress,
        )
    command = shlex.join(["residualdetect", *sys.argv[1:]])
    figures = write_leave_out(left_out, out, command, np.random.default_rng(seed))
    click.echo(leave_out_markdown(figures, command))
    click.echo(f"leave_out.md, leave_out.json, tables and figures in {out}")
