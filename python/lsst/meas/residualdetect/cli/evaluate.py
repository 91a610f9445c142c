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
from pathlib import Path

import click

from ..deblend import engine_names
from ..detectors import detector_names
from ..network.package import DEFAULT_MODEL
from .common import check_folder, progress_bar

__all__ = ["evaluate"]

# Those of evaluation.populations, named here because help must not wait for
# what simulates them.
_POPULATIONS = ("default", "sparse", "dense", "grizy", "gri", "shallow", "stars", "hsc", "correlated")


@click.command(short_help="Measure detectors on fresh simulated scenes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Scenes of a population.",
)
@click.option("--seed", type=click.IntRange(min=0), default=9000, show_default=True, help="Random seed.")
@click.option(
    "--size", type=click.IntRange(min=100), default=300, show_default=True, help="Side of a scene in pixels."
)
@click.option(
    "--population",
    "populations",
    type=click.Choice(_POPULATIONS),
    multiple=True,
    default=("default", "dense"),
    show_default=True,
    help="Sky to simulate; several are possible.",
)
@click.option(
    "--detector",
    "detectors",
    type=click.Choice((*detector_names(), "oracle")),
    multiple=True,
    default=("matched_filter", "onnx"),
    show_default=True,
    help="Who looks; several are possible. The oracle is told the true centres.",
)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Model package: a folder or a name.")
@click.option(
    "--iterations", type=click.IntRange(1, 5), default=1, show_default=True, help="Rounds of re-deblending."
)
@click.option("--engine", type=click.Choice(engine_names()), default="factorized", show_default=True)
@click.option(
    "--scenes",
    "scenes",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Scene file, or folder of them, in place of simulated scenes; several are possible.",
)
@click.option(
    "--split",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only those scene files that the list validation of this YAML file names.",
)
@click.option("--pixel-scale", type=float, help="Side of their pixels in arcsec, if they do not say it.")
@click.option(
    "--leave-out", is_flag=True, help="Withhold every known peak of the scene files once; see doc/judging.md."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; as many as there are cores by default.")
def evaluate(
    out: Path,
    number: int,
    seed: int,
    size: int,
    populations: tuple[str, ...],
    detectors: tuple[str, ...],
    model: str,
    iterations: int,
    engine: str,
    scenes: tuple[Path, ...],
    split: Path | None,
    pixel_scale: float | None,
    leave_out: bool,
    jobs: int | None,
) -> None:
    """Measure detectors on fresh simulated scenes, side by side.

    All look at the same residuals, and the deblender is run again with what
    each of them found. Writes results.md, results.json and figures; results
    of single scenes are kept, so that a run that was cut off goes on.

    \b
    Examples:
      residualdetect evaluate --out results
      residualdetect evaluate --out results -n 20 --population dense \\
          --detector onnx --detector oracle --iterations 2
    """
    if leave_out:
        _leave_out(out, scenes, split, pixel_scale, detectors, model, engine, seed, jobs)
        return
    from ..experiments.comparison import compare
    from ..experiments.comparison_options import ComparisonOptions
    from ..experiments.figures import write_figures
    from ..experiments.tables import markdown
    from ..io.whole_file import whole_file
    from ..threads import usable_cores
    from ..truth.summary import strict_json

    options = ComparisonOptions(
        populations=tuple(dict.fromkeys(populations)),
        detectors=tuple(dict.fromkeys(detectors)),
        model=model,
        n_scenes=number,
        seed=seed,
        size=size,
        n_iterations=iterations,
        engine=engine,
    )
    check_folder(out)
    with progress_bar("Looking at scenes", number * len(options.populations)) as progress:
        entries = compare(out, options, jobs=jobs or usable_cores(), progress=progress)
    command = shlex.join(["residualdetect", *sys.argv[1:]])
    text = markdown(entries, command)
    for path, content in (
        (out / "results.md", text),
        (out / "results.json", strict_json({"command": command, "entries": [e.figures for e in entries]})),
    ):
        with whole_file(path) as temporary:
            temporary.write_text(content)
    write_figures(entries, out)
    click.echo(text)
    click.echo(f"results.md, results.json and figures in {out}")


def _leave_out(
    out: Path,
    scenes: tuple[Path, ...],
    split: Path | None,
    pixel_scale: float | None,
    detectors: tuple[str, ...],
    model: str,
    engine: str,
    seed: int,
    jobs: int | None,
) -> None:
    if not scenes:
        raise click.UsageError("--leave-out needs --scenes")
    import numpy as np

    from ..experiments.known_scenes import scene_paths
    from ..experiments.leave_out import leave_out_files
    from ..experiments.leave_out_results import leave_out_markdown, write_leave_out
    from ..threads import usable_cores
    from ..truth.blends import read_split

    paths = scene_paths(scenes, read_split(split)["validation"] if split else None)
    check_folder(out)
    with progress_bar("Looking at scenes", len(paths)) as progress:
        left_out = leave_out_files(
            paths,
            tuple(dict.fromkeys(detectors)),
            model=model,
            pixel_scale_arcsec=pixel_scale,
            engine=engine,
            seed=seed,
            jobs=jobs or usable_cores(),
            progress=progress,
        )
    command = shlex.join(["residualdetect", *sys.argv[1:]])
    figures = write_leave_out(left_out, out, command, np.random.default_rng(seed))
    click.echo(leave_out_markdown(figures, command))
    click.echo(f"leave_out.md, leave_out.json, tables and figures in {out}")
