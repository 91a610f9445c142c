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
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np

from ..boxes import Box, box_at, shape_of
from ..deblend import check_engine, deblend_scenes
from ..detections import positions_of
from ..lessons.hosts import Host, read_hosts
from ..lessons.lesson import Lesson, LessonOptions, draw_lesson
from ..network.features import CANONICAL_BANDS, in_noise_units
from ..network.significance import matched_psfs
from ..scene_model import SceneModel
from .generate import MIN_SNR
from .instances import find_instances
from .shards import Tile, fill_with_shards

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


@dataclass(frozen=True, eq=False)
class _Piece:
    """A window of a blend, and where on the tile its first pixel goes."""

    lesson: Lesson
    corner: tuple[int, int]
    window: Box


def _in_tile(piece: _Piece) -> tuple[np.ndarray, np.ndarray]:
    """Peaks and instances of a piece, on the tile."""
    lesson, (rows, columns) = piece.lesson, piece.window
    shift = np.array(piece.corner) - (rows.start, columns.start)
    wanted = np.flatnonzero(lesson.snr >= MIN_SNR)
    instances = find_instances(lesson.scene, lesson.positions, lesson.snr, lesson.stamps, wanted)
    peaks = positions_of(lesson.detections.peaks)

    def inside(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)

    instances = instances[inside(instances["y"], instances["x"])]
    for axis, names in enumerate((("y", "mask_y"), ("x", "mask_x"))):
        for name in names:
            instances[name] += shift[axis]
    return (peaks[inside(*peaks.T)] + shift).astype(np.float32), instances


def _put_together(name: str, pieces: Sequence[_Piece], models: Sequence[SceneModel], size: int) -> Tile:
    """A tile of deblended pieces."""
    bands = {band for piece in pieces for band in piece.lesson.scene.bands}
    residual, summed = np.zeros((2, len(CANONICAL_BANDS), size, size), np.float16)
    for piece, model in zip(pieces, models, strict=True):
        scene = piece.lesson.scene
        place = box_at(piece.corner, shape_of(piece.window))
        for tile, pixels in zip((residual, summed), in_noise_units(scene, model.image(scene)), strict=True):
            tile[:, *place] = pixels[:, *piece.window]
    psfs = [matched_psfs(p.lesson.scene.psfs, p.lesson.scene.bands, CANONICAL_BANDS) for p in pieces]
    peaks, instances = zip(*map(_in_tile, pieces), strict=True)
    return Tile(
        name=name,
        residual=residual,
        model=summed,
        has_band=np.array([band in bands for band in CANONICAL_BANDS]),
        psfs=np.mean(psfs, axis=0).astype(np.float32),
        peaks=np.concatenate(peaks),
        instances=np.concatenate(instances),
    )


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
    tiles = []
    for number in numbers:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        engine = str(rng.choice(options.engines))
        pieces = []
        for which, top, left in _pack(shapes, options.size, rng):
            starts = [int(rng.integers(max(side - options.size, 0) + 1)) for side in shapes[which]]
            window = box_at(starts, [min(side, options.size) for side in shapes[which]])
            others = [host for place, host in enumerate(hosts) if place != which]
            lesson = draw_lesson(hosts[which], others, options.lessons, rng)
            pieces.append(_Piece(lesson, (top, left), window))
        models = deblend_scenes(
            [(p.lesson.scene, p.lesson.detections.parents) for p in pieces], engine=engine
        )
        tiles.append(_put_together(f"{seed}-{number:06d}", pieces, models, options.size))
    return tiles


@cache
def _hosts(options: HostTileOptions) -> list[Host]:
    """Read once in each process."""
    return read_hosts(options.folder, options.names, options.pixel_scale_arcsec)


def _make(numbers: Sequence[int], options: HostTileOptions, seed: int) -> list[Tile]:
    return make_host_tiles(numbers, _hosts(options), options, seed)


def generate_host_tiles(
    folder: Path,
    n_tiles: int,
    options: HostTileOptions,
    seed: int,
    *,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Fill a folder with training tiles of real blends; see
    `~lsst.meas.residualdetect.training.shards.fill_with_shards`.

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
    make = partial(_make, options=options, seed=seed)
    return fill_with_shards(folder, n_tiles, seed, make, jobs=jobs, progress=progress)
