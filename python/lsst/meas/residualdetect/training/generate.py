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

from collections.abc import Callable
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np

from ..deblend import check_engine, deblend_scenes
from ..detection import detect, detections_at
from ..detections import Detections, positions_of
from ..network.features import CANONICAL_BANDS, in_noise_units
from ..network.significance import matched_psfs
from ..scene import Scene
from ..simulation.simulate import simulate_with_stamps
from ..threads import worker_processes
from ..truth.evaluation import EvaluationOptions
from .artefacts import add_artefacts
from .flaws import mask_pixels, with_wrong_psfs
from .instances import find_instances, undetected
from .shards import Tile, write_shard
from .variation import TileOptions, draw_variation

__all__ = ["TILES_PER_SHARD", "generate_tiles", "make_tiles"]

TILES_PER_SHARD = 16

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


def make_tiles(numbers: list[int], options: TileOptions, seed: int) -> list[Tile]:
    """Make training tiles.

    Parameters
    ----------
    numbers : `list` [`int`]
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
    drawn = []
    for number in numbers:
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
        detections = _forget(scene, detect(scene), variation.forgotten, rng)
        left = undetected(scene, detections, positions, truth["snr"], min_snr=_TOLD_SNR)
        detections = _tell(scene, detections, positions[left], variation.told, rng)
        left = undetected(scene, detections, positions, truth["snr"], min_snr=MIN_SNR)
        instances = find_instances(scene, positions, truth["snr"], stamps, left)
        drawn.append((variation.engine, scene, detections, instances))

    tiles: dict[int, Tile] = {}
    for engine in sorted({item[0] for item in drawn}):
        own = [index for index, item in enumerate(drawn) if item[0] == engine]
        models = deblend_scenes([(drawn[i][1], drawn[i][2].parents) for i in own], engine=engine)
        for index, model in zip(own, models, strict=True):
            _, scene, detections, instances = drawn[index]
            residual, summed = in_noise_units(scene, model.image(scene))
            tiles[index] = Tile(
                name=scene.name,
                residual=residual.astype(np.float16),
                model=summed.astype(np.float16),
                has_band=np.array([band in scene.bands for band in CANONICAL_BANDS]),
                psfs=matched_psfs(scene.psfs, scene.bands, CANONICAL_BANDS),
                peaks=np.array([(p.y, p.x) for p in detections.peaks], np.float32).reshape(-1, 2),
                instances=instances,
            )
    return [tiles[index] for index in range(len(drawn))]


def _make_shard(folder: Path, shard: int, n_tiles: int, options: TileOptions, seed: int) -> int:
    first = shard * TILES_PER_SHARD
    numbers = list(range(first, min(first + TILES_PER_SHARD, n_tiles)))
    write_shard(shard_path(folder, seed, shard), make_tiles(numbers, options, seed))
    return len(numbers)


def shard_path(folder: Path, seed: int, shard: int) -> Path:
    """Where a shard is kept."""
    return folder / f"shard-{seed}-{shard:05d}.npz"


def generate_tiles(
    folder: Path,
    n_tiles: int,
    options: TileOptions,
    seed: int,
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Fill a folder with training tiles, on several cores.

    Shards that are there already are left as they are, so a run that was cut
    off goes on where it was.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where to write.
    n_tiles : `int`
        How many tiles there are to be.
    options : `TileOptions`
        What to draw from.
    seed : `int`
        Random seed.
    jobs : `int`
        Number of processes.
    progress : `~collections.abc.Callable`, optional
        Called with the number of tiles just finished, or found finished.

    Returns
    -------
    n_made : `int`
        Number of tiles made now.

    Raises
    ------
    lsst.meas.residualdetect.deblend.DeblendError
        Raised if a deblender cannot be used here.
    """
    for engine in options.engines:
        check_engine(engine)
    shards = range(-(-n_tiles // TILES_PER_SHARD))
    missing = [shard for shard in shards if not shard_path(folder, seed, shard).exists()]
    progress(n_tiles - sum(min(TILES_PER_SHARD, n_tiles - s * TILES_PER_SHARD) for s in missing))
    n_made = 0
    with worker_processes(jobs) as executor:
        futures = [executor.submit(_make_shard, folder, s, n_tiles, options, seed) for s in missing]
        for future in as_completed(futures):
            n_made += future.result()
            progress(future.result())
    return n_made
