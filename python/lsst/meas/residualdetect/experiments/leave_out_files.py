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


"""Known peaks of scene files withheld, by several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from astropy.table import vstack

from ..find_missing import FindMissingOptions
from ..threads import in_processes
from ..truth.known_scenes import read_known_scene
from .leave_out import LeftOut, leave_out
from .peers import load_peers, load_peers_once

__all__ = ["leave_out_files"]

# Scenes deblended together: small ones go faster so.
_FILES_AT_ONCE = 8


def _run_files(
    paths: Sequence[Path],
    detectors: tuple[str, ...],
    models: tuple[str, ...],
    options: tuple[str, ...],
    pixel_scale_arcsec: float | None,
    seed: tuple[int, int],
    search: FindMissingOptions,
) -> list[LeftOut]:
    rng = np.random.default_rng(np.random.SeedSequence(seed[0], spawn_key=(seed[1],)))
    scenes = [read_known_scene(path, pixel_scale_arcsec) for path in paths]
    return leave_out(scenes, load_peers_once(detectors, models, options), rng, search=search)


def leave_out_files(
    paths: Sequence[Path],
    detectors: Sequence[str],
    *,
    models: Sequence[str] = (),
    detector_options: Sequence[str] = (),
    pixel_scale_arcsec: float | None = None,
    search: FindMissingOptions = FindMissingOptions(),
    seed: int = 0,
    jobs: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[LeftOut]:
    """Withhold every known peak of scene files once; see `leave_out`.

    Parameters
    ----------
    paths : `~collections.abc.Sequence` [`pathlib.Path`]
        Scene files.
    detectors : `~collections.abc.Sequence` [`str`]
        Names of detectors.
    models : `~collections.abc.Sequence` [`str`], optional
        Model packages; those that need one run each of them.
    detector_options : `~collections.abc.Sequence` [`str`], optional
        Options of detectors; see `load_peers`.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel, if the files do not say it right.
    search : `FindMissingOptions`, optional
        How candidates become peaks, and how sources are deblended.
    seed : `int`, optional
        Random seed: decides which peaks are withheld together.
    jobs : `int`
        Number of processes.
    progress : `~collections.abc.Callable`, optional
        Called with the number of scenes just finished.

    Returns
    -------
    left_out : `list` [`LeftOut`]
        One for each detector, over all scenes.

    Raises
    ------
    SceneError
        Raised with the file's name if one cannot be read.
    """
    n_peers = len(load_peers(detectors, models, detector_options))
    starts = range(0, len(paths), _FILES_AT_ONCE)
    pieces = [
        (
            paths[first : first + _FILES_AT_ONCE],
            tuple(detectors),
            tuple(models),
            tuple(detector_options),
            pixel_scale_arcsec,
            (seed, number),
            search,
        )
        for number, first in enumerate(starts)
    ]
    done: dict[int, list[LeftOut]] = {}
    for number, left_out in in_processes(_run_files, pieces, min(jobs, len(pieces))):
        done[number] = left_out
        progress(len(pieces[number][0]))
    return [_pooled([done[number][place] for number in range(len(pieces))]) for place in range(n_peers)]


def _pooled(parts: Sequence[LeftOut]) -> LeftOut:
    return LeftOut(
        parts[0].detector,
        parts[0].threshold,
        vstack([part.withheld for part in parts]),
        vstack([part.extra for part in parts]),
        {name: n for part in parts for name, n in part.n_known.items()},
        tuple(close_up for part in parts for close_up in part.close_ups),
    )
