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

"""Starting from a network that has been trained already."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

__all__ = ["load_weights", "widened"]

_log = logging.getLogger(__name__)


def widened(weights: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Kernels of a convolution for more input channels.

    Parameters
    ----------
    weights : `torch.Tensor`, (out, in, h, w)
        Kernels as they were trained.
    like : `torch.Tensor`, (out, more, h, w)
        Kernels of the shape wanted.

    Returns
    -------
    weights : `torch.Tensor`, (out, more, h, w)
        The same, and 0 for the channels that come after: the answer does not
        depend on these until training makes it.

    Raises
    ------
    ValueError
        Raised if the shapes differ in anything else.
    """
    same = weights.ndim == like.ndim == 4 and (len(weights), *weights.shape[2:]) == (
        len(like),
        *like.shape[2:],
    )
    if not same or weights.shape[1] > like.shape[1]:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} cannot be widened to {tuple(like.shape)}; "
            "only input channels can be added"
        )
    wide = torch.zeros_like(like)
    wide[:, : weights.shape[1]] = weights
    return wide


def load_weights(network: Any, path: Path) -> None:
    """Give a network the weights of another, which may see fewer channels.

    Parameters
    ----------
    network : `torch.nn.Module`
        Network; changed in place.
    path : `pathlib.Path`
        ``weights.safetensors`` of a model package.

    Raises
    ------
    ValueError
        Raised with the file's name if it is of a network of another kind.
    """
    own: Mapping[str, torch.Tensor] = network.state_dict()
    given = load_file(path)
    if given.keys() != own.keys():
        different = sorted(given.keys() ^ own.keys())
        raise ValueError(
            f"{path} holds another network: {len(different)} names differ, such as {different[0]}"
        )
    first = "backbone.bottom_up.stem.conv1.weight"
    if given[first].shape != own[first].shape:
        try:
            given[first] = widened(given[first], own[first])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        _log.info("%s: channels were added, which count for nothing yet", path)
    try:
        network.load_state_dict(given)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error
    _log.info("started from the weights in %s", path)
