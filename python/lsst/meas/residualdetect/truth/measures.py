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


"""Numbers of a source or a parent: signal to noise, width, neighbours,
fluxes and chi-square.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from ..boxes import nearest_pixel, shape_of
from ..detections import Detections
from ..scene import Array, Scene
from ..scene_model import SceneModel, render, seen_box

__all__ = [
    "brighter_neighbours",
    "core_owner",
    "parent_chi2",
    "psf_sigma_pix",
    "source_snr",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def psf_sigma_pix(scene: Scene) -> float:
    """Standard deviation of the PSF, median over bands, in pixels."""
    return float(np.sqrt(np.median(scene.psf_sigmas_pix**2)))


def source_snr(model: SceneModel, scene: Scene, peak_ids: Integers) -> Floats:
    """Signal-to-noise ratio of deblended sources, each as if it were alone.

    ``sqrt(sum(m^2 w))``, with the source's light ``m`` as the scene shows it
    and the inverse variance ``w``: what a filter of its own shape would give
    it, in all bands together.

    Parameters
    ----------
    model : `SceneModel`
        Deblended sources.
    scene : `Scene`
        Pixels, noise and PSFs; they may be others than the model was fitted
        to.
    peak_ids : `numpy.ndarray`, (n,)
        Ids of the sources' peaks.

    Returns
    -------
    snr : `numpy.ndarray`, (n,), float64
        NaN for a source without a model.
    """
    parts = replace(model, psfs=scene.psfs).by_peak(scene)
    snr = np.full(len(peak_ids), np.nan)
    for index, peak_id in enumerate(peak_ids.tolist()):
        if peak_id not in parts:
            continue
        kernels, own = parts[peak_id]
        box, first = seen_box(own, kernels, scene)
        if not all(shape_of(box)):
            continue
        light = render(tuple(own), kernels, shape_of(box), first)
        snr[index] = np.sqrt((np.square(light, dtype=np.float64) * scene.weights(box=box)).sum())
    return snr


def brighter_neighbours(positions: Floats, flux: Floats) -> tuple[Integers, Floats]:
    """The nearest brighter source of each source.

    Parameters
    ----------
    positions : `numpy.ndarray`, (n, 2)
        Positions (y, x) in pixels.
    flux : `numpy.ndarray`, (n,)
        What to compare; of two equals the first counts as brighter.

    Returns
    -------
    neighbour : `numpy.ndarray`, (n,), int64
        Index of the nearest brighter source; -1 for the brightest.
    separation_pix : `numpy.ndarray`, (n,), float64
        Distance to it; NaN for the brightest.
    """
    neighbour = np.full(len(flux), -1, dtype=np.int64)
    separation = np.full(len(flux), np.nan)
    if not len(flux):
        return neighbour, separation
    order = np.argsort(-flux, kind="stable")
    rank = np.empty(len(flux), dtype=np.int64)
    rank[order] = np.arange(len(flux))

    # Most have a brighter one among their nearest few; the others are bright
    # themselves, so that few are brighter still.
    few = np.arange(1, min(len(flux), 16) + 1)
    distance, near = KDTree(positions).query(positions, k=few)
    brighter = rank[near] < rank[:, None]
    first = brighter.argmax(axis=1)[:, None]
    found = brighter.any(axis=1)
    neighbour[found] = np.take_along_axis(near, first, axis=1)[found, 0]
    separation[found] = np.take_along_axis(distance, first, axis=1)[found, 0]
    for source in order[1:][~found[order[1:]]]:
        candidates = order[: rank[source]]
        away = np.hypot(*(positions[candidates] - positions[source]).T)
        nearest = int(away.argmin())
        neighbour[source], separation[source] = candidates[nearest], away[nearest]
    return neighbour, separation


def core_owner(positions: Floats, model: SceneModel, peak_ids: Integers, fraction: float) -> Integers:
    """The source in whose core each position lies.

    Parameters
    ----------
    positions : `numpy.ndarray`, (n, 2)
        Positions (y, x) in patch coordinates.
    model : `SceneModel`
        Deblended sources.
    peak_ids : `numpy.ndarray`, (m,)
        Ids of the sources' peaks, -1 for none.
    fraction : `float`
        The core is where a component's morphology, before convolution, is at
        least this fraction of its maximum.

    Returns
    -------
    owner : `numpy.ndarray`, (n,), int64
        Index in ``peak_ids`` of the brightest source there; -1 for none.
    """
    source_of_peak = {int(peak_id): index for index, peak_id in enumerate(peak_ids) if peak_id >= 0}
    owner = np.full(len(positions), -1, dtype=np.int64)
    brightest = np.zeros(len(positions))
    rows, columns = nearest_pixel(positions).T
    for component in model.sources:
        if component.peak_id not in source_of_peak:
            continue
        morphology = component.morphology
        y, x = rows - component.origin[0], columns - component.origin[1]
        inside = (y >= 0) & (y < morphology.shape[0]) & (x >= 0) & (x < morphology.shape[1])
        shape = np.zeros(len(positions))
        shape[inside] = morphology[y[inside], x[inside]]
        light = shape * component.spectrum.sum()
        better = (shape >= fraction * morphology.max()) & (light > brightest)
        owner[better] = source_of_peak[component.peak_id]
        brightest[better] = light[better]
    return owner


def parent_chi2(scene: Scene, detections: Detections, model_image: Array) -> tuple[Floats, Integers]:
    """Chi-square of a model in each footprint.

    Parameters
    ----------
    scene : `Scene`
        The pixels.
    detections : `Detections`
        Catalogue whose footprints to use.
    model_image : `numpy.ndarray`, (band, y, x)
        Model of the whole scene, so that the light of neighbouring parents
        is accounted for.

    Returns
    -------
    chi2 : `numpy.ndarray`, (parent,), float64
        Sum over bands and good footprint pixels of residual^2 / variance.
    n_pixels : `numpy.ndarray`, (parent,), int64
        Number of good pixels, summed over bands.
    """
    labels = detections.labels(scene.shape, scene.origin)
    size = len(detections) + 1
    chi2, n_pixels = np.zeros(size), np.zeros(size, np.int64)
    # Band after band: of a patch there is not memory for many cubes.
    for band, bad in enumerate(scene.bad()):
        good = ~bad
        residual = scene.images[band][good] - model_image[band][good]
        own = labels[good]
        chi2 += np.bincount(own, np.square(residual) / scene.variance[band][good], minlength=size)
        n_pixels += np.bincount(own, minlength=size)
    return chi2[1:], n_pixels[1:]
