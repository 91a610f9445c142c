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

"""Training tiles on disk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..io.whole_file import whole_file
from ..threads import in_processes
from .instances import INSTANCE_DTYPE

__all__ = ["Shard", "Tile", "fill_with_shards", "read_shard", "shard_paths", "write_shard"]

_TILES_PER_SHARD = 16

_ARRAYS = ("residual", "model", "has_band", "psfs", "peaks", "instances", "names")


@dataclass(frozen=True, eq=False)
class Tile:
    """One training example.

    Parameters
    ----------
    name : `str`
        Scene it comes from.
    residual, model : `numpy.ndarray`, (6, y, x), float16
        Residual and model in units of the noise of each pixel, in ugrizy;
        0 in bands that are not there and at bad pixels.
    has_band : `numpy.ndarray`, (6,), bool
        Bands that are there.
    psfs : `numpy.ndarray`, (6, h, w), float32
        PSFs that the deblender was given; see `matched_psfs`.
    peaks : `numpy.ndarray`, (n, 2), float32
        Positions (y, x) that the deblender was told of.
    instances : `numpy.ndarray`, (m,), structured
        What the model lacks; see `find_instances`.
    """

    name: str
    residual: npt.NDArray[np.float16]
    model: npt.NDArray[np.float16]
    has_band: npt.NDArray[np.bool_]
    psfs: npt.NDArray[np.float32]
    peaks: npt.NDArray[np.float32]
    instances: npt.NDArray[np.void]


Shard = Sequence[Tile]


def shard_paths(folder: Path) -> list[Path]:
    """Shards of a training set, in order of their number.

    Raises
    ------
    FileNotFoundError
        Raised if there is none.
    """
    paths = sorted(folder.glob("shard-*.npz"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no training tiles (shard-*.npz)")
    return paths


def write_shard(path: Path, tiles: Shard) -> None:
    """Write tiles of one size into a file that appears whole or not at all."""
    instances = [tile.instances.copy() for tile in tiles]
    peaks = [np.column_stack([np.full(len(tile.peaks), n), tile.peaks]) for n, tile in enumerate(tiles)]
    for number, rows in enumerate(instances):
        rows["tile"] = number
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            residual=np.stack([tile.residual for tile in tiles]),
            model=np.stack([tile.model for tile in tiles]),
            has_band=np.stack([tile.has_band for tile in tiles]),
            psfs=np.stack([tile.psfs for tile in tiles]),
            peaks=np.concatenate(peaks).astype(np.float32),
            instances=np.concatenate(instances),
            names=np.array([tile.name for tile in tiles]),
        )


def read_shard(path: Path) -> Shard:
    """Read the tiles of a file.

    Raises
    ------
    ValueError
        Raised with the file's name if it is not a shard, or a broken one.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in _ARRAYS if name not in stored.files]
            if missing:
                raise ValueError(f"lacks {missing}")
            arrays = {name: stored[name] for name in _ARRAYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no shard of training tiles: {error}") from error
    if arrays["instances"].dtype != INSTANCE_DTYPE:
        raise ValueError(f"{path}: shard of another version of this package; simulate it again")
    peaks, instances = arrays["peaks"], arrays["instances"]
    return [
        Tile(
            name=str(name),
            residual=arrays["residual"][number],
            model=arrays["model"][number],
            has_band=arrays["has_band"][number],
            psfs=arrays["psfs"][number],
            peaks=peaks[peaks[:, 0] == number, 1:],
            instances=instances[instances["tile"] == number],
        )
        for number, name in enumerate(arrays["names"])
    ]


def _make_shard(path: Path, make: Callable[[Sequence[int]], Shard], numbers: range) -> None:
    write_shard(path, make(numbers))


def fill_with_shards(
    folder: Path,
    n_tiles: int,
    seed: int,
    make: Callable[[Sequence[int]], Shard],
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
    seed : `int`
        Random seed of the tiles, by which shards are told.
    make : `~collections.abc.Callable`
        Makes the tiles of some numbers; of a module, so that it can be sent.
    jobs : `int`
        Number of processes.
    progress : `~collections.abc.Callable`, optional
        Called with the number of tiles just finished, or found finished.

    Returns
    -------
    n_made : `int`
        Number of tiles made now.
    """
    all_numbers = range(n_tiles)
    shards = {
        folder / f"shard-{seed}-{first // _TILES_PER_SHARD:05d}.npz": all_numbers[
            first : first + _TILES_PER_SHARD
        ]
        for first in all_numbers[::_TILES_PER_SHARD]
    }
    missing = [(path, make, numbers) for path, numbers in shards.items() if not path.exists()]
    n_made = sum(len(numbers) for _, _, numbers in missing)
    progress(n_tiles - n_made)
    for number, _ in in_processes(_make_shard, missing, jobs):
        progress(len(missing[number][2]))
    return n_made
