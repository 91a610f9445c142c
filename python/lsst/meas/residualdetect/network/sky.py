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

"""What a sky is like, in numbers without units of flux, and whether a network
was calibrated on such ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from astropy.stats import gaussian_sigma_to_fwhm

from ..boxes import is_inside, nearest_pixel, shape_of
from ..scene import Array, Positions, Scene
from .covariates import filtered_noise, light_at, noise_boxes
from .features import CANONICAL_BANDS, in_noise_units

__all__ = ["SKY_FACTS", "measure_sky", "outside"]

SKY_FACTS: Mapping[str, str] = {
    "pixel_scale_arcsec": "a pixel is {value:.3g} arcsec wide",
    "psf_fwhm_pix": "the PSF is {value:.3g} pixels wide",
    "host_snr": "half of the known sources have a signal-to-noise ratio above {value:.3g}",
    "known_per_arcmin2": "there are {value:.3g} known sources in a square arcminute",
    "noise": "the noise of a source's pixels is {value:.3g} times what the variance says",
}
"""Names of what `measure_sky` gives, each in words."""


def measure_sky(
    scene: Scene, model: Array, known: Positions
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    """Measure the noise, and what a scene is like.

    Parameters
    ----------
    scene : `Scene`
        Coadds.
    model : `numpy.ndarray`, (band, y, x), float32
        All deblended sources summed, convolved to each band's PSF.
    known : `numpy.ndarray`, (n, 2)
        Positions (y, x) of the known peaks, in patch coordinates.

    Returns
    -------
    noise : `numpy.ndarray`, (6,), float64
        See `filtered_noise`.
    facts : `dict` [`str`, `float`]
        By the names of `SKY_FACTS`: side of a pixel; full width at half
        maximum of the PSF, median over bands; median signal-to-noise ratio of
        the model at the known peaks (see `light_at`), and their density over
        the good pixels, which tell the depth; mean of ``noise`` over the
        scene's bands. NaN without known peaks or good pixels.
    """
    n_good, snr = 0, [np.zeros(0)]

    def pieces() -> Iterator[tuple[Array, Array]]:
        nonlocal n_good
        for box in noise_boxes(scene.shape):
            residual, expected = in_noise_units(scene, model, box=box)
            first = np.add(scene.origin, (box[0].start, box[1].start))
            inside = is_inside(nearest_pixel(known, first), shape_of(box))
            snr.append(light_at(residual, expected, (known - first)[inside]))
            n_good += int((~scene.bad(box=box)).any(axis=0).sum())
            yield residual, expected

    noise = filtered_noise(pieces())
    of_hosts = np.concatenate(snr)
    area = n_good * (scene.pixel_scale_arcsec / 60) ** 2
    return noise, {
        "pixel_scale_arcsec": float(scene.pixel_scale_arcsec),
        "psf_fwhm_pix": float(gaussian_sigma_to_fwhm * np.median(scene.psf_sigmas_pix)),
        "host_snr": float(np.median(of_hosts)) if len(of_hosts) else float("nan"),
        "known_per_arcmin2": len(of_hosts) / area if area else float("nan"),
        "noise": float(
            np.mean([noise[CANONICAL_BANDS.index(band)] for band in scene.bands if band in CANONICAL_BANDS])
        ),
    }


def outside(facts: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """In what a sky is unlike those of a calibration.

    Parameters
    ----------
    facts : `~collections.abc.Mapping` [`str`, `float`]
        What `measure_sky` gave.
    ranges : `~collections.abc.Mapping` [`str`, `tuple` [`float`, `float`]]
        Least and greatest value of each in the calibration.

    Returns
    -------
    unlike : `list` [`str`]
        A sentence for each that lies outside; NaN lies nowhere.
    """
    return [
        f"{SKY_FACTS[name].format(value=facts[name])}, but {low:.3g} to {high:.3g} in the calibration"
        for name, (low, high) in ranges.items()
        if facts[name] < low or facts[name] > high
    ]
