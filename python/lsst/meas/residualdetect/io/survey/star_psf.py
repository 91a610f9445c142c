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


"""The PSF of an image from its own stars."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from ...scene import SceneError
from ..remarks import Remarks
from .fits_noise import blank_scatter

__all__ = ["measure_psf"]

_MIN_STARS, _MAX_STARS = 5, 100
_MIN_SNR = 30.0  # of the brightest pixel
_APERTURE_PIX = 9
# Stars have one size, to this relative width; galaxies have many.
_LOCUS = 0.08
# A neighbour whose peak is above this part of a star's spoils it.
_NEIGHBOUR = 0.03


def _sizes(
    image: npt.NDArray[np.float32], y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard deviation of the Gaussian with each source's peak and flux,
    and the background around it.
    """
    steps = np.arange(-_APERTURE_PIX - 3, _APERTURE_PIX + 4)
    radius = np.hypot(steps[:, None], steps[None, :])
    inner, ring = radius <= _APERTURE_PIX, (radius > _APERTURE_PIX) & (radius <= _APERTURE_PIX + 3)
    sizes, levels = np.zeros(len(y)), np.zeros(len(y))
    for place, (row, column) in enumerate(zip(y.tolist(), x.tolist(), strict=True)):
        stamp = image[row + steps[0] : row + steps[-1] + 1, column + steps[0] : column + steps[-1] + 1]
        levels[place] = np.median(stamp[ring])
        flux, peak = (stamp[inner] - levels[place]).sum(), image[row, column] - levels[place]
        sizes[place] = np.sqrt(max(flux / peak, 0) / (2 * np.pi))
    return sizes, levels


def measure_psf(
    image: npt.NDArray[np.float32], bad: npt.NDArray[np.bool_], remarks: Remarks, what: str
) -> npt.NDArray[np.float64]:
    """An effective PSF (Anderson & King 2000, PASP 112, 1360) from the
    stars of an image, by photutils.

    Stars are isolated bright sources of the commonest size.

    Parameters
    ----------
    image : `numpy.ndarray`, (y, x), float32
        Pixels.
    bad : `numpy.ndarray`, (y, x), bool
        Pixels not to use, such as saturated ones.
    remarks : `Remarks`
        Is told how many stars were used, and of what width.
    what : `str`
        The file and band, for messages.

    Returns
    -------
    psf : `numpy.ndarray`, (h, w), float64
        Odd sides, centred, unit sum.

    Raises
    ------
    SceneError
        Raised if there are too few stars, or photutils is not installed.
    """
    otherwise = "give the PSF (--psf) or its width (--psf-fwhm)"
    try:
        from astropy.nddata import NDData
        from astropy.table import Table
        from photutils.detection import find_peaks
        from photutils.psf import EPSFBuilder, extract_stars
    except ImportError as error:
        raise SceneError(
            f"{what}: no PSF is given, and measuring one needs photutils, which is not installed; {otherwise}"
        ) from error
    pixels = np.where(bad, np.float32(np.nan), image)
    sigma = blank_scatter(pixels)
    level = float(np.nanmedian(pixels)) if not bad.all() else 0.0
    margin = _APERTURE_PIX + 3
    found = None
    if sigma > 0 and min(image.shape) > 2 * margin + 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are none is said below
            found = find_peaks(
                np.where(bad, level, image),
                level + _MIN_SNR * sigma,
                box_size=5,
                mask=bad,
                border_width=margin,
            )
    if found is None:
        raise SceneError(f"{what}: no PSF is given, and no star is bright enough to measure it; {otherwise}")
    y, x = np.asarray(found["y_peak"], np.int64), np.asarray(found["x_peak"], np.int64)
    height = np.asarray(found["peak_value"], float) - level

    sizes, levels = _sizes(np.where(bad, np.float32(level), image), y, x)
    alone = np.ones(len(y), bool)
    for place in range(len(y)):
        near = np.maximum(abs(y - y[place]), abs(x - x[place])) <= 2 * _APERTURE_PIX
        near[place] = False
        box = (
            slice(y[place] - margin, y[place] + margin + 1),
            slice(x[place] - margin, x[place] + margin + 1),
        )
        alone[place] = not (height[near] > _NEIGHBOUR * height[place]).any() and not bad[box].any()
    alone &= sizes > 0.3
    y, x = y[alone], x[alone]
    sizes, height, levels = sizes[alone], height[alone], levels[alone]
    logs = np.log(sizes)
    near = np.abs(logs[:, None] - logs[None, :]) < _LOCUS / 2
    in_locus = near[near.sum(axis=1).argmax()] if len(logs) else np.zeros(0, bool)
    chosen = np.flatnonzero(in_locus)[np.argsort(-height[in_locus])][:_MAX_STARS]
    if len(chosen) < _MIN_STARS:
        raise SceneError(
            f"{what}: no PSF is given, and only {len(chosen)} isolated stars were found to measure it "
            f"(at least {_MIN_STARS} are needed); {otherwise}"
        )
    side = 2 * min(margin, int(np.ceil(5 * np.median(sizes[chosen])))) + 1
    stars = extract_stars(
        NDData(image - np.float32(np.median(levels[chosen]))),
        Table({"x": x[chosen], "y": y[chosen]}),
        size=side,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a star that does not fit is left out
        psf = np.array(EPSFBuilder(oversampling=1, maxiters=10, progress_bar=False)(stars)[0].data, float)
    if not (np.isfinite(psf).all() and psf.sum() > 0):
        raise SceneError(f"{what}: the stars give no PSF; {otherwise}")
    remarks.note(
        f"{what}: the PSF was measured from {len(chosen)} stars; FWHM "
        f"{2.355 * np.median(sizes[chosen]):.2f} pixels"
    )
    return psf / psf.sum()
