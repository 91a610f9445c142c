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

"""Training tiles at scale: simulated, deblended and compared with the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..deblend import check_engine, deblend_scenes
from ..detection import detect, detections_at
from ..detections import Detections, positions_of
from ..network.features import CANONICAL_BANDS, in_noise_units
from ..network.significance import matched_psfs
from ..scene import Scene
from ..simulation.flaws import mask_pixels, with_wrong_psfs
from ..simulation.rendering import Stamp
from ..simulation.simulate import Truth, simulate_with_stamps
from ..truth.evaluation import EvaluationOptions
from .artefacts import add_artefacts
from .instances import find_instances, undetected
from .shards import Tile, fill_with_shards
from .variation import TileOptions, draw_variation

__all__ = ["MIN_SNR", "DrawnScene", "draw_scene", "generate_tiles", "make_tiles"]

# A detection on a source that is too faint to count is no error, so these have
# to be known as well.
MIN_SNR = EvaluationOptions.faint_snr

# The deblender is told of no fainter ones.
_TOLD_SNR = 5.0

_JITTER_PIX = 0.3


def _tell(
    scene: Scene, detections: Detections, positions: np.ndarray, share: float, rng: np.random.Generator
) -> Detections:
    """Add a share of the positions, about where they are, as peaks."""
    told = positions[rng.random(len(positions)) < share]
    if not len(told):
        return detections
    told = told + rng.normal(0, _JITTER_PIX, told.shape)
    old = positions_of(detections.peaks)
    peaks = np.concatenate([old, np.clip(told, 0, np.array(scene.shape) - 1)])
    return detections_at(scene, peaks, detections.labels(scene.shape))


def _forget(scene: Scene, detections: Detections, share: float, rng: np.random.Generator) -> Detections:
    """Leave out a share of the peaks, and footprints that keep none."""
    if not share:
        return detections
    kept = [peak for peak in detections.peaks if rng.random() >= share]
    return Detections.from_labels(detections.labels(scene.shape), kept)


@dataclass(frozen=True, eq=False)
class DrawnScene:
    """A simulated scene as the deblender is given it.

    Parameters
    ----------
    engine : `str`
        Deblender.
    scene : `Scene`
        Pixels, with the PSFs that it is given.
    detections : `Detections`
        What it is told of.
    truth : `numpy.ndarray`, structured
        True sources; see `simulate_scene`.
    stamps : `list` [`Stamp` or `None`]
        Their light.
    """

    engine: str
    scene: Scene
    detections: Detections
    truth: Truth
    stamps: list[Stamp | None]


def draw_scene(number: int, options: TileOptions, seed: int) -> DrawnScene:
    """Simulate a scene and detect its sources.

    Parameters
    ----------
    number : `int`
        Number of the scene, which depends on it, the options and the seed only.
    options : `TileOptions`
        What to draw from.
    seed : `int`
        Random seed.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    variation = draw_variation(options, rng)
    scene, truth, stamps = simulate_with_stamps(variation.simulation, rng, f"{seed}-{number:06d}")
    if variation.masked:
        scene = mask_pixels(scene, rng)
    if variation.artefacts:
        scene = add_artefacts(scene, rng)
    scene = with_wrong_psfs(
        scene, variation.psf_size_error, variation.psf_shear_error, variation.psf_offset_pix
    )
    positions = np.stack([truth["y"], truth["x"]], axis=1)
    seen = scene
    if variation.simulation.saturated_stars:
        # Surveys detect on what they interpolate where a star saturates.
        seen = replace(scene, mask=scene.mask & ~(1 << scene.mask_planes["SAT"]))
    detections = _forget(scene, detect(seen), variation.forgotten, rng)
    left = undetected(scene, detections, positions, truth["snr"], min_snr=_TOLD_SNR)
    detections = _tell(scene, detections, positions[left], variation.told, rng)
    return DrawnScene(variation.engine, scene, detections, truth, stamps)


def make_tiles(numbers: Sequence[int], options: TileOptions, seed: int) -> list[Tile]:
    """Make training tiles.

    Parameters
    ----------
    numbers : `~collections.abc.Sequence` [`int`]
        Numbers of the tiles; each depends on its number, the options and the
        seed only.
    options : `TileOptions`
        What to draw from.
    seed : `int`
        Random seed.

    Returns
    -------
    tiles : `list` [`Tile`]
        One for each number.
    """
    drawn = [draw_scene(number, options, seed) for number in numbers]
    tiles: dict[int, Tile] = {}
    for engine in sorted({item.engine for item in drawn}):
        own = [index for index, item in enumerate(drawn) if item.engine == engine]
        models = deblend_scenes([(drawn[i].scene, drawn[i].detections.parents) for i in own], engine=engine)
        for index, model in zip(own, models, strict=True):
            scene, detections, truth = drawn[index].scene, drawn[index].detections, drawn[index].truth
            positions = np.stack([truth["y"], truth["x"]], axis=1)
            left = undetected(scene, detections, positions, truth["snr"], min_snr=MIN_SNR)
            instances = find_instances(scene, positions, truth["snr"], drawn[index].stamps, left)
            residual, summed = in_noise_units(scene, model.image(scene))
            tiles[index] = Tile(
                name=scene.name,
                residual=residual.astype(np.float16),
                model=summed.astype(np.float16),
                has_band=np.array([band in scene.bands for band in CANONICAL_BANDS]),
                psfs=matched_psfs(scene.psfs, scene.bands, CANONICAL_BANDS),
                peaks=positions_of(detections.peaks).astype(np.float32),
                instances=instances,
            )
    return [tiles[index] for index in range(len(drawn))]


def generate_tiles(
    folder: Path,
    n_tiles: int,
    options: TileOptions,
    seed: int,
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Fill a folder with training tiles, on several cores; see
    `~lsst.meas.residualdetect.training.shards.fill_with_shards`.

    Raises
    ------
    lsst.meas.residualdetect.deblend.DeblendError
        Raised if a deblender cannot be used here.
    """
    for engine in options.engines:
        check_engine(engine)
    make = partial(make_tiles, options=options, seed=seed)
    return fill_with_shards(folder, n_tiles, seed, make, jobs=jobs, progress=progress)
