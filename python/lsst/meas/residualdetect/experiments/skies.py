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


"""Where the scenes of a comparison come from: simulations, or files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..detection import detect
from ..truth.degradation import Degradation, degraded
from ..truth.known_scenes import KnownScene, read_known_scene
from .populations import population

if TYPE_CHECKING:
    from ..lessons.injected import SourceInjection

__all__ = ["FileSky", "SimulatedSky", "Sky"]


class Sky(Protocol):
    """Scenes with truth, by number."""

    @property
    def name(self) -> str:
        """What tells its results from others."""

    @property
    def n_scenes(self) -> int:
        """How many there are."""

    def facts(self) -> Mapping[str, Any]:
        """All that a scene of a number depends on, as JSON keeps it."""

    def scene(self, number: int) -> KnownScene:
        """One of them, with truth."""


@dataclass(frozen=True)
class SimulatedSky:
    """Fresh simulated scenes.

    Parameters
    ----------
    name : `str`
        One of `POPULATIONS`.
    n_scenes : `int`
        How many.
    seed : `int`
        Scene k depends on this and k only. Scenes of one number show the
        same sky in every population of the same density, so that bands can
        be compared.
    size : `int`
        Side of a scene in pixels.

    Raises
    ------
    ValueError
        Raised if there is no population of that name.
    """

    name: str
    n_scenes: int = 50
    seed: int = 9000
    size: int = 300

    def __post_init__(self) -> None:
        population(self.name, self.size)

    def facts(self) -> Mapping[str, Any]:
        """See `Sky`; more scenes can be had later."""
        return {**asdict(population(self.name, self.size)), "seed": self.seed}

    def scene(self, number: int) -> KnownScene:
        """See `Sky`."""
        from ..simulation import simulate_scene  # which real scenes do without

        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
        name = f"{self.name}-{self.seed}-{number:05d}"
        scene, truth = simulate_scene(population(self.name, self.size), rng, name)
        return KnownScene(scene, detect(scene), truth)


@dataclass(frozen=True)
class FileSky:
    """Scene files with truth tables, or made worse, or added to.

    Parameters
    ----------
    name : `str`
        Name of their results.
    paths : `tuple` [`pathlib.Path`, ...]
        The files.
    pixel_scale_arcsec : `float`, optional
        Side of a pixel, if the files do not say it right.
    degradation : `Degradation`, optional
        How much worse to see them; what they show is the truth then.
    injection : `SourceInjection`, optional
        What to put beside the known sources of the files.
    seed : `int`, optional
        Of the noise, or the sources, that are added.
    engine : `str`, optional
        Deblender that measures what the better images show.
    """

    name: str
    paths: tuple[Path, ...]
    pixel_scale_arcsec: float | None = None
    degradation: Degradation | None = None
    injection: SourceInjection | None = None
    seed: int = 0
    engine: str = "factorized"

    @property
    def n_scenes(self) -> int:
        """How many there are."""
        return len(self.paths)

    def facts(self) -> Mapping[str, Any]:
        """See `Sky`; files are told apart by their content."""
        digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in self.paths))
        facts: dict[str, Any] = {"files": [path.stem for path in self.paths]}
        facts["content"] = digest.hexdigest()[:12]
        facts["pixel_scale_arcsec"] = self.pixel_scale_arcsec
        if self.degradation is not None:
            facts |= {**asdict(self.degradation), "seed": self.seed, "measured_by": self.engine}
        if self.injection is not None:
            facts |= {**asdict(self.injection), "seed": self.seed}
        return facts

    def scene(self, number: int) -> KnownScene:
        """See `Sky`.

        Raises
        ------
        SceneError
            Raised with the file's name if it cannot be read.
        ValueError
            Raised if it has no truth table and is neither made worse nor added
            to, or has no peaks to add to.
        """
        path = self.paths[number]
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
        if self.injection is not None:
            from ..lessons.hosts import read_hosts  # which need what simulations need
            from ..lessons.injected import injected

            (host,) = read_hosts(path.parent, [path.stem], self.pixel_scale_arcsec)
            return injected(host, self.injection, rng)
        known = read_known_scene(path, self.pixel_scale_arcsec)
        if self.degradation is not None:
            return degraded(known, self.degradation, rng, engine=self.engine)
        if known.truth is None:
            raise ValueError(
                f"{path} has no truth table; without one leave sources out, degrade it, or inject some"
            )
        return known
