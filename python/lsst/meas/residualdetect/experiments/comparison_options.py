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

"""What to compare, and whose results a folder holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..find_missing import FindMissingOptions
from ..io.whole_file import write_whole
from ..network.package import load_package
from ..release import __version__
from ..truth.evaluation import EvaluationOptions
from .peers import peer_labels
from .skies import Sky

__all__ = ["ComparisonOptions", "claim_folder"]

_OPTIONS_FILE = "options.json"
_VERSION = "version of this package"


@dataclass(frozen=True)
class ComparisonOptions:
    """What to compare on what.

    Parameters
    ----------
    skies : `tuple` [`Sky`, ...]
        Where scenes come from; of different names.
    detectors : `tuple` [`str`, ...]
        Some of `peer_names`.
    models : `tuple` [`str`, ...]
        Model packages; those detectors that need one run each of them.
    n_iterations : `int`
        How often to look and deblend again.
    search : `FindMissingOptions`
        How candidates become peaks, and how sources are deblended.
    limits : `EvaluationOptions`
        What counts.
    detector_options : `tuple` [`str`, ...]
        Options of detectors; see `load_peers`.
    """

    skies: tuple[Sky, ...]
    detectors: tuple[str, ...]
    models: tuple[str, ...] = ()
    n_iterations: int = 1
    search: FindMissingOptions = FindMissingOptions()
    limits: EvaluationOptions = EvaluationOptions()
    detector_options: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What the results of each detector are called; see `peer_labels`."""
        return tuple(peer_labels(self.detectors, self.models))


def _model_facts(options: ComparisonOptions) -> dict[str, str]:
    """The content of the model packages, by what is called after them:
    networks of one name come and go.
    """
    facts = {}
    for label, (name, model) in peer_labels(options.detectors, options.models).items():
        if model:
            package = load_package(model)
            about = ("folder", "name", "training", "results")
            content = {key: value for key, value in asdict(package).items() if key not in about}
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            key = "model" if label == name else f"{label}.model"
            facts[key] = f"{package.name} {digest[:12]}"
    return facts


def _facts(options: ComparisonOptions) -> dict[str, Any]:
    """What the outcome of a scene depends on, as JSON keeps it."""
    facts: dict[str, Any] = {_VERSION: __version__, "n_iterations": options.n_iterations}
    facts |= _model_facts(options)
    for name in options.detectors:
        facts[f"{name}.options"] = sorted(t for t in options.detector_options if t.startswith(f"{name}."))
    kinds: dict[str, Any] = {sky.name: sky.facts() for sky in options.skies}
    kinds |= {"evaluation": asdict(options.limits), "search": asdict(options.search)}
    for name, kind in kinds.items():
        facts |= {f"{name}.{key}": value for key, value in kind.items()}
    return json.loads(json.dumps(facts))


def claim_folder(folder: Path, options: ComparisonOptions) -> None:
    """Note in a folder how its results are made; refuse one whose results
    were made in another way.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the results are to be; made if it is not there. May hold scenes,
        skies and detectors that the options do not name.
    options : `ComparisonOptions`
        How they are to be made.

    Raises
    ------
    ValueError
        Raised if the folder's ``options.json`` says otherwise.
    """
    path, facts = folder / _OPTIONS_FILE, _facts(options)
    found = {_VERSION: "unknown", **json.loads(path.read_text())} if path.exists() else {}
    different = sorted(key for key in facts.keys() & found.keys() if found[key] != facts[key])
    if different:
        raise ValueError(
            f"{folder} holds results with "
            + ", ".join(f"{key} {found[key]!r} (now {facts[key]!r})" for key in different)
            + "; choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({**found, **facts}, indent=2) + "\n")
