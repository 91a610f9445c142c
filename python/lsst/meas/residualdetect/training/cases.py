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

"""Scenes with truth, deblended once, on which any network's scores are
calibrated.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..deblend import check_engine, deblend
from ..detections import Detections
from ..io.fits_detections import read_detections, write_detections
from ..io.fits_models import read_model, write_model
from ..io.scene_file import SceneFile, read_scene_file, write_scene_file
from ..io.whole_file import write_whole
from ..lessons.hosts import Host, read_hosts
from ..lessons.lesson import LessonOptions, draw_lesson
from ..scene import Scene
from ..scene_model import SceneModel
from ..simulation.log_uniform import log_uniform
from ..threads import in_processes
from ..truth.degradation import Degradation, degraded
from ..truth.known_scenes import KnownScene, Truth, read_known_scene
from .generate import draw_scene
from .variation import TileOptions

__all__ = ["POPULATIONS", "Case", "CaseOptions", "case_names", "make_cases", "read_case", "summary_of"]

_SIMULATED = TileOptions(
    size=300,
    surveys=("LSST", "LSST", "HSC"),
    density=(0.7, 3.0),
    artefacts=0.2,
    informed=0.1,
    forgetful=0.0,
    structured=0.0,
    max_knot_fraction=0.0,
)

SIMULATED = {"smooth": _SIMULATED, "structured": replace(_SIMULATED, structured=1.0, max_knot_fraction=0.3)}

POPULATIONS = (*SIMULATED, "lessons", "degraded")
"""Kinds of cases: simulated skies of smooth and of structured galaxies; real
blends in which something is withheld, or added, or nothing; real blends made
worse."""

# How much worse: seeing in arcsec, and share of the exposure time.
_SEEING, _DEPTH = (0.7, 1.1), (0.1, 0.9)

_FACTS = "cases.json"


@dataclass(frozen=True)
class CaseOptions:
    """What to calibrate on.

    Parameters
    ----------
    n_simulated : `int`
        Simulated scenes of each kind.
    blends : `pathlib.Path`, optional
        Folder of real blends; none if absent.
    names : `tuple` [`str`, ...]
        Which of them.
    pixel_scale_arcsec : `float`
        Side of their pixels.
    n_lessons, n_degraded : `int`
        How often each blend is a lesson, and how often it is made worse.
    engine : `str`
        Deblender.
    seed : `int`
        Random seed.
    lessons : `LessonOptions`
        What is done to a blend. What lies beyond its footprint nobody knows,
        so it is masked.
    """

    n_simulated: int = 75
    blends: Path | None = None
    names: tuple[str, ...] = ()
    pixel_scale_arcsec: float = 0.168
    n_lessons: int = 3
    n_degraded: int = 2
    engine: str = "factorized"
    seed: int = 8000
    lessons: LessonOptions = field(default_factory=lambda: LessonOptions(surroundings=0.0))


@dataclass(frozen=True, eq=False)
class Case:
    """A deblended scene with truth.

    Parameters
    ----------
    population : `str`
        One of `POPULATIONS`.
    group : `str`
        What it is made of: cases of one group are not independent.
    scene : `Scene`
        Pixels.
    detections : `Detections`
        What the deblender was told of.
    model : `SceneModel`
        What it made of that.
    truth : `numpy.ndarray`, structured
        True sources; see `PatchResult`.
    """

    population: str
    group: str
    scene: Scene
    detections: Detections
    model: SceneModel
    truth: Truth


def _paths(folder: Path, name: str) -> tuple[Path, Path, Path]:
    return tuple(folder / f"{name}{ending}" for ending in (".npz", "-peaks.fits", "-model.fits"))  # type: ignore[return-value]


def _write(folder: Path, name: str, known: KnownScene, model: SceneModel) -> None:
    scene, peaks, models = _paths(folder, name)
    scene.parent.mkdir(parents=True, exist_ok=True)
    write_detections(peaks, known.detections)
    write_model(models, model)
    # Last: with it the case is whole.
    write_scene_file(scene, SceneFile(known.scene, truth=known.truth))


def case_names(folder: Path) -> list[str]:
    """Names of the cases in a folder, sorted."""
    return sorted(
        f"{population}/{path.stem}"
        for population in POPULATIONS
        for path in folder.glob(f"{population}/*.npz")
    )


def summary_of(names: Sequence[str]) -> str:
    """How many cases there are of each population, in words."""
    counts = Counter(name.partition("/")[0] for name in names)
    return ", ".join(f"{counts[population]} {population}" for population in POPULATIONS if counts[population])


def read_case(folder: Path, name: str) -> Case:
    """Read one of the cases that `make_cases` made.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where they are.
    name : `str`
        One of `case_names`.
    """
    scene, peaks, models = _paths(folder, name)
    content = read_scene_file(scene)
    if content.truth is None:
        raise ValueError(f"{scene} has no truth table, so it is no case to calibrate on")
    population, _, stem = name.partition("/")
    return Case(
        population,
        f"{population if population in SIMULATED else 'real'}/{stem.partition('-')[0]}",
        content.scene,
        read_detections(peaks),
        read_model(models),
        content.truth,
    )


_worker_hosts: dict[str, Host] = {}


def _start_worker(options: CaseOptions) -> None:
    if options.blends is not None:
        hosts = read_hosts(options.blends, options.names, options.pixel_scale_arcsec)
        _worker_hosts.update(zip(options.names, hosts, strict=True))


def _make(folder: Path, name: str, options: CaseOptions) -> None:
    population, _, stem = name.partition("/")
    which, _, number = stem.rpartition("-")
    if population in SIMULATED:
        drawn = draw_scene(
            int(stem), SIMULATED[population], options.seed + 1000 * list(SIMULATED).index(population)
        )
        known = KnownScene(drawn.scene, drawn.detections, drawn.truth)
        _write(folder, name, known, deblend(known.scene, known.detections.parents, engine=options.engine))
        return
    key = (POPULATIONS.index(population), options.names.index(which), int(number))
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=key))
    if population == "degraded":
        assert options.blends is not None
        better = read_known_scene(options.blends / f"{which}.npz", options.pixel_scale_arcsec)
        worse = Degradation(float(rng.uniform(*_SEEING)), log_uniform(_DEPTH, rng))
        known = degraded(better, worse, rng, engine=options.engine)
        _write(folder, name, known, deblend(known.scene, known.detections.parents, engine=options.engine))
        return
    others = [host for other, host in _worker_hosts.items() if other != which]
    lesson = draw_lesson(_worker_hosts[which], others, options.lessons, rng)
    model = deblend(lesson.scene, lesson.detections.parents, engine=options.engine)
    _write(folder, name, KnownScene(lesson.scene, lesson.detections, lesson.truth), model)


def _wanted(options: CaseOptions) -> list[str]:
    """Names of all cases, the kinds taking turns, so that a part of them is
    fit for use.
    """
    kinds: list[list[str]] = [[f"{kind}/{n:05d}" for n in range(options.n_simulated)] for kind in SIMULATED]
    if options.blends is not None:
        for kind, often in (("lessons", options.n_lessons), ("degraded", options.n_degraded)):
            kinds.append([f"{kind}/{name}-{n}" for n in range(often) for name in options.names])
    order = [((number + 0.5) / len(kind), name) for kind in kinds for number, name in enumerate(kind)]
    return [name for _, name in sorted(order)]


def make_cases(
    folder: Path, options: CaseOptions, *, jobs: int, progress: Callable[[int], None] = lambda count: None
) -> int:
    """Make cases; those that are there already are left as they are.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where they are to be. ``cases.json`` notes how they are made.
    options : `CaseOptions`
        What to make.
    jobs : `int`
        Number of processes.
    progress : `~collections.abc.Callable`, optional
        Called with the number of cases just finished, or found finished.

    Returns
    -------
    n_made : `int`
        How many were made now.

    Raises
    ------
    ValueError
        Raised if the folder's cases were made in another way.
    """
    check_engine(options.engine)
    if options.blends is not None:
        read_hosts(options.blends, (), options.pixel_scale_arcsec)  # complains before work is done
    _claim(folder, options)
    wanted = _wanted(options)
    missing = [name for name in wanted if not _paths(folder, name)[0].exists()]
    progress(len(wanted) - len(missing))
    pieces = [(folder, name, options) for name in missing]
    for _ in in_processes(_make, pieces, jobs, _start_worker, (options,)):
        progress(1)
    return len(missing)


def _claim(folder: Path, options: CaseOptions) -> None:
    """Note how the cases of a folder are made; refuse one whose cases were
    made in another way. More of them may be made later.
    """
    more = ("n_simulated", "n_lessons", "n_degraded", "blends")
    kinds = {name: asdict(kind) for name, kind in SIMULATED.items()}
    facts: dict[str, Any] = {key: value for key, value in asdict(options).items() if key not in more}
    facts = json.loads(json.dumps({**facts, **kinds}))
    path = folder / _FACTS
    if path.exists() and json.loads(path.read_text()) != facts:
        raise ValueError(f"{folder} holds cases that were made with other options; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(facts, indent=2) + "\n")
