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

"""What a look at a residual gave."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from ..candidates import Candidate, Fate, Placement, add_candidates
from ..deblend.singles import SKY_OBJECT
from ..detections import Detections, Peak, positions_of
from ..scene import Array, Scene
from .candidate_table import candidate_table

if TYPE_CHECKING:  # an extra
    from matplotlib.figure import Figure

__all__ = ["Missing"]

# Of a parent's surroundings.
_MARGIN_PIX = 10

# PSFs are hardly known better.
_LEAST_CONTRAST = 0.01


# Digits that a person reads in a notebook; of other numbers three.
_DIGITS = {"ra": ".6f", "dec": ".6f", "y": ".1f", "x": ".1f"}


def _to_read(table: Table) -> Table:
    """A copy for the eye: without columns in which nothing stands, such as a
    position on no sky, and with as many digits as mean something.
    """
    shown = table.copy()
    for name in table.colnames:
        numbers = table[name].dtype.kind == "f"
        if not (np.isfinite(table[name]).any() if numbers else (table[name] != "").any()):
            del shown[name]
        elif numbers:
            shown[name].info.format = _DIGITS.get(name, ".3g")
    return shown


@dataclass(frozen=True, eq=False)
class Missing:
    """What a look at a residual gave.

    Parameters
    ----------
    scene : `Scene`
        The coadds as the detector saw them: what was not to be looked at is
        marked as bad.
    before : `Detections`
        The catalogue that was deblended.
    detections : `Detections`
        The catalogue with new peaks.
    candidates : `tuple` [`Candidate`]
        Every candidate, surest first.
    placements : `tuple` [`Placement`]
        What became of each.
    model_image : `numpy.ndarray`, (band, y, x), float32
        All deblended sources, convolved to each band's PSF.
    left_alone : `~collections.abc.Mapping` [`int`, `str`]
        Why a parent was left alone, by its id.
    unmodelled_peaks : `~collections.abc.Mapping` [`int`, `str`]
        Why a peak of another parent has no model, by its id; around it
        nothing was looked for.
    n_singles : `int`
        Single-peak parents that were modelled here.
    iteration : `int`
        Number that the new peaks carry.
    score_threshold, min_bands, min_distance_pix
        What was asked of a candidate.
    """

    scene: Scene
    before: Detections
    detections: Detections
    candidates: tuple[Candidate, ...]
    placements: tuple[Placement, ...]
    model_image: Array
    left_alone: Mapping[int, str]
    unmodelled_peaks: Mapping[int, str]
    n_singles: int
    iteration: int
    score_threshold: float
    min_bands: int
    min_distance_pix: float

    @property
    def residual(self) -> Array:
        """Coadds minus models: (band, y, x), float32."""
        return self.scene.images - self.model_image

    @property
    def new_peaks(self) -> tuple[Peak, ...]:
        """Peaks that candidates became."""
        ids = {placement.peak for placement in self.placements if placement.peak}
        return tuple(peak for peak in self.detections.peaks if peak.id in ids)

    @property
    def fates(self) -> Counter[Fate]:
        """How many candidates had each fate."""
        return Counter(placement.fate for placement in self.placements)

    @property
    def n_sources(self) -> int:
        """Parents that are no sky objects."""
        return sum(not parent.is_sky for parent in self.before)

    @property
    def reasons(self) -> Counter[str]:
        """How many parents that are no sky objects were left alone, by why."""
        reasons = Counter(self.left_alone.values())
        del reasons[SKY_OBJECT]
        return reasons

    @property
    def has_model(self) -> bool:
        """Whether there was a residual to look at, that is a source with a
        model.
        """
        return self.n_sources > self.reasons.total()

    @property
    def n_changed_parents(self) -> int:
        """Parents that gained a peak, those founded too."""
        return len({placement.parent for placement in self.placements if placement.peak})

    @property
    def table(self) -> Table:
        """All candidates; see `candidate_table`."""
        return candidate_table(self.scene, self.model_image, self.candidates, self.placements)

    @property
    def doubt(self) -> str:
        """What is likely wrong with the new peaks; empty if nothing is."""
        new = [pair for pair in zip(self.candidates, self.placements, strict=True) if pair[1].peak]
        if not new:
            return ""
        contrast = candidate_table(self.scene, self.model_image, *zip(*new, strict=True))["contrast"]
        n_low = int((contrast < _LEAST_CONTRAST).sum())
        if not n_low:
            return ""
        return (
            f"{n_low} of {len(contrast)} new peaks have less light than {_LEAST_CONTRAST:.0%} of what they "
            f"lie on (contrast; least {contrast.min():.2g}); likely a PSF that is not the image's, or a "
            "saturated core without a mask"
        )

    def plot(self, parent: int | None = None, *, model_after: Array | None = None) -> Figure:
        """What was found, in pictures; see `found_figure`.

        Parameters
        ----------
        parent : `int`, optional
            Id of the parent to show; the whole scene if absent.
        model_after : `numpy.ndarray`, (band, y, x), float32, optional
            Model of known and new sources, for a further panel.

        Returns
        -------
        figure : `matplotlib.figure.Figure`
            Axes in patch coordinates.

        Raises
        ------
        ValueError
            Raised if there is no such parent.
        """
        from ..plots.found_figure import found_figure
        from ..plots.markers import Window

        window = Window(*self.scene.origin, *self.scene.shape)
        if parent is not None:
            boxes = {one.id: one.footprint.bbox for one in (*self.before, *self.detections)}
            if parent not in boxes:
                raise ValueError(f"scene {self.scene.name!r} has no parent {parent}")
            window = Window.around(boxes[parent], _MARGIN_PIX, self.scene)
        models = {"residual": self.model_image}
        if model_after is not None:
            models = {"residual before": self.model_image, "residual after": model_after}
        known, new = positions_of(self.before.peaks), positions_of(self.new_peaks)
        return found_figure(self.scene, models, known, new, window)

    def _repr_html_(self) -> str:
        """What a notebook shows: the new sources as a table, under a picture."""
        table = self.table
        new = table[table["peak"] > 0]
        stream = BytesIO()
        self.plot().savefig(stream, format="png")
        picture = b64encode(stream.getvalue()).decode()
        return (
            f"<p><b>{escape(self.scene.name or 'scene')}</b>: {len(new)} new of {len(table)} candidates, "
            f"{len(self.before.peaks)} known; score from {self.score_threshold:.3g}</p>"
            f'<img style="max-width: 100%" src="data:image/png;base64,{picture}"/>'
            f"{_to_read(new)._repr_html_()}"
        )

    def at_threshold(self, score_threshold: float) -> Missing:
        """The same candidates taken from another score on.

        Parameters
        ----------
        score_threshold : `float`
            Score from which a candidate becomes a peak.
        """
        addition = add_candidates(
            self.before,
            self.candidates,
            self.scene,
            iteration=self.iteration,
            min_score=score_threshold,
            min_bands=self.min_bands,
            min_distance_pix=self.min_distance_pix,
            left_alone=self.left_alone,
        )
        return replace(
            self,
            detections=addition.detections,
            placements=addition.placements,
            score_threshold=score_threshold,
        )
