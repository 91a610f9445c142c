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


"""Truth from a better image: what is seen in it, and no longer in a worse one
that is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from astropy.table import Table

from ..deblend import deblend
from ..detection import detect, detections_at
from ..detections import positions_of
from ..neighbours import distances_to
from ..scene import Scene
from .evaluation import EvaluationOptions
from .known_scenes import KnownScene, Truth
from .measures import source_snr
from .worse import make_worse

__all__ = ["Degradation", "degraded"]


@dataclass(frozen=True)
class Degradation:
    """How much worse a scene is to be seen.

    Parameters
    ----------
    seeing : `float`
        Full width at half maximum, in arcsec, of the PSF that all bands are
        convolved to; a band that is wider stays as it is. 0 leaves all.
    depth : `float`
        Share of the exposure time that is left: noise is added until the
        variance is the present one over this.

    Raises
    ------
    ValueError
        Raised if the scene would be as it is, or better.
    """

    seeing: float = 0.0
    depth: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.seeing) and self.seeing >= 0) or not 0 < self.depth <= 1:
            raise ValueError(
                f"seeing is {self.seeing}, depth {self.depth}; expected arcsec of 0 or more, and a share"
                " of the exposure above 0, up to 1"
            )
        if self.seeing == 0 and self.depth == 1:
            raise ValueError("neither a worse seeing nor a lesser depth is given")

    def of(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """The scene seen so; see `make_worse`."""
        wanted = self.seeing / scene.pixel_scale_arcsec / gaussian_sigma_to_fwhm
        blur = np.sqrt(np.maximum(wanted**2 - scene.psf_sigmas_pix**2, 0))
        return make_worse(scene, blur.tolist(), 1 / self.depth, rng)


def degraded(
    known: KnownScene,
    degradation: Degradation,
    rng: np.random.Generator,
    *,
    engine: str = "factorized",
) -> KnownScene:
    """A scene seen worse, with what the better image shows for its truth.

    Parameters
    ----------
    known : `KnownScene`
        The better image. Its known peaks, and those that ordinary detection
        finds beyond the match radius of all of them, are the true sources.
    degradation : `Degradation`
        How much worse.
    rng : `numpy.random.Generator`
        Source of the noise.
    engine : `str`, optional
        Deblender that measures the true sources' fluxes, in the better
        image.

    Returns
    -------
    degraded : `KnownScene`
        The worse scene, what ordinary detection finds there, and the truth.
        A true source's ``snr`` is that of its light in the worse scene; 0 if
        the deblender could not measure it.
    """
    scene = known.scene
    places = positions_of(known.detections.peaks)
    seen = positions_of(detect(scene).peaks)
    seen = seen[distances_to(seen, places) > EvaluationOptions.match_radius_pix]
    labels = known.detections.labels(scene.shape, scene.origin)
    everything = detections_at(scene, np.concatenate([places, seen]), labels)
    model = deblend(scene, everything.parents, engine=engine)
    worse = degradation.of(scene, rng)
    peaks = everything.peaks
    ids = np.array([peak.id for peak in peaks], np.int64)
    columns = {"id": ids, "y": positions_of(peaks)[:, 0], "x": positions_of(peaks)[:, 1]}
    fluxes = np.nan_to_num(model.peak_fluxes(ids))  # no model, no flux, and no S/N below
    columns |= {f"flux_{band}": fluxes[:, place] for place, band in enumerate(scene.bands)}
    columns["snr"] = np.nan_to_num(source_snr(model, worse, ids))
    truth: Truth = Table(columns).as_array()
    return KnownScene(worse, detect(worse), truth)
