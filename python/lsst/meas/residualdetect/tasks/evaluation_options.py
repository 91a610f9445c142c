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

"""What an evaluation counts, as a config, for every task that evaluates."""

from __future__ import annotations

from lsst.pex.config import ChoiceField, Config, ListField, RangeField

from ..scene import DEFAULT_BAD_PLANES
from ..truth import EvaluationOptions
from ..truth.matching import MATCH_RULES

__all__ = ["EvaluationOptionsConfig"]


def _fraction(doc: str, default: float) -> RangeField:
    return RangeField(
        dtype=float, doc=doc, default=default, min=0.0, inclusiveMin=False, max=1.0, inclusiveMax=True
    )


class EvaluationOptionsConfig(Config):
    """Limits and bins of an evaluation."""

    match_radius_pix = RangeField(
        dtype=float,
        doc="Farthest that a peak may lie from the source it is matched to. Pixels.",
        default=EvaluationOptions.match_radius_pix,
        min=0.0,
        inclusiveMin=False,
    )
    match_rule = ChoiceField[str](
        doc="Which source a peak belongs to, if several are that near.",
        default=EvaluationOptions.match_rule,
        allowed={name: str(rule.__doc__) for name, rule in MATCH_RULES.items()},
    )
    min_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio, over all bands, from which a true source is counted.",
        default=EvaluationOptions.min_snr,
        min=0.0,
    )
    faint_snr = RangeField(
        dtype=float,
        doc="From here to min_snr a source is not counted, but a new peak on it is no error.",
        default=EvaluationOptions.faint_snr,
        min=0.0,
    )
    core_fraction = _fraction(
        "A new peak within the isophote of a matched source's deblended morphology at this fraction of its "
        "maximum is a shred of it.",
        EvaluationOptions.core_fraction,
    )
    neighbour_radius_pix = RangeField(
        dtype=float,
        doc="A matched source this near to one that was recovered is its neighbour. Pixels.",
        default=EvaluationOptions.neighbour_radius_pix,
        min=0.0,
        inclusiveMin=False,
    )
    target_purity = _fraction("Purity at which recovery is quoted.", EvaluationOptions.target_purity)
    snr_edges = ListField[float](
        doc="Inner bin edges in signal-to-noise ratio; the outer bins are open.",
        default=list(EvaluationOptions.snr_edges),
    )
    separation_edges_fwhm = ListField[float](
        doc="Inner bin edges in separation to the nearest brighter source. Full widths of the PSF at half "
        "maximum.",
        default=list(EvaluationOptions.separation_edges_fwhm),
    )
    flux_ratio_edges = ListField[float](
        doc="Inner bin edges in flux over that of the nearest brighter source.",
        default=list(EvaluationOptions.flux_ratio_edges),
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels say nothing; as the residual detection has them.",
        default=list(DEFAULT_BAD_PLANES),
    )

    def options(self) -> EvaluationOptions:
        """The same as the core's options."""
        return EvaluationOptions(
            match_radius_pix=self.match_radius_pix,
            match_rule=self.match_rule,
            min_snr=self.min_snr,
            faint_snr=self.faint_snr,
            core_fraction=self.core_fraction,
            neighbour_radius_pix=self.neighbour_radius_pix,
            target_purity=self.target_purity,
            snr_edges=tuple(self.snr_edges),
            separation_edges_fwhm=tuple(self.separation_edges_fwhm),
            flux_ratio_edges=tuple(self.flux_ratio_edges),
        )

    def validate(self) -> None:
        """Refuse values that do not go together."""
        super().validate()
        self.options()
