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


"""Every number and figure of the documentation, made again.

    python benchmarks/results.py --scenes 30 --blends hsc_blends
    python benchmarks/results.py comparison --scenes 4
    python benchmarks/results.py --fill

Runs the commands, notes what they gave in doc/figures.json with the commit, the
seed and the time, and fills it into the text: what stands in README.md and doc/
between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->`` is made of that
file by the template doc/_figures/NAME.md.j2. Results of single scenes are kept,
so that a run that was cut off goes on, and scenes can be added. Real blends do
not come with the package; without them what they gave before stays.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, StrictUndefined

from lsst.meas.residualdetect.experiments.tables import number_text, percent_text, with_interval
from lsst.meas.residualdetect.truth.metrics import bin_label

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "doc" / "figures.json"
TEMPLATES = ROOT / "doc" / "_figures"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "doc").glob("*.md")))
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

SEED = 9000
PEERS = ("matched_filter", "sep", "photutils", "onnx")
NEEDED = {"sep": "sep", "photutils": "skimage"}  # left out where that is not installed
POPULATIONS = ("dense", "default")
OTHER_SKIES = (
    *("dense", "grizy", "gri", "hsc", "stars"),
    *("correlated", "shallow", "sparse", "structured", "halo", "one_year"),
)
WORSE = "seeing=0.9,depth=0.5"


def _options(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def _short(value: Any) -> Any:
    """Floats of four digits, through all that JSON holds."""
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _entry(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the text needs of an entry of results.json."""
    first, last = figures["iterations"][0], figures["iterations"][-1]

    def pair(group: str, name: str) -> list[float]:
        found = (first[group][f"{name}_before"], first[group][f"{name}_after"])
        return [item["all"] if isinstance(item, Mapping) else item for item in found]

    return {
        "n_truth": first["n_truth"],
        "n_to_find": first["n_unrecognized"],
        "average_precision": {
            "value": figures["average_precision"],
            "interval": figures["average_precision_interval"],
        },
        **{f"at_{100 * float(purity):g}": found for purity, found in figures["recovery_at_purity"].items()},
        "gain_over_25": figures["targets_with_chi2_gain_over_25"],
        "recovery": first["recovery"],
        "purity": first["purity"],
        "shreds": first["shreds_per_matched_source"],
        "position_pix": first["centroid_error_pix"],
        "flux_neighbours": pair("flux_error", "neighbours"),
        "flux_blended": pair("flux_error", "blended"),
        "colour_neighbours": pair("colour_error_mag", "neighbours"),
        "chi2": [first["chi2_before"], first["chi2_after"]],
        "last": {"recovery": last["recovery"], "purity": last["purity"], "n": len(figures["iterations"])},
    }


def _of_evaluate(folder: Path) -> dict[str, Any]:
    """Entries of results.json by sky and detector."""
    skies: dict[str, Any] = {}
    for figures in json.loads((folder / "results.json").read_text())["entries"]:
        skies.setdefault(figures["population"], {})[figures["detector"]] = _entry(figures)
    return skies


def _of_comparison(folder: Path) -> dict[str, Any]:
    for picture, source in (("purity", "purity_dense"), ("recovery", "recovery_separation_fwhm_dense")):
        shutil.copyfile(folder / f"{source}.png", ROOT / "doc" / f"{picture}.png")
    return _of_evaluate(folder)


def _of_leave_out(folder: Path) -> dict[str, Any]:
    return {
        item["detector"]: item for item in json.loads((folder / "leave_out.json").read_text())["detectors"]
    }


def _of_costs(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "costs.json").read_text())


def sections(scenes: int, other_scenes: int, blends: Path | None) -> dict[str, tuple[list[str], Any]]:
    """Command and reader of each part of the figures that can be made."""
    peers = [name for name in PEERS if name not in NEEDED or find_spec(NEEDED[name])]
    evaluate = ["residualdetect", "evaluate", "--seed", str(SEED), "--out", "."]
    parts: dict[str, tuple[list[str], Any]] = {
        "comparison": (
            [
                *(*evaluate, "-n", str(scenes), "--iterations", "2"),
                *_options("--population", POPULATIONS),
                *_options("--detector", (*peers, "oracle")),
            ],
            _of_comparison,
        ),
        "skies": (
            [
                *(*evaluate, "-n", str(other_scenes)),
                *_options("--population", OTHER_SKIES),
                *_options("--detector", ("matched_filter", "onnx")),
            ],
            _of_evaluate,
        ),
        "costs": (["python", "benchmarks/costs.py", "--json", "costs.json"], _of_costs),
    }
    if blends is not None:
        real = [
            *(*evaluate, "--scenes", str(blends), "--pixel-scale", "0.168"),
            *("--split", "config/training/hsc_blends_split.yaml"),
        ]
        parts["real"] = ([*real, "--leave-out", *_options("--detector", peers)], _of_leave_out)
        parts["worse"] = (
            [*real, "--degrade", WORSE, *_options("--detector", (*peers, "oracle"))],
            _of_evaluate,
        )
    return parts


