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

"""What a real blend teaches: nothing to find, peaks withheld, sources added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ..boxes import is_inside, nearest_pixel, shape_of
from ..deblend import DeblendOptions
from ..detections import Detections, places_of, positions_of
from ..psf_images import difference_kernels, gaussian_psf
from ..scene import Array, Scene
from ..scene_model import SourceModel, render, seen_box
from ..simulation.flaws import with_wrong_psfs
from ..simulation.log_uniform import log_uniform
from ..simulation.rendering import Stamp
from ..truth.blends import told_of
from ..truth.evaluation import EvaluationOptions
from ..truth.known_scenes import Truth
from ..truth.worse import make_worse
from .added_light import draw_light
from .hosts import Host

__all__ = ["Lesson", "LessonOptions", "draw_lesson"]

_MODEL_SIGMA_PIX = DeblendOptions.sigma_pix
_MODEL_PSF_SIDE = 15


@dataclass(frozen=True)
class LessonOptions:
    """How often what is done to a real blend.

    Parameters
    ----------
    untouched : `float`
        Share of the blends of which every peak is told and to which nothing
        is added: resolved galaxies are no pairs.
    one_withheld, some_withheld : `float`
        Shares in which one peak, or 10 to 40 % of them, are withheld. Sources
        are added in what is left, and in half of these too.
    max_added : `int`
        Most sources added to a blend.
    separation_pix : `tuple` [`float`, `float`]
        Least and greatest distance of an added source from a known peak;
        log-uniform.
    snr : `tuple` [`float`, `float`]
        Least and greatest signal-to-noise ratio of one; log-uniform.
    told : `float`
        Share of the added sources that the deblender is told of.
    blurred, noisier : `float`
        Shares with worse seeing, and with more noise.
    max_blur_pix : `float`
        Largest standard deviation of the Gaussian of worse seeing.
    max_variance_factor : `float`
        Largest factor of the variance.
    psf_error : `float`
        Standard deviation of the relative error of the PSF's size that half
        of the deblenders are given.
    surroundings : `float`
        Share with what lies beyond the blend's footprint; see `told_of`.
    """

    untouched: float = 0.3
    one_withheld: float = 0.25
    some_withheld: float = 0.2
    max_added: int = 3
    separation_pix: tuple[float, float] = (1.5, 10.0)
    snr: tuple[float, float] = (5.0, 1000.0)
    told: float = 0.15
    blurred: float = 0.35
    noisier: float = 0.5
    max_blur_pix: float = 1.8
    max_variance_factor: float = 20.0
    psf_error: float = 0.02
    surroundings: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.untouched + self.one_withheld + self.some_withheld <= 1:
            raise ValueError("the shares untouched, one_withheld and some_withheld add up to more than 1")
        for name in ("separation_pix", "snr"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {low} to {high}; expected 0 < least <= greatest")
        if self.max_variance_factor < 1:
            raise ValueError(f"max_variance_factor is {self.max_variance_factor}; expected at least 1")


@dataclass(frozen=True, eq=False)
class Lesson:
    """A blend as the deblender is given it, and what it is not told of.

    Parameters
    ----------
    scene : `Scene`
        Pixels, with the PSFs that the deblender is given.
    detections : `Detections`
        What it is told of.
    truth : `numpy.ndarray`, structured
        All sources, those that it is told of first: ``id``, ``y``, ``x``,
        ``snr``, ``flux_<band>`` as they were modelled, 0 where they were not.
        Those told count, however faint.
    n_told : `int`
        How many these are.
    stamps : `tuple` [`Stamp`, ...]
        Light of the others.
    """

    scene: Scene
    detections: Detections
    truth: Truth
    n_told: int
    stamps: tuple[Stamp, ...]

    @property
    def positions(self) -> npt.NDArray[np.float64]:
        """Places (y, x), (n, 2), of what the deblender is not told of."""
        hidden = self.truth[self.n_told :]
        return places_of(hidden)

    @property
    def snr(self) -> npt.NDArray[np.float64]:
        """Signal-to-noise ratios (n,) of that."""
        return np.asarray(self.truth["snr"][self.n_told :], np.float64)


def _stamp(sources: Sequence[SourceModel], kernels: Array, scene: Scene) -> Stamp | None:
    """Light of a source on the scene."""
    if not sources:
        return None
    box, origin = seen_box(sources, kernels, scene)
    if not all(shape_of(box)):
        return None
    return Stamp(*box, render(tuple(sources), kernels, shape_of(box), origin))


def _truth(
    positions: npt.NDArray[np.float64],
    stamps: Sequence[Stamp | None],
    weights: Array,
    bands: Sequence[str],
) -> Truth:
    """Sources at some places, with their light; ids are yet to be given."""
    names = [*("y", "x", "snr"), *(f"flux_{band}" for band in bands)]
    truth = np.zeros(len(positions), [("id", "i8"), *((name, "f8") for name in names)])
    truth["y"], truth["x"] = positions.T
    for row, stamp in zip(truth, stamps, strict=True):
        if stamp is not None:
            row["snr"] = stamp.snr(weights)
            for band, flux in zip(bands, stamp.pixels.sum(axis=(1, 2), dtype=np.float64), strict=True):
                row[f"flux_{band}"] = flux
    return truth


def _place(
    host: Host, taken: npt.NDArray[np.float64], options: LessonOptions, rng: np.random.Generator
) -> tuple[int, int] | None:
    """A pixel of the blend at some distance of a known peak, and no nearer to
    any other source than is allowed.
    """
    for _ in range(20):
        anchor = host.peaks[int(rng.integers(len(host.peaks)))]
        away, angle = log_uniform(options.separation_pix, rng), rng.uniform(0, 2 * np.pi)
        pixel = nearest_pixel(anchor + away * np.array([np.sin(angle), np.cos(angle)]))
        y, x = pixel.tolist()
        if not is_inside(pixel, host.footprint.shape):
            continue
        if host.footprint[y, x] and cKDTree(taken).query((y, x))[0] >= options.separation_pix[0]:
            return y, x
    return None


def _withheld(
    host: Host, options: LessonOptions, rng: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], bool]:
    """Which peaks are not told, and whether sources are added."""
    n = len(host.peaks)
    hidden = np.zeros(n, bool)
    chance = rng.random()
    if chance < options.untouched:
        return hidden, False
    chance -= options.untouched
    if chance < options.one_withheld:
        hidden[rng.integers(n)] = True
    elif chance < options.one_withheld + options.some_withheld:
        hidden = rng.random(n) < rng.uniform(0.1, 0.4)
    else:
        return hidden, True
    return hidden, bool(rng.random() < 0.5)


def draw_lesson(
    host: Host, others: Sequence[Host], options: LessonOptions, rng: np.random.Generator
) -> Lesson:
    """Make one of the many examples that a blend can be.

    Parameters
    ----------
    host : `Host`
        The blend.
    others : `~collections.abc.Sequence` [`Host`]
        Blends whose sources may be added.
    options : `LessonOptions`
        How often what.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    lesson : `Lesson`
        The example.
    """
    scene = host.scene
    blur = rng.uniform(0.5, options.max_blur_pix) if rng.random() < options.blurred else 0.0
    factor = log_uniform((1.0, options.max_variance_factor), rng) if rng.random() < options.noisier else 1.0
    if blur or factor > 1:
        scene = make_worse(scene, blur, factor, rng)
    psf = gaussian_psf(_MODEL_SIGMA_PIX, (_MODEL_PSF_SIDE, _MODEL_PSF_SIDE))
    kernels = difference_kernels(scene.psfs, psf)
    weights = scene.weights() * host.footprint

    hidden, adding = _withheld(host, options, rng)
    positions: list[npt.NDArray[np.float64]] = []
    stamps: list[Stamp] = []
    for number in np.flatnonzero(hidden):
        stamp = _stamp(host.sources[number], kernels, scene)
        if stamp is not None:
            positions.append(host.peaks[number])
            stamps.append(stamp)
    told = host.peaks[~hidden]
    told_stamps = [_stamp(host.sources[number], kernels, scene) for number in np.flatnonzero(~hidden)]
    taken = host.peaks
    images = scene.images.copy()
    for _ in range(int(rng.integers(1, options.max_added + 1)) if adding else 0):
        place = _place(host, taken, options, rng)
        if place is None:
            continue
        light = draw_light(others, scene.bands, scene.pixel_scale_arcsec, _MODEL_SIGMA_PIX, rng)
        unit = _stamp(light.at(*place), kernels, scene)
        if unit is None or not (strength := unit.snr(weights)) > 0:
            continue
        stamp = replace(unit, pixels=unit.pixels * np.float32(log_uniform(options.snr, rng) / strength))
        images[:, stamp.rows, stamp.columns] += stamp.pixels
        where = np.array(place, float)
        taken = np.concatenate([taken, where[None]])
        if rng.random() < options.told:
            told = np.concatenate([told, where[None]])
            told_stamps.append(stamp)
        else:
            positions.append(where)
            stamps.append(stamp)
    scene = replace(scene, images=images)
    if rng.random() < 0.5:
        shear = rng.normal(0, options.psf_error / 2, 2)
        scene = with_wrong_psfs(
            scene, float(rng.normal(0, options.psf_error)), (float(shear[0]), float(shear[1]))
        )
    scene, detections = told_of(
        scene, told, host.footprint, surroundings=bool(rng.random() < options.surroundings)
    )
    of_place = {tuple(place): stamp for place, stamp in zip(told.tolist(), told_stamps, strict=True)}
    known = positions_of(detections.peaks)
    truth = np.concatenate(
        [
            _truth(known, [of_place.get(tuple(place)) for place in known.tolist()], weights, scene.bands),
            _truth(np.reshape(positions, (-1, 2)), stamps, weights, scene.bands),
        ]
    )
    truth["id"] = np.arange(1, len(truth) + 1)
    truth["snr"][: len(known)] = np.maximum(truth["snr"][: len(known)], EvaluationOptions().min_snr)
    return Lesson(scene, detections, truth, len(known), tuple(stamps))
