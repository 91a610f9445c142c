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

"""Deblended sources and the images they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import fft

from .boxes import Box, box_at, overlap
from .psf_images import difference_kernels
from .scene import Array, Scene, SceneError

__all__ = ["ParentModel", "SceneModel", "SourceModel", "render", "seen_box"]


@dataclass(frozen=True, eq=False)
class SourceModel:
    """One deblended source: a spectrum times a morphology.

    Parameters
    ----------
    peak_id : `int`
        Id of the peak that it models.
    spectrum : `numpy.ndarray`, (band,), float32
        Factor of the morphology in each band, in image units.
    morphology : `numpy.ndarray`, (h, w), float32
        Shape in the model PSF, the same in all bands. A source of two
        components (bulge and disk) is two of these with one ``peak_id``.
    origin : `tuple` [`int`, `int`]
        Patch coordinates (y, x) of ``morphology[0, 0]``.
    """

    peak_id: int
    spectrum: Array
    morphology: Array
    origin: tuple[int, int]

    @classmethod
    def from_pixels(
        cls,
        peak_id: int,
        spectrum: npt.NDArray[np.floating],
        y: npt.NDArray[np.integer],
        x: npt.NDArray[np.integer],
        light: npt.NDArray[np.floating],
    ) -> SourceModel:
        """A source of unit sum, cut to the pixels where it has light.

        Parameters
        ----------
        peak_id : `int`
            Id of the peak that it models.
        spectrum : `numpy.ndarray`, (band,)
            Factor of ``light`` in each band.
        y, x : `numpy.ndarray`, (n,)
            Patch coordinates of the pixels; at least one.
        light : `numpy.ndarray`, (n,)
            Morphology there.
        """
        first = int(y.min()), int(x.min())
        morphology = np.zeros((y.max() - first[0] + 1, x.max() - first[1] + 1), np.float32)
        total = light.sum(dtype=np.float64)
        morphology[y - first[0], x - first[1]] = light / total
        return cls(peak_id, (spectrum * total).astype(np.float32), morphology, first)

    @property
    def flux(self) -> Array:
        """Total flux in each band: (band,), float32."""
        return self.spectrum * self.morphology.sum()


@dataclass(frozen=True)
class ParentModel:
    """The deblended sources of one parent, and how the fit went.

    Parameters
    ----------
    parent_id : `int`
        Id of the parent in the detection catalogue.
    sources : `tuple` [`SourceModel`]
        Empty if the fit failed.
    chi2 : `float`
        Sum over bands and good footprint pixels of residual^2 / variance.
    n_pixels : `int`
        Number of good footprint pixels, summed over bands.
    n_iterations : `int`
        Iterations done.
    converged : `bool`
        Whether it stopped before the allowed number of iterations.
    failure : `str`
        Why there is no model; empty if there is one.
    unmodelled : `~collections.abc.Mapping` [`int`, `str`]
        Why a peak of the parent has no source although others have, by its
        id. ``chi2`` is that of the fit, in which its light, as far as it can
        be seen, was kept out of theirs.
    place : `tuple` [`float`, `float`], optional
        Patch coordinates (y, x) where the PSFs that the model is convolved
        to are the scene's, if those change; the middle of the footprint.
        `None` for the PSFs of the `SceneModel`.
    """

    parent_id: int
    sources: tuple[SourceModel, ...]
    chi2: float = float("nan")
    n_pixels: int = 0
    n_iterations: int = 0
    converged: bool = False
    failure: str = ""
    unmodelled: Mapping[int, str] = field(default_factory=dict)
    place: tuple[float, float] | None = None

    @property
    def reduced_chi2(self) -> float:
        """Chi-square per good pixel; NaN if there is none."""
        return self.chi2 / self.n_pixels if self.n_pixels else float("nan")


@dataclass(frozen=True, eq=False)
class SceneModel:
    """All deblended parents of a patch, with what is needed to render them.

    Parameters
    ----------
    bands : `tuple` [`str`]
        Order of every spectrum.
    psfs : `numpy.ndarray`, (band, h, w), float32
        PSF images the model is convolved to, unit sum; of parents without a
        place of their own.
    model_psf : `numpy.ndarray`, (h, w), float32
        PSF image of the morphologies, narrower than any of ``psfs``; odd
        sides, unit sum.
    parents : `tuple` [`ParentModel`]
        One for each parent of the catalogue, in its order.
    """

    bands: tuple[str, ...]
    psfs: Array
    model_psf: Array
    parents: tuple[ParentModel, ...]

    def __len__(self) -> int:
        return len(self.parents)

    def __iter__(self) -> Iterator[ParentModel]:
        return iter(self.parents)

    @property
    def sources(self) -> tuple[SourceModel, ...]:
        """All sources, parent by parent."""
        return tuple(source for parent in self.parents for source in parent.sources)

    def peak_fluxes(self, peak_ids: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Deblended flux of each peak, its components summed.

        Parameters
        ----------
        peak_ids : `~collections.abc.Sequence` [`int`]
            Ids of peaks; -1 for none.

        Returns
        -------
        fluxes : `numpy.ndarray`, (n, band), float64
            In image units; NaN where there is no model.
        """
        by_peak: dict[int, npt.NDArray[np.float64]] = {}
        for source in self.sources:
            by_peak[source.peak_id] = by_peak.get(source.peak_id, 0.0) + source.flux.astype(np.float64)
        unknown = np.full(len(self.bands), np.nan)
        rows = [by_peak.get(int(peak_id), unknown) for peak_id in peak_ids]
        return np.array(rows, dtype=np.float64).reshape(len(peak_ids), len(self.bands))

    def select_bands(self, bands: Sequence[str]) -> SceneModel:
        """The same sources in some of the bands, in the order given.

        Raises
        ------
        SceneError
            Raised if the model lacks one of the bands.
        """
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise SceneError(f"the models have bands {list(self.bands)}, not {missing}")
        order = [self.bands.index(band) for band in bands]
        parents = tuple(
            replace(
                parent,
                sources=tuple(replace(source, spectrum=source.spectrum[order]) for source in parent.sources),
            )
            for parent in self.parents
        )
        return replace(self, bands=tuple(bands), psfs=self.psfs[order], parents=parents)

    def image(self, scene: Scene) -> Array:
        """The model as the scene would show it, all sources summed:
        (band, y, x), float32, over the scene's pixels.
        """
        groups = list(self.by_kernels(scene))
        if len(groups) == 1:
            return render(self.sources, groups[0][0], scene.shape, scene.origin)
        image = np.zeros((len(self.bands), *scene.shape), np.float32)
        for kernels, parents in groups:
            sources = tuple(source for parent in parents for source in parent.sources)
            if sources:
                box, origin = seen_box(sources, kernels, scene)
                seen = image[:, *box]
                if seen.size:
                    seen += render(sources, kernels, seen.shape[1:], origin)
        return image

    def by_kernels(self, scene: Scene) -> Iterator[tuple[Array, list[ParentModel]]]:
        """Parents that are seen with the same PSFs, and what takes the model
        PSF to these.

        Parameters
        ----------
        scene : `Scene`
            Gives the PSFs at the parents' places.

        Yields
        ------
        kernels : `numpy.ndarray`, (band, h, w), float32
            Difference kernels.
        parents : `list` [`ParentModel`]
            Those that they hold for.
        """
        groups: dict[bytes, tuple[Array, list[ParentModel]]] = {}
        for parent in self.parents:
            psfs = self.psfs if parent.place is None else scene.at(*parent.place).psfs
            groups.setdefault(psfs.tobytes(), (psfs, []))[1].append(parent)
        for psfs, parents in groups.values():
            yield difference_kernels(psfs, self.model_psf), parents

    def by_peak(self, scene: Scene) -> dict[int, tuple[Array, list[SourceModel]]]:
        """Difference kernels and components of each source, by its peak's id;
        see `by_kernels`.
        """
        peaks: dict[int, tuple[Array, list[SourceModel]]] = {}
        for kernels, parents in self.by_kernels(scene):
            for source in (source for parent in parents for source in parent.sources):
                peaks.setdefault(source.peak_id, (kernels, []))[1].append(source)
        return peaks


