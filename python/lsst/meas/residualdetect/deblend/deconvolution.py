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


"""Deconvolved coadds, and the footprints that can be told apart in them.

What meas_extensions_scarlet does before its deblender fits anything:
DeconvolveExposureTask, and the detection at the start of ScarletDeblendTask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lsst.scarlet import lite

from ..boxes import is_inside, nearest_pixel
from ..detections import Footprint, Parent, Peak
from ..scene import Array, Scene
from .cutouts import Cutout, make_cutout

__all__ = ["deconvolve", "divide", "label_footprints", "noise_rms"]

# DeconvolveExposureConfig's values.
_MAX_ITERATIONS = 100
_MIN_ITERATIONS = 10
_TOLERANCE = 1e-3

# ScarletDeblendConfig's values.
_MIN_AREA = 9
_THRESHOLD = 5
_GROW_RADIUS_PIX = 2


def noise_rms(scene: Scene) -> Array:
    """Mean standard deviation of the noise of a pixel in each band.

    Parameters
    ----------
    scene : `Scene`
        The coadds.

    Returns
    -------
    rms : `numpy.ndarray`, (band,), float32
        Over the pixels with data. A band without any is given the mean of
        the others, so that it does not change a threshold that is an average
        over bands; 1 if no band has data.
    """
    rms = np.full(len(scene.bands), np.nan, np.float32)
    for band, variance in enumerate(scene.variance):
        known = variance[np.isfinite(variance)]
        if known.size:
            rms[band] = np.sqrt(known).mean()
    missing = np.isnan(rms)
    rms[missing] = 1 if missing.all() else rms[~missing].mean()
    return rms


def _first_step(image: Array, rms: np.floating) -> float:
    """Length of the first steps: 1, or less where few pixels have signal."""
    signal = image[image > 3 * rms]
    snr = float(np.median(signal) / rms) if signal.size else 1.0
    return float(np.clip(signal.size / image.size * np.sqrt(snr) / 0.1, 0.01, 1))


def _deconvolve_band(
    observation: lite.Observation, footprints: npt.NDArray[np.bool_], step: float
) -> npt.NDArray[np.floating]:
    model = observation.images.copy()
    previous = -np.inf
    for iteration in range(_MAX_ITERATIONS):
        residual = observation.images - observation.convolve(model)
        log_likelihood = -0.5 * (residual.data**2).sum()
        model.data[:] += step * observation.convolve(residual, grad=True).data
        model.data[~(footprints & (model.data > 0) & np.isfinite(model.data))] = 0
        if log_likelihood < previous:
            step /= 2
        change = abs(log_likelihood - previous)
        if iteration > _MIN_ITERATIONS and change < _TOLERANCE * abs(log_likelihood):
            break
        previous = log_likelihood
    return model.data[0]


def deconvolve(scene: Scene, footprints: npt.NDArray[np.bool_], model_psf: Array) -> Array:
    """Sharpen each band to the model PSF.

    Gradient ascent of the likelihood, as in meas_extensions_scarlet's
    DeconvolveExposureTask. All pixels weigh the same there, bad ones too.

    Parameters
    ----------
    scene : `Scene`
        The coadds.
    footprints : `numpy.ndarray`, (y, x), bool
        Pixels of all parents; there is no light elsewhere.
    model_psf : `numpy.ndarray`, (h, w), float32
        PSF of the deconvolved images; odd sides, unit sum.

    Returns
    -------
    deconvolved : `numpy.ndarray`, (band, y, x), float32
        The images, nowhere negative; zero in a band without data.
    """
    deconvolved = np.zeros_like(scene.images)
    rms = noise_rms(scene)
    for band, name in enumerate(scene.bands):
        here = slice(band, band + 1)
        if scene.images[here].any():
            observation = lite.Observation(
                images=scene.images[here],
                variance=scene.variance[here],
                weights=np.ones_like(scene.images[here]),
                psfs=scene.psfs[here],
                model_psf=model_psf[None],
                noise_rms=rms[here],
                bands=(name,),
            )
            step = _first_step(scene.images[band], rms[band])
            deconvolved[band] = _deconvolve_band(observation, footprints, step)
    return deconvolved


def label_footprints(
    scene: Scene, deconvolved: Array, footprints: npt.NDArray[np.bool_], peaks: Sequence[Peak]
) -> npt.NDArray[np.int32]:
    """Find the connected regions of a deconvolved scene.

    As in meas_extensions_scarlet's ScarletDeblendTask, except for regions of
    a single pixel, which are lost there.

    Parameters
    ----------
    scene : `Scene`
        The coadds.
    deconvolved : `numpy.ndarray`, (band, y, x), float32
        What `deconvolve` made of them.
    footprints : `numpy.ndarray`, (y, x), bool
        Pixels of all parents, to which the regions are cut.
    peaks : `~collections.abc.Sequence` [`Peak`]
        Peaks of all parents. Each gets a region, if only a small one; those
        outside the scene are left out.

    Returns
    -------
    labels : `numpy.ndarray`, (y, x), int32
        Number of the region, from 1, in the order of their first rows; 0
        outside them.
    """
    detection = np.zeros(scene.shape, np.float32)
    for image, variance in zip(deconvolved, scene.variance, strict=True):
        known = variance[np.isfinite(variance)]
        if known.size:
            detection += image / np.median(np.sqrt(known))
    # The stack's variance is 1 here too: it finds more among images that have
    # lost their noise when it ignores what the noise was.
    found = lite.detect.detect_footprints(
        detection[None],
        np.ones_like(detection)[None],
        scales=1,
        min_area=_MIN_AREA,
        footprint_thresh=_THRESHOLD,
        find_peaks=False,
    )
    mask = lite.detect.footprints_to_image(found, lite.Box(scene.shape)).data > 0
    for peak in peaks:
        pixel = nearest_pixel((peak.y, peak.x), scene.origin)
        if is_inside(pixel, scene.shape):
            mask[tuple(pixel)] = True
    disc = lite.utils.get_circle_mask(2 * _GROW_RADIUS_PIX + 1, bool)
    labels: npt.NDArray[np.int32] = ndimage.label(ndimage.binary_dilation(mask, disc) & footprints)[0]
    return labels


def divide(cutout: Cutout, labels: npt.NDArray[np.int32]) -> list[Cutout]:
    """Divide a parent along the regions of its deconvolved scene.

    Parameters
    ----------
    cutout : `Cutout`
        The parent, with all peaks on a region.
    labels : `numpy.ndarray`, (y, x), int32
        What `label_footprints` found in its scene.

    Returns
    -------
    parts : `list` [`Cutout`]
        Its pixels and peaks on each region that has a peak, as parents of
        the same id.
    """
    y0, x0 = (s.start + first for s, first in zip(cutout.box, cutout.field.scene.origin, strict=True))
    here = labels[cutout.box] * cutout.footprint
    peaks: dict[int, list[Peak]] = {}
    for peak in cutout.parent.peaks:
        pixel = tuple(nearest_pixel((peak.y, peak.x), (y0, x0)))
        peaks.setdefault(int(here[pixel]), []).append(peak)
    return [
        make_cutout(
            cutout.index,
            cutout.field,
            Parent(cutout.parent.id, Footprint.from_mask(here == label, (y0, x0)), tuple(peaks[label])),
        )
        for label in sorted(peaks)
    ]
