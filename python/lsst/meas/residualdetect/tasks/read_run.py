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

"""Reading back what a run wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from astropy.table import Table

from lsst.daf.butler import Butler, MissingCollectionError, MissingDatasetTypeError
from lsst.pipe.base import TaskMetadata

from ..butler import image_form_of, load_images
from ..butler.images.stack import stack_bands
from ..truth import EvaluatedPatch, Evaluation, EvaluationOptions, PatchResult

__all__ = ["RunError", "last_iteration", "n_finished", "read_patches", "run_detector", "task_usage"]


class RunError(ValueError):
    """A collection that does not hold what a run of the pipeline writes."""


def _refs(butler: Butler, name: str, collection: str) -> list[Any]:
    try:
        return sorted(butler.query_datasets(name, collection, explain=False))
    except MissingDatasetTypeError:
        return []
    except MissingCollectionError as error:
        raise RunError(f"no collection {collection!r} in the repository") from error


def last_iteration(butler: Butler, collection: str) -> str:
    """Suffix of the data sets of the last iteration in a collection.

    Raises
    ------
    RunError
        Raised if it holds no evaluation.
    """
    prefix = "evaluation_parents"
    suffixes = {
        dataset_type.name.removeprefix(prefix)
        for dataset_type in butler.registry.queryDatasetTypes(f"{prefix}*")
    }
    written = [suffix for suffix in suffixes if _refs(butler, prefix + suffix, collection)]
    if not written:
        raise RunError(
            f"collection {collection!r} holds no evaluation: evaluate was not run, or every patch was skipped"
        )
    # _residual, _residual2, ..., _residual10
    return max(written, key=lambda suffix: (len(suffix), suffix))


def _read_result(butler: Butler, collection: str, suffix: str, where: Any) -> PatchResult:
    model = butler.get(f"object_scarlet_models{suffix}", where, collections=collection)
    coadds = {
        coadd.dataId["band"]: coadd
        for coadd in butler.query_datasets("deep_coadd", collection, data_id=where)
    }
    images = load_images(image_form_of(coadds[model.bands[0]].datasetType.storageClass_name))
    scene = stack_bands(
        (images.read(images.fetch(butler.getDeferred(coadds[band])), band) for band in model.bands),
        len(model.bands),
    )
    truth = butler.query_datasets("truth", collection, data_id=where, explain=False)
    return PatchResult(
        name=f"patch {where['patch']} ({scene.name})" if scene.name else f"patch {where['patch']}",
        scene=scene,
        before=butler.get("object_detection_merged", where, collections=collection),
        after=butler.get(f"object_detection_merged{suffix}", where, collections=collection),
        model_before=butler.get("object_scarlet_models", where, collections=collection),
        model_after=model,
        truth=butler.get(truth[0]).as_array() if truth else None,
    )


def read_patches(butler: Butler, collection: str, suffix: str) -> list[EvaluatedPatch]:
    """Patches of a run: their tables, and pixels for who asks.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        Repository.
    collection : `str`
        The run's output.
    suffix : `str`
        Which iteration.

    Returns
    -------
    patches : `list` [`EvaluatedPatch`]
        What was put in and came out, and how it holds against the truth.

    Raises
    ------
    RunError
        Raised if there is no evaluation.
    """
    refs = _refs(butler, f"evaluation_parents{suffix}", collection)
    if not refs:
        raise RunError(f"collection {collection!r} holds no evaluation of {suffix!r}")
    options = _evaluation_options(butler, collection, suffix)
    tables = {
        name: {ref.dataId: ref for ref in _refs(butler, f"{name}{suffix}", collection)}
        for name in ("evaluation_peaks", "evaluation_sources", "object_candidates")
    }

    def table(name: str, where: Any) -> Table | None:
        ref = tables[name].get(where)
        return None if ref is None else butler.get(ref)

    patches = []
    for ref in refs:
        where = ref.dataId
        peaks, parents = butler.get(tables["evaluation_peaks"][where]), butler.get(ref)
        evaluation = Evaluation(
            name=f"patch {where['patch']}",
            bands=tuple(n.removeprefix("flux_after_") for n in peaks.colnames if n.startswith("flux_after_")),
            n_peaks=int(parents["n_old_peaks"].sum()),
            truth=table("evaluation_sources", where),
            peaks=peaks,
            parents=parents,
            options=options,
        )
        read = partial(_read_result, butler, collection, suffix, where)
        patches.append(EvaluatedPatch(evaluation, table("object_candidates", where), read))
    return patches


def n_finished(butler: Butler, collection: str, labels: Iterable[str]) -> int:
    """How many quanta of some tasks have ended well so far, in a run that may
    not have begun; by the metadata that each leaves.
    """
    butler.registry.refresh()
    try:
        return sum(len(_refs(butler, f"{label}_metadata", collection)) for label in labels)
    except RunError:  # no collection yet
        return 0


def _configs(butler: Butler, collection: str, task_class: str) -> Iterator[tuple[str, Any]]:
    """Label and config of each task of a class in a collection."""
    for dataset_type in butler.registry.queryDatasetTypes("*_config"):
        for ref in _refs(butler, dataset_type.name, collection):
            config = butler.get(ref)
            if type(config).__name__ == task_class:
                yield dataset_type.name.removesuffix("_config"), config


def _evaluation_options(butler: Butler, collection: str, suffix: str) -> EvaluationOptions:
    for _, config in _configs(butler, collection, "EvaluateConfig"):
        if config.connections.after == suffix:
            options: EvaluationOptions = config.options()
            return options
    raise RunError(f"collection {collection!r} holds no configuration of the evaluation of {suffix!r}")


def run_detector(butler: Butler, collection: str, suffix: str) -> str:
    """Name of the detector that the iteration used, and of its model if it
    has one.
    """
    for _, config in _configs(butler, collection, "ResidualDetectionConfig"):
        if config.connections.after == suffix:
            options = config.detector_options()
            model = f", {Path(options.model).name}" if "model" in options else ""
            return f"{config.detector.name}{model}"
    raise RunError(f"collection {collection!r} holds no residual detection of {suffix!r}")


@dataclass(frozen=True)
class Usage:
    """What a task took, over all its quanta."""

    n_quanta: int
    seconds: float
    peak_memory_mib: float


def _duration_s(quantum: TaskMetadata) -> float:
    start, end = (datetime.fromisoformat(str(quantum.getScalar(key))) for key in ("prepUtc", "endUtc"))
    return (end - start).total_seconds()


def task_usage(butler: Butler, collection: str) -> Mapping[str, Usage]:
    """Time and memory of each task of a run, from its quanta's metadata."""
    usage = {}
    for dataset_type in butler.registry.queryDatasetTypes("*_metadata"):
        quanta = [butler.get(ref)["quantum"] for ref in _refs(butler, dataset_type.name, collection)]
        if quanta:
            usage[dataset_type.name.removesuffix("_metadata")] = Usage(
                n_quanta=len(quanta),
                seconds=sum(_duration_s(quantum) for quantum in quanta),
                peak_memory_mib=max(q.getScalar("endMaxResidentSetSize") for q in quanta) / 2**20,
            )
    return usage
