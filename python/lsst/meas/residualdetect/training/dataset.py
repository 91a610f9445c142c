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

"""From tiles on disk to what Detectron2 trains on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..network.features import CANONICAL_BANDS, FeatureOptions, network_input
from ..network.modeling.config import feature_options
from .folders import train_folders
from .instances import MASK_SIDE
from .shards import Tile, read_shard, shard_paths

__all__ = ["Crop", "TileCrops", "crop_tile", "to_detectron2", "train_loader"]

_SHARDS_AT_ONCE = 4

# What observers have when they do not have everything.
_USUAL_BANDS = ("grizy", "griz", "gri", "riz", "ugriz", "ugri", "izy")


class Crop:
    """A piece of a tile, in its own coordinates: the attributes of a `Tile`,
    with masks unpacked to the size of the crop: (n, y, x), bool.
    """

    def __init__(
        self,
        residual: npt.NDArray[np.float32],
        model: npt.NDArray[np.float32],
        psfs: npt.NDArray[np.float32],
        peaks: npt.NDArray[np.float32],
        instances: npt.NDArray[np.void],
        masks: npt.NDArray[np.bool_],
    ) -> None:
        self.residual, self.model, self.psfs, self.peaks = residual, model, psfs, peaks
        self.instances, self.masks = instances, masks


def _inside(positions: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.bool_]:
    return np.asarray(((positions >= -0.5) & (positions < side - 0.5)).all(axis=1))


def _paste_masks(instances: npt.NDArray[np.void], side: int) -> npt.NDArray[np.bool_]:
    pad = MASK_SIDE
    masks = np.zeros((len(instances), side + 2 * pad, side + 2 * pad), bool)
    for mask, row in zip(masks, instances, strict=True):
        y, x = int(row["mask_y"]) + pad, int(row["mask_x"]) + pad
        bits = np.unpackbits(row["mask"]).reshape(MASK_SIDE, MASK_SIDE)
        mask[y : y + MASK_SIDE, x : x + MASK_SIDE] = bits
    return masks[:, pad:-pad, pad:-pad]


def crop_tile(tile: Tile, top: int, left: int, side: int) -> Crop:
    """Cut a square out of a tile.

    Parameters
    ----------
    tile : `Tile`
        Training example.
    top, left : `int`
        First row and column.
    side : `int`
        Height and width in pixels.

    Returns
    -------
    crop : `Crop`
        With the sources and peaks whose centres lie in it.
    """
    rows, columns = slice(top, top + side), slice(left, left + side)
    peaks = tile.peaks - np.array([top, left], np.float32)
    instances = tile.instances.copy()
    for name, shift in (("y", top), ("x", left), ("mask_y", top), ("mask_x", left)):
        instances[name] -= shift
    instances = instances[_inside(np.stack([instances["y"], instances["x"]], axis=1), side)]
    return Crop(
        tile.residual[:, rows, columns].astype(np.float32),
        tile.model[:, rows, columns].astype(np.float32),
        tile.psfs,
        peaks[_inside(peaks, side)],
        instances,
        _paste_masks(instances, side),
    )


def _turn(crop: Crop, quarter_turns: int, flip: bool) -> None:
    """Turn and mirror a crop in place."""
    side = crop.residual.shape[-1]
    for name in ("residual", "model", "psfs", "masks"):
        turned = np.rot90(getattr(crop, name), quarter_turns, axes=(1, 2))
        setattr(crop, name, turned[:, :, ::-1] if flip else turned)
    places = [(crop.instances["y"], crop.instances["x"]), (crop.peaks[:, 0], crop.peaks[:, 1])]
    for y, x in places:
        for _ in range(quarter_turns):  # as np.rot90: (y, x) goes to (side - 1 - x, y)
            y[:], x[:] = side - 1 - x, y.copy()
        if flip:
            x[:] = side - 1 - x


def _add_noise(crop: Crop, sigma: float, rng: np.random.Generator) -> None:
    """Noise as in a shorter exposure, so that sources are fainter beside it."""
    noise = rng.standard_normal(crop.residual.shape, dtype=np.float32)
    scale = np.float32(1 / np.hypot(1, sigma))
    seen = crop.residual != 0
    crop.residual = np.where(seen, (crop.residual + np.float32(sigma) * noise) * scale, 0)
    crop.model = crop.model * scale
    crop.instances["snr"] *= scale


def _drop_bands(crop: Crop, rng: np.random.Generator) -> None:
    kept = str(rng.choice(_USUAL_BANDS))
    gone = [place for place, band in enumerate(CANONICAL_BANDS) if band not in kept]
    if crop.model.any(axis=(1, 2)).sum() - len(gone) < 2:
        return
    for planes in (crop.residual, crop.model):
        planes[gone] = 0


def to_detectron2(
    crop: Crop, options: FeatureOptions, min_snr: float, corner: Sequence[int] = (0, 0)
) -> dict[str, Any]:
    """A crop as Detectron2's models take it.

    Parameters
    ----------
    crop : `Crop`
        Piece of a tile.
    options : `FeatureOptions`
        Scaling of the channels.
    min_snr : `float`
        Fainter sources, which count neither way in the evaluation either, are
        neither sources nor background.
    corner : `~collections.abc.Sequence` [`int`], optional
        See `network_input`.

    Returns
    -------
    example : `dict`
        ``image``: float32 (channel, y, x); ``instances``: boxes, classes (0,
        or -1 for what is neither) and masks. Boxes are in Detectron2's coordinates, where a pixel
        begins, not lies, at its index.
    """
    image = network_input(crop.residual, crop.model, crop.peaks, options, crop.psfs, corner)
    rows = crop.instances
    instances = Instances(image.shape[1:])
    centre = np.stack([rows["x"], rows["y"]], axis=1) + 0.5
    half = rows["half_size"][:, None]
    instances.gt_boxes = Boxes(torch.from_numpy(np.concatenate([centre - half, centre + half], axis=1)))
    instances.gt_classes = torch.from_numpy(np.where(rows["snr"] >= min_snr, 0, -1))
    instances.gt_masks = BitMasks(torch.from_numpy(np.ascontiguousarray(crop.masks)))
    return {
        "image": torch.from_numpy(image),
        "instances": instances,
        "height": image.shape[1],
        "width": image.shape[2],
    }


class TileCrops(IterableDataset):  # type: ignore[type-arg]
    """Endless random crops of the tiles of some folders.

    A few shards are read at a time and their crops mixed, so that sets larger
    than the memory can be trained on. Shards that appear later are taken in
    with the next round. Of several folders each gives its share of the crops,
    whatever the number of its tiles.

    Parameters
    ----------
    folders : `~collections.abc.Mapping` [`pathlib.Path`, `float`]
        Folders of training tiles, and the weight of each.
    cfg : `detectron2.config.CfgNode`
        ``TILES`` and ``FEATURES``.
    seed : `int`
        Random seed; each worker process has its own stream.
    rank, n_ranks : `int`, optional
        This process among those that train together.
    """

    def __init__(
        self, folders: Mapping[Path, float], cfg: CfgNode, seed: int, rank: int = 0, n_ranks: int = 1
    ) -> None:
        self.folders = dict(folders)
        self.tiles = cfg.TILES
        self.features = feature_options(cfg)
        self.seed, self.rank, self.n_ranks = seed, rank, n_ranks
        for folder in self.folders:
            shard_paths(folder)  # complains if there is none

    def _example(self, tile: Tile, rng: np.random.Generator) -> dict[str, Any]:
        side = min(self.tiles.CROP, *tile.residual.shape[1:])
        top, left = (int(rng.integers(size - side + 1)) for size in tile.residual.shape[1:])
        crop = crop_tile(tile, top, left, side)
        if rng.random() < self.tiles.NOISE:
            _add_noise(crop, float(rng.uniform(0, 0.8)), rng)
        if rng.random() < self.tiles.DROP_BANDS:
            _drop_bands(crop, rng)
        _turn(crop, int(rng.integers(4)), bool(rng.integers(2)))
        # Elsewhere each time, or the noise would be known by heart.
        corner = rng.integers(4096, size=2).tolist()
        return to_detectron2(crop, self.features, self.tiles.MIN_SNR, corner)

    def _of_folder(
        self, folder: Path, stream: int, n_streams: int, rng: np.random.Generator
    ) -> Iterator[dict[str, Any]]:
        while True:
            paths = shard_paths(folder)
            own = rng.permutation(np.array(paths[stream % len(paths) :: n_streams], dtype=object))
            for first in range(0, len(own), _SHARDS_AT_ONCE):
                tiles = [tile for path in own[first : first + _SHARDS_AT_ONCE] for tile in read_shard(path)]
                for number in rng.permutation(np.repeat(np.arange(len(tiles)), self.tiles.CROPS_PER_TILE)):
                    yield self._example(tiles[number], rng)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        n_streams = self.n_ranks * (info.num_workers if info else 1)
        stream = self.rank * (info.num_workers if info else 1) + (info.id if info else 0)
        rng = np.random.default_rng([self.seed, stream])
        crops = [self._of_folder(folder, stream, n_streams, rng) for folder in self.folders]
        weights = np.array(list(self.folders.values()))
        while True:
            yield next(crops[int(rng.choice(len(crops), p=weights / weights.sum()))])


def _as_list(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch


def train_loader(cfg: CfgNode, seed: int, rank: int, n_ranks: int) -> DataLoader[Any]:
    """Endless batches of ``SOLVER.IMS_PER_BATCH`` crops over all processes."""
    return DataLoader(
        TileCrops(train_folders(cfg), cfg, seed, rank, n_ranks),
        batch_size=max(cfg.SOLVER.IMS_PER_BATCH // n_ranks, 1),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
    )
