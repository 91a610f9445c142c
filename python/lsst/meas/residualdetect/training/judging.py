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

"""What a network finds in cases, and how far each find is to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from ..detections import positions_of
from ..detectors.mask_rcnn import MaskRcnn
from ..find_missing import find_missing
from ..find_missing.candidate_classes import classify_candidates
from ..network.covariates import covariates
from ..network.detectron2 import Detectron2Network
from ..network.features import in_noise_units
from ..network.package import load_package
from ..network.sky import measure_sky
from ..scene import Array
from ..threads import in_processes
from ..truth.evaluation import COUNTED, PeakClass
from ..truth.pooling import target_rows
from .cases import Case, read_case
from .judged import Found, Judged

__all__ = ["judge_case", "judge_cases"]


class _Remembering(Detectron2Network):
    """Keeps the objectness of what it found last."""

    centres: npt.NDArray[np.float64]
    objectness: npt.NDArray[np.float64]

    def find(self, channels: Array) -> Any:
        found = super().find(channels)
        boxes = found.pred_boxes.tensor.cpu().numpy().astype(np.float64)
        self.centres = boxes.reshape(-1, 2, 2).mean(axis=1)[:, ::-1] - 0.5
        self.objectness = found.objectness.cpu().numpy().astype(np.float64)
        return found


def judge_case(case: Case, detector: MaskRcnn) -> tuple[Found, int, dict[str, float]]:
    """Look for what a case lacks.

    Parameters
    ----------
    case : `Case`
        A scene no larger than a tile.
    detector : `MaskRcnn`
        Whose scores are the network's own, and whose network tells the
        objectness.

    Returns
    -------
    found : `Found`
        Candidates that a run would make peaks, if its threshold were as low.
    n_targets : `int`
        Sources to be found.
    facts : `dict` [`str`, `float`]
        What the sky is like.
    """
    network = detector.network
    assert isinstance(network, _Remembering)
    missing = find_missing(case.scene, case.detections, case.model, detector)
    evaluation = classify_candidates(missing, case.model, case.truth)
    peaks = evaluation.peaks
    peaks = peaks[np.isin(peaks["class"], COUNTED)]
    scene, image = missing.scene, missing.model_image
    known = positions_of(case.detections.peaks)
    noise, facts = measure_sky(scene, image, known)
    residual, expected = in_noise_units(scene, image)
    centres = np.stack([peaks["y"], peaks["x"]], axis=1).astype(np.float64).reshape(-1, 2) - scene.origin
    score = np.asarray(peaks["score"], np.float64)
    objectness = np.zeros(len(peaks))
    if len(peaks):
        objectness = network.objectness[KDTree(network.centres).query(centres)[1]]
    found = Found(
        score,
        objectness,
        covariates(residual, expected, known - scene.origin, centres, score, noise),
        np.asarray(peaks["class"]) == PeakClass.RIGHT,
        np.asarray(peaks["target"], bool),
        np.asarray(peaks["class"]) == PeakClass.SHRED,
    )
    return found, int(target_rows([evaluation]).sum()), facts


_worker_detector: list[MaskRcnn] = []


def _start_worker(package: Path) -> None:
    description = load_package(str(package.resolve()))
    _worker_detector[:] = [MaskRcnn(description, _Remembering(description, "cpu"), min_score=0.0)]


def _judge(folder: Path, name: str) -> tuple[str, str, tuple[Found, int, dict[str, float]]]:
    case = read_case(folder, name)
    return case.population, case.group, judge_case(case, _worker_detector[0])


def judge_cases(
    package: Path,
    folder: Path,
    names: Sequence[str],
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> Judged:
    """Look for what cases lack; see `judge_case`.

    Parameters
    ----------
    package : `pathlib.Path`
        Folder of the model package, whose calibration leaves scores as they
        are.
    folder : `pathlib.Path`
        Where the cases are.
    names : `~collections.abc.Sequence` [`str`]
        Some of `case_names`.
    jobs : `int`
        Number of processes.
    progress : `~collections.abc.Callable`, optional
        Called with the number of cases just finished.

    Returns
    -------
    judged : `Judged`
        In the order of the names.
    """
    done: dict[int, tuple[str, str, tuple[Found, int, dict[str, float]]]] = {}
    for number, case in in_processes(
        _judge, [(folder, name) for name in names], jobs, _start_worker, (package,)
    ):
        done[number] = case
        progress(1)
    population, group, results = zip(*(done[number] for number in range(len(names))), strict=True)
    parts = [found for found, _, _ in results]
    return Judged(
        Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in Found.__annotations__)),
        np.repeat(np.arange(len(parts)), [len(part.score) for part in parts]),
        np.array(population),
        np.array(group),
        np.array([n for _, n, _ in results], np.int64),
        tuple(facts for _, _, facts in results),
    )