def seen_box(sources: Sequence[SourceModel], kernels: Array, scene: Scene) -> tuple[Box, tuple[int, int]]:
    """The pixels of a scene that sources give light to.

    Parameters
    ----------
    sources : `~collections.abc.Sequence` [`SourceModel`]
        At least one.
    kernels : `numpy.ndarray`, (band, h, w)
        Difference kernels.
    scene : `Scene`
        Gives the pixel grid.

    Returns
    -------
    box : `Box`
        As array indices; empty if they are off the scene.
    origin : `tuple` [`int`, `int`]
        Patch coordinates of its first pixel.
    """
    margin = np.array(kernels.shape[1:]) // 2
    first = np.min([source.origin for source in sources], axis=0) - margin
    after = np.max([np.add(source.origin, source.morphology.shape) for source in sources], axis=0) + margin
    box, _ = overlap(box_at(scene.origin, scene.shape), box_at(first.tolist(), (after - first).tolist()))
    return box, (box[0].start + scene.origin[0], box[1].start + scene.origin[1])


def render(
    sources: tuple[SourceModel, ...], kernels: Array, shape: tuple[int, int], origin: tuple[int, int]
) -> Array:
    """Sum sources and convolve them to each band's PSF.

    Parameters
    ----------
    sources : `tuple` [`SourceModel`]
        Sources, anywhere; light outside the image still spills into it.
    kernels : `numpy.ndarray`, (band, h, w)
        Difference kernels.
    shape, origin : `tuple` [`int`, `int`]
        Size of the image and patch coordinates of its first pixel, (y, x).

    Returns
    -------
    image : `numpy.ndarray`, (band, y, x), float32
        The convolved sum.
    """
    margin_y, margin_x = kernels.shape[1] // 2, kernels.shape[2] // 2
    cube = np.zeros((len(kernels), shape[0] + 2 * margin_y, shape[1] + 2 * margin_x), np.float32)
    whole = box_at((origin[0] - margin_y, origin[1] - margin_x), cube.shape[1:])
    for source in sources:
        in_cube, part = overlap(whole, box_at(source.origin, source.morphology.shape))
        cube[:, *in_cube] += source.spectrum[:, None, None] * source.morphology[part]
    size = [fft.next_fast_len(cube.shape[axis] + kernels.shape[axis] - 1, real=True) for axis in (1, 2)]
    image = np.empty((len(kernels), *shape), np.float32)
    for band, kernel in enumerate(kernels):
        convolved = fft.irfft2(fft.rfft2(cube[band], s=size) * fft.rfft2(kernel, s=size), s=size)
        # The linear convolution's pixel [2m, 2m] is centred on cube[m, m].
        image[band] = convolved[
            2 * margin_y : 2 * margin_y + shape[0], 2 * margin_x : 2 * margin_x + shape[1]
        ]
    return image