def _run(command: Sequence[str], folder: Path) -> float:
    """Run a command in a folder; seconds that it took there, all tries together."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / "seconds.txt"
    before = float(clock.read_text()) if clock.exists() else 0.0
    program = {"python": [sys.executable]}.get(
        command[0], [sys.executable, "-c", "from lsst.meas.residualdetect.cli import main; main()"]
    )
    # Files of the checkout are named as from its root.
    arguments = [str(ROOT / part) if (ROOT / part).is_file() else part for part in command[1:]]
    start = time.monotonic()
    try:
        subprocess.run([*program, *arguments], cwd=folder, check=True)
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"{shlex.join(command)}: exit status {error.returncode}") from error
    finally:
        clock.write_text(f"{before + time.monotonic() - start:.1f}\n")
    return float(clock.read_text())


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "python", "models", "benchmarks")
    return git("rev-parse", "--short=9", "HEAD") + ("+" if changed else "")


def read_figures() -> dict[str, Any]:
    """What doc/figures.json holds; nothing if it is not there yet."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def environment(figures: Mapping[str, Any]) -> Environment:
    """Of the templates: how numbers are written, and the figures."""

    def percent(value: float | None, digits: int = 1) -> str:
        return percent_text(math.nan if value is None else value, digits)

    def number(value: float | None, digits: int = 2) -> str:
        return number_text(math.nan if value is None else value, digits)

    kinds = {"percent": percent, "number": number}

    def change(pair: Sequence[float | None], kind: str = "percent", digits: int = 0) -> str:
        return " → ".join(kinds[kind](value, digits) for value in pair)

    def interval(figure: Mapping[str, Any], kind: str = "percent", digits: int = 1) -> str:
        ends = [math.nan if end is None else end for end in figure["interval"]]
        shown = {"value": figure["value"], "interval": ends}
        return with_interval(shown, lambda value: kinds[kind](value, digits))

    def made(run: Mapping[str, Any]) -> str:
        minutes = max(round(run["seconds"] / 60), 1)
        return (
            f"`{run['command']}` ({run['date']}, commit {run['commit']}, "
            f"{minutes} minute{'s' if minutes > 1 else ''} on {run['cores']} cores)"
        )

    def bin_text(item: Mapping[str, Any]) -> str:
        return bin_label(*(-math.inf if item["low"] is None else item["low"], item["high"] or math.inf))

    jinja = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(
        percent=percent, number=number, change=change, interval=interval, made=made, bin_text=bin_text
    )
    names = {"onnx": "network", "matched_filter": "matched filter", "sep": "SEP"}
    jinja.globals.update(figures=figures, names=names)
    return jinja


def filled(text: str, figures: Mapping[str, Any]) -> str:
    """A document with its blocks made of the figures; those whose figures have
    not been made are left as they are.
    """
    jinja = environment(figures)

    def block(match: re.Match[str]) -> str:
        source = (TEMPLATES / f"{match[2]}.md.j2").read_text()
        needs = set(re.findall(r"figures\.(\w+)", source))
        if not needs <= figures.keys():
            return match[0]
        return f"{match[1]}{jinja.from_string(source).render().strip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def fill(figures: Mapping[str, Any]) -> None:
    """Write the figures into every document."""
    for path in DOCUMENTS:
        text = filled(path.read_text(), figures)
        if text != path.read_text():
            path.write_text(text)
            click.echo(f"filled {path.relative_to(ROOT)}")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--scenes", default=30, show_default=True, help="Scenes of a population of the comparison.")
@click.option("--other-scenes", default=6, show_default=True, help="Scenes of each of the other skies.")
@click.option(
    "--blends",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    help="Folder of real blends that the split names.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "build" / "results",
    show_default="build/results",
    help="Where results of single scenes are kept.",
)
@click.option("--fill", "only_fill", is_flag=True, help="Run nothing; fill the figures into the text.")
def main(
    names: tuple[str, ...],
    scenes: int,
    other_scenes: int,
    blends: Path | None,
    work: Path,
    only_fill: bool,
) -> None:
    """Make the figures NAMES (comparison, skies, real, worse, costs), or all."""
    figures = read_figures()
    parts = sections(scenes, other_scenes, blends)
    unknown = set(names) - parts.keys()
    if unknown:
        raise click.UsageError(
            f"cannot make {', '.join(sorted(unknown))}; known: {', '.join(parts)}"
            + ("" if blends else "; real and worse need --blends")
        )
    for name in () if only_fill else (names or parts):
        command, read = parts[name]
        commit = _commit()
        said = shlex.join(command).replace(str(blends), "BLENDS")
        click.echo(f"{name}: {said}")
        seconds = _run(command, work / name)
        figures[name] = {
            "command": said,
            "commit": commit,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "cores": len(os.sched_getaffinity(0)),
            "seconds": round(seconds),
            "results": _short(read(work / name)),
        }
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        fill(figures)
    if only_fill:
        fill(figures)


if __name__ == "__main__":
    main()
