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


"""Known peaks withheld: are they found again, and what else is found?

The truth of real pixels is not known, but a part of it is: what a catalogue
says. A detector that is not told of a known source should find it; what it
finds beside the known ones, when told of all, is an error or a discovery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.stats import gaussian_sigma_to_fwhm
from astropy.table import Table, vstack
from scipy.spatial import KDTree

from ..deblend import deblend_scenes
from ..detections import Detections, positions_of
from ..detectors import Detector
from ..find_missing import FindMissingOptions, Missing, find_missing
from ..plots.close_ups import CloseUp, take_close_up
from ..plots.pictures import white_balance
from ..scene_model import SceneModel
from ..truth.evaluation import EvaluationOptions, PatchResult, PeakClass
from ..truth.known_scenes import KnownScene
from ..truth.measures import psf_sigma_pix, source_snr
from ..truth.taxonomy import TruthLabels, classify_new_peaks

__all__ = ["LeftOut", "leave_out", "rounds"]

# In a parent of no more peaks than this one is withheld at a time.
N_ROUNDS = 5

# Of each scene so many of the surest new peaks are worth a look.
_CLOSE_UPS = 12


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What a detector made of withheld peaks.

    Parameters
    ----------
    detector : `str`
        Its name.
    threshold : `float`
        Score from which its candidates become peaks.
    withheld : `astropy.table.Table`
        One row per peak that was withheld: ``scene`` (name), ``id``, ``y``,
        ``x``, ``snr`` (of its light in the model of all, over the noise),
        ``separation_pix`` and ``separation_fwhm`` to the nearest known peak,
        ``flux_ratio`` to it, and ``score`` of the candidate that is at its
        place; NaN for none.
    extra : `astropy.table.Table`
        One row per candidate where nothing was withheld: ``scene``, ``y``,
        ``x``, ``score``.
    n_known : `~collections.abc.Mapping` [`str`, `int`]
        Known peaks of each scene.
    close_ups : `tuple` [`tuple` [`float`, `CloseUp`], ...]
        Scores and pictures of the surest of ``extra`` above the threshold.
    """

    detector: str
    threshold: float
    withheld: Table
    extra: Table
    n_known: Mapping[str, int]
    close_ups: tuple[tuple[float, CloseUp], ...] = ()


