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

"""Ordinary detection: what the stack does to coadds before the deblender."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..boxes import is_inside, nearest_pixel, pixels_within
from ..detections import GROW_SIGMA, Detections, Peak
from ..noise import psf_smoothed
from ..scene import Array, Scene
from ..threads import default_threads, in_parallel
from .local_background import local_background
from .merged_peaks import BandPeaks, CullPeaksOptions, cull_peaks, merge_peaks

__all__ = ["DetectionOptions", "detect", "detections_at"]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)

# Each takes half as much memory as the pixels of six.
_BANDS_AT_ONCE = 4


@dataclass(frozen=True)
class DetectionOptions:
    """Options of `detect`; the defaults are the stack's.

    Parameters
    ----------
    threshold : `float`
        Signal-to-noise ratio of the PSF-matched image above which a pixel is
        detected.
    grow_sigma : `float`
        Footprints grow by this many PSF standard deviations.
    min_new_peak_arcsec : `float`
        A peak of a further band is new if it is farther than this from all
        peaks so far (``minNewPeak`` of the stack's MergeDetectionsTask).
    max_same_peak_arcsec : `float`
        A peak nearer than this to a peak so far is the same
        (``maxSamePeak``); one between the two distances is dropped.
    band_priority : `tuple` [`str`]
        Order in which bands give their peaks; bands not named come last.
    bad_planes : `tuple` [`str`]
        Mask planes whose pixels are left out. Saturated pixels are not: a
        bright star without its core would get peaks all around it.
    do_temp_local_background : `bool`
        Whether parents with more than ``n_peaks_max_simple`` peaks in a band
        get those that are left above the threshold when a background on small
        scales is taken away: noise on a bright star's halo makes no peaks.
    temp_local_background_bin_size : `int`
        Side in pixels of that background's bins.
    n_peaks_max_simple : `int`
        Peaks that a parent may have in a band without another look.
    cull_peaks : `CullPeaksOptions`
        Which peaks of a parent with many are dropped.
    """

    threshold: float = 5.0
    grow_sigma: float = GROW_SIGMA
    min_new_peak_arcsec: float = 1.0
    max_same_peak_arcsec: float = 0.3
    band_priority: tuple[str, ...] = ("i", "r", "z", "y", "g", "u")
    bad_planes: tuple[str, ...] = ("BAD", "NO_DATA")
    do_temp_local_background: bool = True
    temp_local_background_bin_size: int = 64
    n_peaks_max_simple: int = 1
    cull_peaks: CullPeaksOptions = field(default_factory=CullPeaksOptions)

    def __post_init__(self) -> None:
        if not self.temp_local_background_bin_size >= 1:
            raise ValueError(
                f"temp_local_background_bin_size is {self.temp_local_background_bin_size}; "
                "it must be 1 pixel or more"
            )
        if not self.threshold > 0:
            raise ValueError(f"detection threshold is {self.threshold}; it must be positive")
        for name in ("grow_sigma", "n_peaks_max_simple"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.max_same_peak_arcsec <= self.min_new_peak_arcsec:
            raise ValueError(
                f"max_same_peak_arcsec ({self.max_same_peak_arcsec}) must lie between 0 and "
                f"min_new_peak_arcsec ({self.min_new_peak_arcsec})"
            )


def _maxima(smooth: Array, detected: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where local maxima lie at detected pixels."""
    maxima: npt.NDArray[np.bool_] = smooth == ndimage.maximum_filter(smooth, footprint=_EIGHT_NEIGHBOURS)
    return maxima & detected


def _without_halo(
    smooth: Array, lowered: Array, limit: Array, maxima: npt.NDArray[np.bool_], n_peaks_max_simple: int
) -> tuple[npt.NDArray[np.intp], Array]:
    """Peaks (n, 2) of which those in footprints with many are found again on a
    lowered image, and heights; the brightest old one stays where no new one
    is.
    """
    labels, n_labels = ndimage.label(smooth > limit, structure=_EIGHT_NEIGHBOURS)
    many = np.bincount(labels[maxima], minlength=n_labels + 1) > n_peaks_max_simple
    again = many[labels]
    new = _maxima(lowered, lowered > limit) & again
    emptied = many & (np.bincount(labels[new], minlength=n_labels + 1) == 0)
    old = np.argwhere(maxima & emptied[labels])
    # The brightest of each footprint is its first.
    old = old[np.argsort(-smooth[tuple(old.T)], kind="stable")]
    brightest = old[np.unique(labels[tuple(old.T)], return_index=True)[1]]
    new |= maxima & ~again
    new[tuple(brightest.T)] = True
    peaks = np.argwhere(new)
    at = tuple(peaks.T)
    return peaks, np.where(again[at], lowered[at], smooth[at])


def _detect_band(
    scene: Scene, index: int, good: npt.NDArray[np.bool_], options: DetectionOptions
) -> tuple[npt.NDArray[np.bool_], BandPeaks]:
    """Pixels of the footprints, and the peaks among them."""
    image = scene.images[index]
    smooth, limit = psf_smoothed(image, scene.variance[index], good, scene.psfs[index])
    limit *= options.threshold
    above = smooth > limit
    maxima = _maxima(smooth, above)
    peaks, heights = np.argwhere(maxima), smooth[maxima]
    if options.do_temp_local_background and len(peaks):
        lowered = smooth - local_background(image, good, options.temp_local_background_bin_size)
        peaks, heights = _without_halo(smooth, lowered, limit, maxima, options.n_peaks_max_simple)
    order = np.argsort(-heights, kind="stable")
    footprints = pixels_within(above, options.grow_sigma * float(scene.psf_sigmas_pix[index]))
    return footprints, BandPeaks(scene.bands[index], peaks[order], heights[order])


def _detect_bands(scene: Scene, options: DetectionOptions) -> tuple[npt.NDArray[np.int32], list[BandPeaks]]:
    """Labels of the bands' footprints together, and each band's peaks in order
    of priority.
    """
    good = ~scene.bad(options.bad_planes)

    def detect_band(index: int) -> tuple[npt.NDArray[np.bool_], BandPeaks]:
        return _detect_band(scene, index, good[index], options)

    n_threads = min(default_threads(), _BANDS_AT_ONCE)
    of_bands = in_parallel(detect_band, range(len(scene.bands)), n_threads)
    detected = np.logical_or.reduce([footprints for footprints, _ in of_bands])
    peaks = {found.band: found for _, found in of_bands}
    first = [band for band in options.band_priority if band in peaks]
    labels = np.asarray(ndimage.label(detected, structure=_EIGHT_NEIGHBOURS)[0])
    return labels, [peaks[band] for band in first + [b for b in peaks if b not in first]]


def detect(scene: Scene, options: DetectionOptions = DetectionOptions()) -> Detections:
    """Detect sources in each band and merge the bands.

    As the stack's DetectCoaddSourcesTask and MergeDetectionsTask: each band
    is filtered with its PSF, pixels above the threshold and their
    surroundings become footprints, local maxima become peaks, footprints of
    all bands that touch become one parent, and peaks are merged by distance.
    Peaks on the halos of bright sources are left out as there: by a temporary
    local background, and by culling the faint ones of parents with many.

    Parameters
    ----------
    scene : `Scene`
        Coadds of all bands.
    options : `DetectionOptions`, optional
        Thresholds and distances.

    Returns
    -------
    detections : `Detections`
        Parents with their peaks at whole pixels; empty if nothing is found.
    """
    labels, found = _detect_bands(scene, options)
    scale = scene.pixel_scale_arcsec
    merged = merge_peaks(found, options.min_new_peak_arcsec / scale, options.max_same_peak_arcsec / scale)
    y0, x0 = scene.origin
    peaks = [
        replace(peak, y=peak.y + y0, x=peak.x + x0)
        for peak in cull_peaks(*merged, labels, options.cull_peaks)
    ]
    return Detections.from_labels(labels, peaks, scene.origin)


def detections_at(
    scene: Scene,
    peaks: npt.NDArray[np.floating],
    footprints: npt.NDArray[np.integer] | None = None,
    options: DetectionOptions = DetectionOptions(),
) -> Detections:
    """Parents for peaks that somebody else found.

    Parameters
    ----------
    scene : `Scene`
        Coadds of all bands.
    peaks : `numpy.ndarray`, (n, 2)
        Positions (y, x) in patch coordinates.
    footprints : `numpy.ndarray`, (y, x), int, optional
        Labels of the footprints, 0 = none. If absent they are detected.
    options : `DetectionOptions`, optional
        How to detect footprints.

    Returns
    -------
    detections : `Detections`
        Peaks in the order given, numbered from 1. A peak off every footprint
        gets one of the size that a barely detected point source would have.

    Raises
    ------
    ValueError
        Raised if a peak is not finite or outside the image, or the labels
        have another shape than the image.
    """
    peaks = np.asarray(peaks, dtype=float)
    if peaks.ndim != 2 or peaks.shape[1] != 2:
        raise ValueError(f"peaks have shape {peaks.shape}; expected (n, 2) of y, x")
    outside = ~np.isfinite(peaks).all(axis=1)
    outside[~outside] = ~is_inside(nearest_pixel(peaks[~outside], scene.origin), scene.shape)
    if outside.any():
        y, x = peaks[outside][0]
        raise ValueError(
            f"{outside.sum()} of {len(peaks)} peaks lie outside the image of "
            f"{scene.shape[0]} x {scene.shape[1]} pixels, the first at y={y:g}, x={x:g}"
        )
    if footprints is None:
        labels, _ = _detect_bands(scene, options)
    elif footprints.shape != scene.shape:
        raise ValueError(f"footprints have shape {footprints.shape}, but images have {scene.shape}")
    else:
        labels = np.array(footprints)
    y, x = nearest_pixel(peaks, scene.origin).T
    alone = np.zeros(scene.shape, dtype=bool)
    alone[y, x] = labels[y, x] <= 0
    if alone.any():
        radius = options.grow_sigma * scene.psf_sigmas_pix.max()
        extra, _ = ndimage.label(pixels_within(alone, radius) & (labels <= 0), structure=_EIGHT_NEIGHBOURS)
        labels = np.where(extra > 0, extra + labels.max(), labels)
    return Detections.from_labels(
        labels,
        [Peak(i, float(py), float(px)) for i, (py, px) in enumerate(peaks, start=1)],
        scene.origin,
    )
