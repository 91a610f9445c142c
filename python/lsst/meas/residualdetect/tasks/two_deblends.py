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

"""One deblend of two: a former one, and a fresh one of what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

import lsst.pipe.base as pipe_base
from lsst.afw.image import ExposureF
from lsst.afw.table import Schema, SchemaMapper, SourceCatalog, SourceTable
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

from ..butler.models.afw import object_fluxes
from ..scene import Array
from .lost_objects import Lost, family, object_ids
from .residual_scarlet_deblend import same_footprint

__all__ = [
    "RedeblendError",
    "changed_parents",
    "keep_ids",
    "left_out",
    "list_objects",
    "one_deblend",
]

# Set for parents that residual detection gave a peak.
_GAINED = "merge_footprint_residual"


class RedeblendError(ValueError):
    """A first deblend that cannot be kept."""


def changed_parents(before: SourceCatalog, after: SourceCatalog) -> set[int]:
    """Ids of top-level parents of ``after`` that ``before`` lacks, or has
    with other pixels or peaks.
    """
    known = {record.getId(): record for record in before if not record.getParent()}
    return {
        record.getId()
        for record in after
        if record.getId() not in known
        or not same_footprint(known[record.getId()].getFootprint(), record.getFootprint())
    }


def _fluxes(
    objects: SourceCatalog, models: LsstScarletModelData, coadds: Sequence[ExposureF]
) -> dict[tuple[int, int], Array]:
    """Fluxes of objects in nJy by the ids of parent and peak: (band,), of
    their models; of objects that have their parent to themselves the sum of
    its pixels.
    """
    modelled = object_fluxes(models)
    calibrations = [coadd.getPhotoCalib() for coadd in coadds]
    scale = np.array([np.nan if calib is None else calib.getCalibrationMean() for calib in calibrations])
    fluxes = {}
    for record in objects:
        flux = modelled.get(record.getId())
        if flux is None and not record.getParent():
            y, x = np.asarray(record.getFootprint().spans.indices())
            images = ((coadd.image.array, coadd.getY0(), coadd.getX0()) for coadd in coadds)
            flux = np.array([np.nansum(pixels[y - y0, x - x0]) for pixels, y0, x0 in images])
        if flux is not None:
            fluxes[family(record), int(record["deblend_peakId"])] = flux * scale
    return fluxes


def list_objects(
    result: pipe_base.Struct,
    old: pipe_base.Struct,
    merged: SourceCatalog,
    coadds: Sequence[ExposureF],
    pseudo_columns: Sequence[str],
) -> Table:
    """Objects of a second deblend, for `new_object_table`.

    Parameters
    ----------
    result, old, merged
        What `one_deblend` returns, and what it was made of.
    coadds : `~collections.abc.Sequence` [`lsst.afw.image.ExposureF`]
        In the order of the models' bands.
    pseudo_columns : `~collections.abc.Sequence` [`str`]
        Flags of sky objects, which are left out.
    """
    peaks = {(record.getId(), p.getId()): p for record in merged for p in record.getFootprint().peaks}
    before = _fluxes(old.old_objects, old.old_models, coadds)
    after = _fluxes(result.deblendedCatalog, result.scarletModelData, coadds)
    schema = result.deblendedCatalog.schema
    pseudo = [name for name in pseudo_columns if name in schema]
    records = [record for record in result.deblendedCatalog if not any(record[name] for name in pseudo)]
    keys = [(family(record), int(record["deblend_peakId"])) for record in records]
    unknown = np.full(len(coadds), np.nan)
    columns: dict[str, tuple[list[Any], Any]] = {
        "id": ([record.getId() for record in records], np.int64),
        "parent": ([record.getParent() for record in records], np.int64),
        "family": ([family for family, _ in keys], np.int64),
        "peak": ([peak for _, peak in keys], np.int64),
        "y": ([peaks[key].getFy() for key in keys], np.float64),
        "x": ([peaks[key].getFx() for key in keys], np.float64),
        "score": ([record["residual_score"] for record in records], np.float64),
        "iteration": ([record["residual_iteration"] for record in records], np.int32),
    }
    table = Table({name: np.array(values, dtype) for name, (values, dtype) in columns.items()})
    for name, fluxes in (("before", before), ("after", after)):
        values = [fluxes.get(key, unknown) for key in keys]
        table[name] = np.array(values, np.float64).reshape(len(keys), len(coadds))
    return table


def _mapper(source: Schema, target: Schema) -> SchemaMapper:
    """From one schema to another, by the names that both have."""
    mapper = SchemaMapper(source, target)
    for item in source:
        if item.field.getName() in target:
            mapper.addMapping(item.key, item.field, True)
    return mapper


def keep_ids(fresh: pipe_base.Struct, old: SourceCatalog) -> int:
    """Give children of a fresh deblend the ids that they had, in the
    catalogue and in the models.

    Returns
    -------
    n_kept : `int`
        How many had one.
    """
    had = object_ids(old)
    kept: dict[int, int] = {}
    for record in fresh.deblendedCatalog:
        known = had.get((family(record), int(record["deblend_peakId"])))
        # One that had its parent to itself has the parent's id.
        if known is not None and record.getParent() not in (0, known):
            kept[record.getId()] = known
            record.setId(known)
    for parent in fresh.scarletModelData.blends.values():
        for blend in parent.children.values():
            for source in blend.sources.values():
                source.metadata["id"] = kept.get(source.metadata["id"], source.metadata["id"])
    return len(kept)


def left_out(parents: SourceCatalog) -> dict[int, str]:
    """Why the deblender made nothing of a parent, or of a part of it, by the
    top-level parent's id.
    """
    flags = [name for name in parents.schema.getNames() if name.startswith("deblend_skipped_")]
    return {
        family(record): record["deblend_error"] or ", ".join(name for name in flags if record[name])
        for record in parents
        if record["deblend_skipped"]
    }


def _check_models(old: LsstScarletModelData, fresh: LsstScarletModelData) -> None:
    """Models of one patch share their bands and PSFs."""
    for name in ("bands", "psf", "model_psf"):
        one, other = old.metadata[name], fresh.metadata[name]
        if name == "bands":
            same = tuple(one) == tuple(other)
        else:
            same = np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-5, atol=1e-8)
        if not same:
            raise RedeblendError(
                f"the models to keep have another {name} than those to add; set deblend_all"
                + (f": {list(one)} and {list(other)}" if name == "bands" else "")
            )


def _count_parts(result: pipe_base.Struct, lost: Lost) -> None:
    """Count children anew where parts were put back."""
    for number in lost.parts:
        parent = result.objectParents.find(number)
        parts = [record for record in result.objectParents if record.getParent() == number]
        for name in ("deblend_nChild", "deblend_nComponents"):
            parent.set(name, sum(int(part[name]) for part in parts))
        for record in result.deblendedCatalog:
            if record.getParent() == number:
                record.set("deblend_parentNChild", parent["deblend_nChild"])
                record.set("deblend_parentNPeaks", parent["deblend_nPeaks"])
                if _GAINED in record.schema:
                    record.set(_GAINED, parent[_GAINED])


def one_deblend(
    fresh: pipe_base.Struct,
    old: pipe_base.Struct,
    merged: SourceCatalog,
    changed: Collection[int],
    lost: Lost,
) -> pipe_base.Struct:
    """A fresh deblend of the changed parents, and the old one of the others,
    in the order of the merged detections.

    Parameters
    ----------
    fresh : `lsst.pipe.base.Struct`
        As from the stack's task: ``deblendedCatalog``, ``scarletModelData``
        and ``objectParents``.
    old : `lsst.pipe.base.Struct`
        The same of a former deblend: ``old_objects``, ``old_models`` and
        ``old_parents``.
    merged : `lsst.afw.table.SourceCatalog`
        The detections that were deblended afresh.
    changed : `~collections.abc.Collection` [`int`]
        Ids of the top-level parents that were deblended afresh.
    lost : `Lost`
        What of them to take of the old deblend all the same.

    Returns
    -------
    result : `lsst.pipe.base.Struct`
        As ``fresh``.

    Raises
    ------
    RedeblendError
        Raised if the models to keep have other bands or PSFs, or an id is
        that of two objects or parents.
    """
    place = {record.getId(): index for index, record in enumerate(merged)}
    kept = place.keys() - set(changed) | lost.parents
    if kept or lost.parts:
        _check_models(old.old_models, fresh.scarletModelData)

    def together(one: SourceCatalog, other: SourceCatalog) -> SourceCatalog:
        to_one, from_other = _mapper(one.schema, one.schema), _mapper(other.schema, one.schema)
        records = [(r, to_one) for r in one if family(r) not in kept and not lost.replaces(r)]
        records += [(r, from_other) for r in other if family(r) in kept or lost.has_part(r)]
        # Those without a parent first, then the children of one parent
        # after the other's.
        records.sort(key=lambda pair: (pair[0].getParent() != 0, place[family(pair[0])], pair[0].getId()))
        catalogue = SourceCatalog(SourceTable.make(one.schema))
        for record, mapper in records:
            added = catalogue.addNew()
            added.assign(record, mapper)
            if added.getId() in kept and not added.getParent():
                detected = merged[place[added.getId()]]
                added.setFootprint(detected.getFootprint())
                if _GAINED in one.schema and _GAINED in merged.schema:
                    added.set(_GAINED, detected[_GAINED])
        twice = [number for number, n in Counter(r.getId() for r in catalogue).items() if n > 1]
        if twice:
            raise RedeblendError(
                f"{twice[0]} is the id of two records; a parent that residual detection founded "
                "has that of an object or part of the deblend before"
            )
        return catalogue

    models = LsstScarletModelData(metadata=fresh.scarletModelData.metadata)
    for name in ("blends", "isolated"):
        both = {int(i): data for i, data in getattr(old.old_models, name).items() if int(i) in kept}
        new = {int(i): data for i, data in getattr(fresh.scarletModelData, name).items()}
        both |= {i: data for i, data in new.items() if i not in kept}
        getattr(models, name).update({i: both[i] for i in sorted(both, key=place.__getitem__)})
    before = {int(i): blend for i, blend in old.old_models.blends.items()}
    for parent, parts in lost.parts.items():
        former = {int(i): part for i, part in before[parent].children.items() if int(i) in parts}
        models.blends[parent].children.update(former)
    result = pipe_base.Struct(
        deblendedCatalog=together(fresh.deblendedCatalog, old.old_objects),
        scarletModelData=models,
        objectParents=together(fresh.objectParents, old.old_parents),
    )
    _count_parts(result, lost)
    return result
