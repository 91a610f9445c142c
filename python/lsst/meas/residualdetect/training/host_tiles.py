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

"""Training tiles of real blends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..deblend import check_engine, deblend_scenes
from ..network.features import CANONICAL_BANDS, in_noise_units
from ..network.significance import matched_psfs
from ..threads import worker_processes
from .generate import MIN_SNR, TILES_PER_SHARD, shard_path
from .hosts import Host, read_hosts
from .instances import INSTANCE_DTYPE, find_instances
from .lessons import Lesson, LessonOptions, draw_lesson
from .shards import Tile, write_shard

__all__ = ["HostTileOptions", "generate_host_tiles", "make_host_tiles"]


@dataclass(frozen=True)
class HostTileOptions:
    """What tiles of real blends are made of.

    Parameters
    ----------
    folder : `pathlib.Path`
        Scene files of blends.
    names : `tuple` [`str`, ...]
        Which of them.
    pixel_scale_arcsec : `float`
        Side of their pixels.
    size : `int`
        Side of a tile in pixels.
    engines : `tuple` [`str`, ...]
        Deblenders to draw from, alike often.
    lessons : `LessonOptions`
        What is done to a blend.
    """

    folder: Path
    names: tuple[str, ...]
    pixel_scale_arcsec: float = 0.168
    size: int = 256
    engines: tuple[str, ...] = ("factorized",)
    lessons: LessonOptions = field(default_factory=LessonOptions)

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ValueError(f"size is {self.size} pixels; expected at least 64")
        if not self.names or not self.engines:
            raise ValueError("no blends or no deblenders are named; expected at least one of each")


def _pack(
    shapes: Sequence[tuple[int, int]], size: int, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Blends drawn at random, with repetition, that fill a square in rows:
    number, first row and first column of each. Those larger than the square
    start in its corner and fill it.
    """
    placed: list[tuple[int, int, int]] = []
    top = left = height = misses = 0
    while misses < 30:
        number = int(rng.integers(len(shapes)))
        rows, columns = (min(side, size) for side in shapes[number])
        if left + columns <= size and top + rows <= size:
            placed.append((number, top, left))
            left, height = left + columns, max(height, rows)
        elif top + height + rows <= size and height:
            top, left, height = top + height, columns, rows
            placed.append((number, top, 0))
        else:
            misses += 1
    return placed


