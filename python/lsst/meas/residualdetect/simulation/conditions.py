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


"""What a survey makes of the sky: PSFs and noise."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from surveycodex.utilities import mean_sky_level

from ..scene import Array
from .simulation_options import ZERO_POINT, SimulationOptions
from .sources import flux_njy

__all__ = ["BandConditions", "draw_conditions", "round_psf"]

# Share of the PSF's light that may be folded back when its image is drawn.
_PSF_FOLDED = 2e-4


@dataclass(frozen=True, eq=False)
class BandConditions:
    """The coadd of one band.

    Parameters
    ----------
    band : `str`
        Its name.
    fwhm_arcsec : `float`
        Full width at half maximum of the PSF.
    psf : `galsim.GSObject`
        PSF of unit flux, lengths in arcsec, without the pixel.
    psf_image : `numpy.ndarray`, (h, w), float32
        The same with the pixel, centred, as the scene will have it.
    sky_variance : `float`
        Variance of a pixel without sources, nJy^2.
    electrons_per_njy : `float`
        Electrons collected over the exposure time for 1 nJy.
    saturation_njy : `float`
        Pixel value at which the detector saturates.
    """

    band: str
    fwhm_arcsec: float
    psf: galsim.GSObject
    psf_image: Array
    sky_variance: float
    electrons_per_njy: float
    saturation_njy: float


def round_psf(options: SimulationOptions, fwhm_arcsec: float, folded: float) -> galsim.GSObject:
    """The PSF's profile before it is sheared.

    Parameters
    ----------
    options : `SimulationOptions`
        Kind of profile.
    fwhm_arcsec : `float`
        Full width at half maximum.
    folded : `float`
        GalSim's ``folding_threshold``, the share of the light that may be
        lost off an image.

    Returns
    -------
    psf : `galsim.GSObject`
        Profile of unit flux.
    """
    gsparams = galsim.GSParams(folding_threshold=folded)
    if options.psf_profile == "kolmogorov":
        return galsim.Kolmogorov(fwhm=fwhm_arcsec, gsparams=gsparams)
    return galsim.Moffat(beta=options.moffat_beta, fwhm=fwhm_arcsec, gsparams=gsparams)


def draw_conditions(options: SimulationOptions, rng: np.random.Generator) -> tuple[BandConditions, ...]:
    """Draw the PSF of each band, and work out its noise.

    The sky's electrons in the exposure time give the noise; read noise is
    negligible beside it in broad bands. Noise of neighbouring pixels is
    independent.

    Parameters
    ----------
    options : `SimulationOptions`
        Survey, depth and PSF.
    rng : `numpy.random.Generator`
        Source of randomness; it is used alike whatever ``options.bands``.

    Returns
    -------
    conditions : `tuple` [`BandConditions`]
        In the order of ``options.bands``.
    """
    survey = options.survey_data
    shear_scatter = options.psf_ellipticity
    scene_seeing = rng.normal(0, options.seeing_scatter)
    scene_shear = rng.normal(0, shear_scatter, 2)
    conditions = {}
    for band in options.survey_bands:
        seeing = np.exp(scene_seeing + rng.normal(0, options.seeing_scatter))
        g1, g2 = np.clip(scene_shear + rng.normal(0, shear_scatter / 2, 2), -0.5, 0.5)
        exposure = options.exposure_factor
        if options.depth_scatter:
            exposure *= np.exp(rng.normal(0, options.depth_scatter))
        if band not in options.bands:
            continue
        data = survey.get_filter(band)
        fwhm = data.psf_fwhm.to_value("arcsec") * seeing
        psf = round_psf(options, fwhm, _PSF_FOLDED).shear(g1=g1, g2=g2)
        size = options.psf_size
        image = psf.drawImage(nx=size, ny=size, scale=options.pixel_scale_arcsec, dtype=np.float32).array
        seconds = data.full_exposure_time.to_value("s") * exposure
        electrons_per_njy = seconds * 10 ** (0.4 * (data.zeropoint.to_value("mag") - ZERO_POINT))
        sky_electrons = mean_sky_level(survey, data).to_value("electron") * exposure
        conditions[band] = BandConditions(
            band,
            fwhm,
            psf,
            image,
            sky_electrons / electrons_per_njy**2,
            electrons_per_njy,
            float(flux_njy(options.saturation_mag) * image.max()),
        )
    return tuple(conditions[band] for band in options.bands)
