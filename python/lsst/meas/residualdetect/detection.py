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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from .boxes import is_inside, nearest_pixel
from .detections import Detections, Peak
from .noise import psf_smoothed
from .scene import Array, Scene

__all__ = ["DetectionOptions", "detect", "detections_at"]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


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
    """

    threshold: float = 5.0
    grow_sigma: float = 2.4
    min_new_peak_arcsec: float = 1.0
    max_same_peak_arcsec: float = 0.3
    band_priority: tuple[str, ...] = ("i", "r", "z", "y", "g", "u")
    bad_planes: tuple[str, ...] = ("BAD", "NO_DATA")

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"detection threshold is {self.threshold}; it must be positive")
        if not 0 <= self.max_same_peak_arcsec <= self.min_new_peak_arcsec:
            raise ValueError(
                f"max_same_peak_arcsec ({self.max_same_peak_arcsec}) must lie between 0 and "
                f"min_new_peak_arcsec ({self.min_new_peak_arcsec})"
            )


def _grow(mask: npt.NDArray[np.bool_], radius_pix: float) -> npt.NDArray[np.bool_]:
    """All pixels within a distance of a true one."""
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask) <= radius_pix


def _local_maxima(smooth: Array, detected: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Positions (n, 2) of local maxima at detected pixels, highest first."""
    maxima = (smooth == ndimage.maximum_filter(smooth, footprint=_EIGHT_NEIGHBOURS)) & detected
    positions = np.argwhere(maxima)
    return positions[np.argsort(-smooth[maxima], kind="stable")]


def _merge_peaks(
    found: Sequence[tuple[str, npt.NDArray[np.intp]]], min_new_pix: float, max_same_pix: float
) -> list[Peak]:
    """Peaks of all bands, the earlier band's position kept."""
    merged: list[Peak] = []
    for band, positions in found:
        # Peaks of one band are never merged with each other.
        distance, nearest = np.full(len(positions), np.inf), np.zeros(len(positions), int)
        if merged:
            distance, nearest = cKDTree([(peak.y, peak.x) for peak in merged]).query(positions)
        for (y, x), away, same in zip(positions.tolist(), distance, nearest, strict=True):
            if away > min_new_pix:
                merged.append(Peak(len(merged) + 1, float(y), float(x), frozenset({band})))
            elif away < max_same_pix:
                merged[same] = replace(merged[same], bands=merged[same].bands | {band})
    return merged


def _detect_bands(
    scene: Scene, options: DetectionOptions
) -> tuple[npt.NDArray[np.bool_], list[tuple[str, npt.NDArray[np.intp]]]]:
    """Union of the bands' footprints, and each band's peaks in order of
    priority.
    """
    detected = np.zeros(scene.shape, dtype=bool)
    peaks = {}
    good = ~scene.bad(options.bad_planes)
    grow_pix = options.grow_sigma * scene.psf_sigmas_pix
    for index, band in enumerate(scene.bands):
        smooth, snr = psf_smoothed(scene.images[index], scene.variance[index], good[index], scene.psfs[index])
        above = snr > options.threshold
        detected |= _grow(above, grow_pix[index])
        peaks[band] = _local_maxima(smooth, above)
    first = [band for band in options.band_priority if band in peaks]
    return detected, [(band, peaks[band]) for band in first + [b for b in peaks if b not in first]]


def detect(scene: Scene, options: DetectionOptions = DetectionOptions()) -> Detections:
    """Detect sources in each band and merge the bands.

    As the stack's DetectCoaddSourcesTask and MergeDetectionsTask: each band
    is filtered with its PSF, pixels above the threshold and their
    surroundings become footprints, local maxima become peaks, footprints of
    all bands that touch become one parent, and peaks are merged by distance.

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
    detected, found = _detect_bands(scene, options)
    scale = scene.pixel_scale_arcsec
    peaks = _merge_peaks(found, options.min_new_peak_arcsec / scale, options.max_same_peak_arcsec / scale)
    labels, _ = ndimage.label(detected, structure=_EIGHT_NEIGHBOURS)
    return Detections.from_labels(labels, [_moved(peak, scene.origin) for peak in peaks], scene.origin)


def _moved(peak: Peak, origin: tuple[int, int]) -> Peak:
    return replace(peak, y=peak.y + origin[0], x=peak.x + origin[1])


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
        detected, _ = _detect_bands(scene, options)
        labels = np.asarray(ndimage.label(detected, structure=_EIGHT_NEIGHBOURS)[0])
    elif footprints.shape != scene.shape:
        raise ValueError(f"footprints have shape {footprints.shape}, but images have {scene.shape}")
    else:
        labels = np.array(footprints)
    y, x = nearest_pixel(peaks, scene.origin).T
    alone = np.zeros(scene.shape, dtype=bool)
    alone[y, x] = labels[y, x] <= 0
    if alone.any():
        radius = options.grow_sigma * scene.psf_sigmas_pix.max()
        extra, _ = ndimage.label(_grow(alone, radius) & (labels <= 0), structure=_EIGHT_NEIGHBOURS)
        labels = np.where(extra > 0, extra + labels.max(), labels)
    return Detections.from_labels(
        labels,
        [Peak(i, float(py), float(px)) for i, (py, px) in enumerate(peaks, start=1)],
        scene.origin,
    )