def _add(
    tile: Tile, lesson: Lesson, model: np.ndarray, corner: tuple[int, int], window: tuple[slice, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Put a window of a deblended blend on a tile; gives its peaks and
    instances there.
    """
    residual, summed = in_noise_units(lesson.scene, model)
    rows, columns = window
    height, width = rows.stop - rows.start, columns.stop - columns.start
    place = (slice(None), slice(corner[0], corner[0] + height), slice(corner[1], corner[1] + width))
    tile.residual[place] = residual[:, rows, columns]
    tile.model[place] = summed[:, rows, columns]
    shift = np.array(corner) - (rows.start, columns.start)
    wanted = np.flatnonzero(lesson.snr >= MIN_SNR)
    instances = find_instances(lesson.scene, lesson.positions, lesson.snr, lesson.stamps, wanted)
    peaks = np.array([(p.y, p.x) for p in lesson.detections.peaks], np.float64).reshape(-1, 2)

    def inside(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)

    instances = instances[inside(instances["y"], instances["x"])]
    for axis, names in enumerate((("y", "mask_y"), ("x", "mask_x"))):
        for name in names:
            instances[name] += shift[axis]
    return peaks[inside(*peaks.T)] + shift, instances


def make_host_tiles(
    numbers: Sequence[int], hosts: Sequence[Host], options: HostTileOptions, seed: int
) -> list[Tile]:
    """Make training tiles, each a patchwork of real blends.

    Parameters
    ----------
    numbers : `~collections.abc.Sequence` [`int`]
        Numbers of the tiles; each depends on its number, the blends, the
        options and the seed only.
    hosts : `~collections.abc.Sequence` [`Host`]
        Blends.
    options : `HostTileOptions`
        What to make of them.
    seed : `int`
        Random seed.

    Returns
    -------
    tiles : `list` [`Tile`]
        One for each number. Pixels between the blends are masked. The PSFs
        are the mean of those of the blends, which are a few per cent apart
        as those of a patch are.
    """
    shapes = [host.scene.shape for host in hosts]
    drawn: list[tuple[str, list[tuple[Lesson, tuple[int, int], tuple[slice, slice]]]]] = []
    for number in numbers:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        engine = str(rng.choice(options.engines))
        pieces = []
        for which, top, left in _pack(shapes, options.size, rng):
            starts = [int(rng.integers(max(side - options.size, 0) + 1)) for side in shapes[which]]
            rows, columns = (
                slice(start, start + min(side, options.size))
                for start, side in zip(starts, shapes[which], strict=True)
            )
            others = [host for place, host in enumerate(hosts) if place != which]
            lesson = draw_lesson(hosts[which], others, options.lessons, rng)
            pieces.append((lesson, (top, left), (rows, columns)))
        drawn.append((engine, pieces))

    tiles = []
    for number, (engine, pieces) in zip(numbers, drawn, strict=True):
        models = deblend_scenes([(p[0].scene, p[0].detections.parents) for p in pieces], engine=engine)
        psfs = np.mean(
            [matched_psfs(p[0].scene.psfs, p[0].scene.bands, CANONICAL_BANDS) for p in pieces], axis=0
        )
        bands = {band for piece in pieces for band in piece[0].scene.bands}
        shape = (len(CANONICAL_BANDS), options.size, options.size)
        tile = Tile(
            name=f"{seed}-{number:06d}",
            residual=np.zeros(shape, np.float16),
            model=np.zeros(shape, np.float16),
            has_band=np.array([band in bands for band in CANONICAL_BANDS]),
            psfs=psfs.astype(np.float32),
            peaks=np.zeros((0, 2), np.float32),
            instances=np.zeros(0, INSTANCE_DTYPE),
        )
        added = [
            _add(tile, lesson, model.image(lesson.scene), corner, window)
            for (lesson, corner, window), model in zip(pieces, models, strict=True)
        ]
        object.__setattr__(tile, "peaks", np.concatenate([peaks for peaks, _ in added]).astype(np.float32))
        object.__setattr__(tile, "instances", np.concatenate([rows for _, rows in added]))
        tiles.append(tile)
    return tiles


_worker_hosts: list[Host] = []


def _start_worker(options: HostTileOptions) -> None:
    _worker_hosts[:] = read_hosts(options.folder, options.names, options.pixel_scale_arcsec)


def _make_shard(folder: Path, shard: int, n_tiles: int, options: HostTileOptions, seed: int) -> int:
    first = shard * TILES_PER_SHARD
    numbers = range(first, min(first + TILES_PER_SHARD, n_tiles))
    write_shard(shard_path(folder, seed, shard), make_host_tiles(numbers, _worker_hosts, options, seed))
    return len(numbers)


def generate_host_tiles(
    folder: Path,
    n_tiles: int,
    options: HostTileOptions,
    seed: int,
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Fill a folder with training tiles of real blends; see `generate_tiles`
    for the parameters and what is given back.

    Raises
    ------
    FileNotFoundError
        Raised if blends are missing.
    lsst.meas.residualdetect.deblend.DeblendError
        Raised if a deblender cannot be used here.
    """
    for engine in options.engines:
        check_engine(engine)
    read_hosts(options.folder, (), options.pixel_scale_arcsec)  # complains before work is done
    missing = [
        shard
        for shard in range(-(-n_tiles // TILES_PER_SHARD))
        if not shard_path(folder, seed, shard).exists()
    ]
    progress(n_tiles - sum(min(TILES_PER_SHARD, n_tiles - s * TILES_PER_SHARD) for s in missing))
    n_made = 0
    with worker_processes(jobs, _start_worker, (options,)) as executor:
        futures = [executor.submit(_make_shard, folder, s, n_tiles, options, seed) for s in missing]
        for future in as_completed(futures):
            n_made += future.result()
            progress(future.result())
    return n_made