def rounds(detections: Detections, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """In which of five rounds each peak is withheld.

    Parameters
    ----------
    detections : `Detections`
        Known peaks.
    rng : `numpy.random.Generator`
        Deals the peaks of a parent out to the rounds.

    Returns
    -------
    rounds : `numpy.ndarray`, (n,), int64
        For each peak, in the catalogue's order; -1 for one that is alone in
        its parent, which without it would be no blend. So in a parent of up
        to five peaks one is withheld at a time, in larger ones a fifth.
    """
    dealt = [
        rng.permutation(len(parent.peaks)) % N_ROUNDS if len(parent.peaks) > 1 else np.array([-1])
        for parent in detections
        if parent.peaks
    ]
    return np.concatenate([np.empty(0, np.int64), *dealt]).astype(np.int64)


def _look(
    known: KnownScene, before: Detections, model: SceneModel, snr: npt.NDArray[np.float64], missing: Missing
) -> tuple[npt.NDArray[np.float64], Table]:
    """Score of the candidate that is at the place of each known peak, NaN for
    none, and all candidates with whether they are at one.
    """
    scene = known.scene
    everything = missing.at_threshold(float("-inf")).detections
    result = PatchResult(scene.name, scene, before, everything, model, model)
    place = {peak.id: index for index, peak in enumerate(before.peaks)}
    own = np.array([place.get(peak.id, -1) for peak in known.detections.peaks], np.int64)
    n = len(own)
    # Every known peak counts, however faint.
    options = EvaluationOptions(min_snr=0.0, faint_snr=0.0)
    truth = TruthLabels(
        np.full(n, ""), np.full(n, -1), own, np.where(own >= 0, 0.0, np.nan), np.zeros(n, bool)
    )
    labels = classify_new_peaks(result, positions_of(known.detections.peaks), snr, truth, options)
    new = result.new_peaks
    scores = np.array([peak.score for peak in new], np.float64)
    right = labels.name == PeakClass.RIGHT
    found = np.full(n, np.nan)
    found[labels.source[right]] = scores[right]
    places = positions_of(new)
    return found, Table({"y": places[:, 0], "x": places[:, 1], "score": scores})


def _properties(known: KnownScene, model: SceneModel) -> Table:
    """Known peaks and how hard each is to find."""
    peaks = known.detections.peaks
    positions = positions_of(peaks)
    ids = np.array([peak.id for peak in peaks], np.int64)
    flux = model.peak_fluxes(ids).sum(axis=1)
    separation, ratio = np.full(len(peaks), np.nan), np.full(len(peaks), np.nan)
    if len(peaks) > 1:
        away, nearest = KDTree(positions).query(positions, k=2)
        separation = away[:, 1]
        np.divide(flux, flux[nearest[:, 1]], out=ratio, where=flux[nearest[:, 1]] > 0)
    return Table(
        {
            "scene": np.full(len(peaks), known.scene.name),
            "id": ids,
            "y": positions[:, 0],
            "x": positions[:, 1],
            "snr": source_snr(model, known.scene, ids),
            "separation_pix": separation,
            "separation_fwhm": separation / (gaussian_sigma_to_fwhm * psf_sigma_pix(known.scene)),
            "flux_ratio": ratio,
        }
    )


def leave_out(
    scenes: Sequence[KnownScene],
    detectors: Mapping[str, Detector],
    rng: np.random.Generator,
    *,
    search: FindMissingOptions = FindMissingOptions(),
) -> list[LeftOut]:
    """Withhold every known peak once.

    Parents are deblended in six ways at once: with all their peaks, and five
    times without some of them; see `rounds`.

    Parameters
    ----------
    scenes : `~collections.abc.Sequence` [`KnownScene`]
        Scenes of different names.
    detectors : `~collections.abc.Mapping` [`str`, `Detector`]
        Who looks, by name.
    rng : `numpy.random.Generator`
        Decides which peaks are withheld together.
    search : `FindMissingOptions`, optional
        How candidates become peaks. All sources are deblended as its singles.

    Returns
    -------
    left_out : `list` [`LeftOut`]
        One for each detector.
    """
    scenes = [known.without(search.bad_planes) for known in scenes]
    dealt = [rounds(known.detections, rng) for known in scenes]
    told = [
        [
            known.detections.without(
                {peak.id for peak, own in zip(known.detections.peaks, when, strict=True) if own == number}
            )
            # No peak is in the round before the first.
            for number in (-2, *range(min(when.max(initial=-1) + 1, N_ROUNDS)))
        ]
        for known, when in zip(scenes, dealt, strict=True)
    ]
    blends = [
        (known.scene, catalogue)
        for known, catalogues in zip(scenes, told, strict=True)
        for catalogue in catalogues
    ]
    models = iter(
        deblend_scenes(
            [(scene, item.parents) for scene, item in blends], search.singles, engine=search.singles_engine
        )
    )
    withheld: dict[str, list[Table]] = {name: [] for name in detectors}
    extra: dict[str, list[Table]] = {name: [] for name in detectors}
    close_ups: dict[str, list[tuple[float, CloseUp]]] = {name: [] for name in detectors}
    for known, when, catalogues in zip(scenes, dealt, told, strict=True):
        own = [next(models) for _ in catalogues]
        table = _properties(known, own[0])
        snr = np.nan_to_num(np.asarray(table["snr"]))
        for name, detector in detectors.items():
            score = np.full(len(table), np.nan)
            for number, (catalogue, model) in enumerate(zip(catalogues, own, strict=True), start=-1):
                missing = find_missing(known.scene, catalogue, model, detector, search)
                found, candidates = _look(known, catalogue, model, snr, missing)
                score[when == number] = found[when == number]
                if number < 0:
                    candidates["scene"] = np.full(len(candidates), known.scene.name)
                    extra[name].append(candidates)
                    close_ups[name] += _pictures(known, missing, candidates)
            rows = table.copy()
            rows["score"] = score
            withheld[name].append(rows[when >= 0])
    n_known = {known.scene.name: len(known.detections.peaks) for known in scenes}
    return [
        LeftOut(
            name,
            detector.default_threshold,
            vstack(withheld[name]),
            vstack(extra[name]),
            n_known,
            tuple(close_ups[name]),
        )
        for name, detector in detectors.items()
    ]


def _pictures(known: KnownScene, missing: Missing, candidates: Table) -> list[tuple[float, CloseUp]]:
    """The surest candidates above the threshold, seen close."""
    sure = candidates[np.asarray(candidates["score"]) >= missing.score_threshold]
    sure.sort("score", reverse=True)
    places = positions_of(known.detections.peaks)
    gains = white_balance(missing.scene)
    return [
        (
            float(row["score"]),
            take_close_up(
                missing.scene,
                missing.model_image,
                gains,
                (float(row["y"]), float(row["x"])),
                places,
                f"{known.scene.name}, {row['score']:.2f}",
            ),
        )
        for row in sure[:_CLOSE_UPS]
    ]
