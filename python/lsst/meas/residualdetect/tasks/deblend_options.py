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


"""The deblenders' options as a config, for every task that deblends."""

from __future__ import annotations

from collections.abc import Sequence

from lsst.pex.config import ChoiceField, Config, Field, RangeField

from ..deblend import DeblendOptions, engine_names

__all__ = ["DeblendOptionsConfig"]


class DeblendOptionsConfig(Config):
    """Which deblender, and its options."""

    engine = ChoiceField[str](
        doc="Which deblender.",
        default="factorized",
        allowed={name: name for name in engine_names()},
    )
    sigma_pix = RangeField(
        dtype=float,
        doc="Standard deviation of the Gaussian model PSF. Pixels.",
        default=DeblendOptions.sigma_pix,
        min=0.0,
        inclusiveMin=False,
    )
    max_iterations = RangeField(
        dtype=int,
        doc="Iterations after which a parent is given up as not converged.",
        default=DeblendOptions.max_iterations,
        min=1,
    )
    tolerance = RangeField(
        dtype=float,
        doc="A parent is done when an iteration lowers its chi-square by less than this fraction; "
        "if absent, what suits the engine: 0.003 for factorized, 0.001 for scarlet_lite.",
        default=None,
        optional=True,
        min=0.0,
        inclusiveMin=False,
    )
    point_snr = RangeField(
        dtype=float,
        doc="Sources fainter than this signal-to-noise ratio start as a point (factorized).",
        default=DeblendOptions.point_snr,
        min=0.0,
    )
    min_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio of a component: sources above twice this may have two.",
        default=DeblendOptions.min_snr,
        min=0.0,
    )
    max_components = RangeField(
        dtype=int,
        doc="1, or 2 to give bright sources a bulge and a disk.",
        default=DeblendOptions.max_components,
        min=1,
        max=2,
        inclusiveMax=True,
    )
    background_threshold = RangeField(
        dtype=float,
        doc="Surface brightness, in standard deviations of the noise of a pixel, below which a source "
        "ends: it has no light where it is fainter in all bands. A lower one lets sources take up "
        "undetected neighbours.",
        default=DeblendOptions.background_threshold,
        min=0.0,
    )
    max_radius_pix = RangeField(
        dtype=int,
        doc="Greatest distance from its peak, along either axis, at which a source may have light. Pixels.",
        default=DeblendOptions.max_radius_pix,
        min=1,
    )
    batch_mbytes = RangeField(
        dtype=float,
        doc="Working memory of a batch of parents; a larger parent is fitted alone. MB.",
        default=DeblendOptions.batch_mbytes,
        min=0.0,
        inclusiveMin=False,
    )
    device = Field[str](doc="Where to compute: cpu, cuda or cuda:N.", default=DeblendOptions.device)
    n_threads = RangeField(
        dtype=int,
        doc="How many batches to fit at a time on the CPU; if not given OMP_NUM_THREADS of the environment, "
        "which is 1 in pipetask, or else one for each core.",
        default=DeblendOptions.n_threads,
        min=1,
        optional=True,
    )

    def deblend_options(self, bad_planes: Sequence[str]) -> DeblendOptions:
        """The same as the core's options, leaving out some mask planes."""
        return DeblendOptions(
            sigma_pix=self.sigma_pix,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
            point_snr=self.point_snr,
            min_snr=self.min_snr,
            max_components=self.max_components,
            background_threshold=self.background_threshold,
            max_radius_pix=self.max_radius_pix,
            batch_mbytes=self.batch_mbytes,
            device=self.device,
            n_threads=self.n_threads,
            bad_planes=tuple(bad_planes),
        )
