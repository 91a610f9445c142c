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


"""What is evaluated, with which limits, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy.typing as npt
from astropy.table import Table

from ..detections import Detections, Peak
from ..io.scene_file import missing_truth_fields
from ..scene import Scene
from ..scene_model import SceneModel
from .matching import MATCH_RULES

__all__ = [
    "COUNTED",
    "FOUND",
    "TARGETS",
    "WRONG",
    "EvaluatedPatch",
    "Evaluation",
    "EvaluationOptions",
    "PatchResult",
    "PeakClass",
    "TruthClass",
]


class TruthClass(StrEnum):
    """What the ordinary detection made of a true source."""

    MATCHED = "matched"
    """It has a peak of its own."""
    UNRECOGNIZED = "unrecognized"
    """No peak of its own, in the footprint of a parent with a single peak:
    the pipeline sees one object where there are two or more."""
    PARTIALLY_DEBLENDED = "partially_deblended"
    """No peak of its own, in the footprint of a parent with several."""
    MISSED = "missed"
    """Outside all footprints."""
    FAINT = "faint"
    """Below the signal-to-noise limit: counted nowhere, but a new peak on it
    is not held to be spurious."""


TARGETS = (TruthClass.UNRECOGNIZED, TruthClass.PARTIALLY_DEBLENDED)
"""What a residual detection is to find."""


class PeakClass(StrEnum):
    """What a new peak turned out to be."""

    RIGHT = "right"
    """On a true source that had no peak."""
    RIGHT_FAINT = "right_faint"
    """On a true source that had no peak and is too faint to be counted;
    neither a success nor an error."""
    SHRED = "shred"
    """A second peak on a source that has one."""
    SPURIOUS = "spurious"
    """On nothing."""
    UNLABELLED = "unlabelled"
    """There is no truth to compare with."""


WRONG = (PeakClass.SHRED, PeakClass.SPURIOUS)
COUNTED = (PeakClass.RIGHT, *WRONG)
FOUND = (PeakClass.RIGHT, PeakClass.RIGHT_FAINT)


@dataclass(frozen=True, eq=False)
class PatchResult:
    """Everything known of one patch after a run.

    Parameters
    ----------
    name : `str`
        Patch or scene, for headings.
    scene : `Scene`
        The coadds.
    before, after : `Detections`
        Catalogue of the ordinary detection, and the same with new peaks
        (``iteration > 0``) appended.
    model_before, model_after : `SceneModel`
        Deblended models of the two catalogues, in the scene's bands.
    truth : `numpy.ndarray`, structured, optional
        True sources with at least ``id``, ``y``, ``x`` and ``flux_<band>``
        for each band of the scene, in patch coordinates and image units;
        ``snr``, the signal-to-noise ratio over all bands, if known. `None`
        for real data.

    Raises
    ------
    ValueError
        Raised if a model has other bands than the scene, or the truth lacks
        a column.
    """

    name: str
    scene: Scene
    before: Detections
    after: Detections
    model_before: SceneModel
    model_after: SceneModel
    truth: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for what, model in (("before", self.model_before), ("after", self.model_after)):
            if model.bands != self.scene.bands:
                raise ValueError(
                    f"{self.name}: model {what} has bands {list(model.bands)}, "
                    f"but the scene has {list(self.scene.bands)}"
                )
        if self.truth is not None:
            missing = missing_truth_fields(self.truth, self.scene.bands)
            if missing:
                names = list(self.truth.dtype.names or ())
                raise ValueError(f"{self.name}: truth has columns {names}; {missing} are missing")

    @property
    def new_peaks(self) -> tuple[Peak, ...]:
        """Peaks that the residual detection added."""
        return self.after.new_peaks


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Limits and bins of an evaluation.

    Parameters
    ----------
    match_radius_pix : `float`
        Farthest that a peak may lie from the source it is matched to.
    match_rule : `str`
        Which source a peak belongs to, if several are that near: ``"light"``,
        that which gives the most light there, or ``"nearest"``; see
        `~lsst.meas.residualdetect.truth.matching.match_peaks`.
    min_snr : `float`
        Signal-to-noise ratio, over all bands, from which a true source is
        counted.
    faint_snr : `float`
        From here to ``min_snr`` a source is not counted, but may own a peak.
        Well below any detection threshold, as noise lifts some sources over
        it.
    core_fraction : `float`
        A new peak within the isophote of a matched source's deblended
        morphology at this fraction of its maximum is a shred of it.
    neighbour_radius_pix : `float`
        A matched source this near to one that was recovered is its neighbour.
    target_purity : `float`
        Purity at which recovery is quoted.
    snr_edges : `tuple` [`float`, ...]
        Inner bin edges in signal-to-noise ratio; the outer bins are open.
    separation_edges_fwhm : `tuple` [`float`, ...]
        Inner bin edges in separation to the nearest brighter source, in
        units of the PSF's full width at half maximum.
    flux_ratio_edges : `tuple` [`float`, ...]
        Inner bin edges in flux over that of the nearest brighter source.

    Raises
    ------
    ValueError
        Raised if a limit is out of range or bin edges do not increase.
    """

    match_radius_pix: float = 2.5
    match_rule: str = "light"
    min_snr: float = 8.0
    faint_snr: float = 3.0
    core_fraction: float = 0.1
    neighbour_radius_pix: float = 5.0
    target_purity: float = 0.9
    snr_edges: tuple[float, ...] = (12.0, 20.0, 40.0, 80.0)
    separation_edges_fwhm: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    flux_ratio_edges: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)

    def __post_init__(self) -> None:
        for name in ("match_radius_pix", "neighbour_radius_pix"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.match_rule not in MATCH_RULES:
            raise ValueError(f"match_rule is {self.match_rule!r}; expected one of {', '.join(MATCH_RULES)}")
        if not 0 <= self.faint_snr <= self.min_snr:
            raise ValueError(
                f"faint_snr is {self.faint_snr}, min_snr {self.min_snr}; expected 0 <= faint_snr <= min_snr"
            )
        for name in ("core_fraction", "target_purity"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a fraction above 0, up to 1")
        for item in fields(self):
            if item.name.endswith(("_edges", "_edges_fwhm")):
                edges = getattr(self, item.name)
                if not all(low < high for low, high in pairwise(edges)):
                    raise ValueError(f"{item.name} are {edges}; expected increasing numbers")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One patch held against its truth.

    Parameters
    ----------
    name : `str`
        Patch or scene.
    bands : `tuple` [`str`]
        Bands of the flux columns.
    n_peaks : `int`
        Number of peaks of the ordinary detection.
    truth : `astropy.table.Table` or `None`
        One row per true source that the patch observed: ``id``, ``y``,
        ``x``, ``snr``, ``class`` (`TruthClass`), ``parent_id`` (of the
        ordinary catalogue), ``peak_id`` and ``new_peak_id`` (of the peak
        matched; -1 = none), ``distance_pix`` and ``new_distance_pix`` to
        them, ``blended`` (matched, in a parent that holds an unrecognised
        source), ``neighbour_id``, ``separation_pix``, ``separation_fwhm``
        and ``flux_ratio`` (nearest brighter source; -1 and NaN = none), and
        for each band ``flux_<band>``, ``flux_before_<band>`` and
        ``flux_after_<band>`` (NaN without a model).
    peaks : `astropy.table.Table`
        One row per new peak: ``id``, ``parent_id``, ``y``, ``x``,
        ``score``, ``iteration``, ``class`` (`PeakClass`), ``true_id`` (the
        source found or shredded; -1 = none), ``target`` (whether that source
        was unrecognised or partially deblended), ``distance_pix`` to it, and
        ``flux_after_<band>``.
    parents : `astropy.table.Table`
        One row per parent of the new catalogue: ``id``, ``n_old_peaks``,
        ``n_new_peaks``, ``n_true`` (counted sources; -1 without truth),
        ``chi2_before`` and ``chi2_after`` (sums over the same ``n_pixels``
        good pixels of all bands), ``failed`` (a deblend left no model).
    options : `EvaluationOptions`
        The limits used.
    """

    name: str
    bands: tuple[str, ...]
    n_peaks: int
    truth: Table | None
    peaks: Table
    parents: Table
    options: EvaluationOptions = field(default_factory=EvaluationOptions)


@dataclass(frozen=True, eq=False)
class EvaluatedPatch:
    """A patch of a run: its tables, and its pixels for who asks.

    Parameters
    ----------
    evaluation : `Evaluation`
        How it holds against its truth.
    candidates : `astropy.table.Table` or `None`
        Candidates of the iteration evaluated, as in ``object_candidates``;
        `None` if it wrote none.
    read : `~collections.abc.Callable`
        Gives the `PatchResult`; not kept, so that a run of many patches fits
        into memory.
    """

    evaluation: Evaluation
    candidates: Table | None
    read: Callable[[], PatchResult]
