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


"""The stack's deblender again, on what changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.afw.image import MultibandExposure
from lsst.afw.table import Schema, SchemaMapper, SourceCatalog, SourceRecord, SourceTable
from lsst.meas.extensions.scarlet.io import LsstScarletModelData
from lsst.pex.config import Field
from lsst.pipe.tasks.deblendCoaddSourcesPipeline import (
    DeblendCoaddSourcesMultiConfig,
    DeblendCoaddSourcesMultiConnections,
    DeblendCoaddSourcesMultiTask,
    deblendBaseTemplates,
)

from .patch import PATCH_DIMENSIONS
from .residual_scarlet_deblend import ResidualScarletDeblendTask

__all__ = ["RedeblendConfig", "RedeblendConnections", "RedeblendError", "RedeblendTask"]


class RedeblendError(ValueError):
    """A first deblend that cannot be kept."""


class RedeblendConnections(
    DeblendCoaddSourcesMultiConnections, dimensions=PATCH_DIMENSIONS, defaultTemplates=deblendBaseTemplates
):
    """Those of DeblendCoaddSourcesMultiTask, and what the first deblend wrote."""

    old_objects = cT.Input(
        doc="Deblended catalogue of the deblend before.",
        name="object_deblend",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    old_models = cT.Input(
        doc="Its scarlet models.",
        name="object_scarlet_models",
        storageClass="LsstScarletModelData",
        dimensions=PATCH_DIMENSIONS,
    )
    old_parents = cT.Input(
        doc="Its parents.",
        name="object_parent_patch",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )


class RedeblendConfig(DeblendCoaddSourcesMultiConfig, pipelineConnections=RedeblendConnections):
    """Options of `RedeblendTask`: the stack's, and one."""

    deblend_all = Field[bool](
        doc="Deblend every parent again, as if all had changed? Objects keep their ids all the same.",
        default=False,
    )

    def setDefaults(self) -> None:
        """Children keep ``merge_peak_residual``."""
        super().setDefaults()
        self.multibandDeblend.retarget(ResidualScarletDeblendTask)


def _is_same(old: SourceRecord, new: SourceRecord) -> bool:
    """Whether two records have the same pixels and peaks."""
    before, after = old.getFootprint(), new.getFootprint()
    return before.spans == after.spans and [p.getId() for p in before.peaks] == [
        p.getId() for p in after.peaks
    ]


def changed_parents(before: SourceCatalog, after: SourceCatalog) -> set[int]:
    """Ids of top-level parents of ``after`` that ``before`` lacks, or has
    with other pixels or peaks.
    """
    known = {record.getId(): record for record in before if not record.getParent()}
    return {
        record.getId()
        for record in after
        if record.getId() not in known or not _is_same(known[record.getId()], record)
    }


def _mapper(source: Schema, target: Schema) -> SchemaMapper:
    """From one schema to another, by the names that both have."""
    mapper = SchemaMapper(source, target)
    for item in source:
        if item.field.getName() in target:
            mapper.addMapping(item.key, item.field, True)
    return mapper


def _keep_ids(fresh: pipe_base.Struct, old: SourceCatalog) -> int:
    """Give children of a fresh deblend the ids that they had, in the
    catalogue and in the models.

    Returns
    -------
    n_kept : `int`
        How many had one.
    """
    had = {(r.getParent(), int(r["deblend_peakId"])): r.getId() for r in old if r.getParent()}
    kept: dict[int, int] = {}
    for record in fresh.deblendedCatalog:
        known = had.get((record.getParent(), int(record["deblend_peakId"])))
        if known is not None:
            kept[record.getId()] = known
            record.setId(known)
    for parent in fresh.scarletModelData.blends.values():
        for blend in parent.children.values():
            for source in blend.sources.values():
                source.metadata["id"] = kept.get(source.metadata["id"], source.metadata["id"])
    return len(kept)


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


class RedeblendTask(DeblendCoaddSourcesMultiTask):
    """Deblend the parents that residual detection changed, with the stack's
    deblender, and keep what it made of the others.

    Objects, models and parents come in the form that the stack's task gives
    them. An object keeps its id where its parent and peak stay; one that had
    its parent to itself and now shares it gets a new one, as its old id is
    the parent's.
    """

    ConfigClass = RedeblendConfig
    _DefaultName = "redeblend"

    def runQuantum(
        self,
        butlerQC: pipe_base.QuantumContext,
        inputRefs: pipe_base.InputQuantizedConnection,
        outputRefs: pipe_base.OutputQuantizedConnection,
    ) -> None:
        """Read the deblend before, and do as the stack's task does."""
        names = ("old_objects", "old_models", "old_parents")
        self._old = pipe_base.Struct(**{name: butlerQC.get(getattr(inputRefs, name)) for name in names})
        for name in names:
            delattr(inputRefs, name)
        super().runQuantum(butlerQC, inputRefs, outputRefs)

    def run(
        self,
        coadds: Any,
        bands: Any,
        mergedDetections: SourceCatalog,
        deconvolvedCoadds: Any,
        idFactory: Any,
        old: pipe_base.Struct | None = None,
    ) -> pipe_base.Struct:
        """Deblend what changed.

        Parameters
        ----------
        coadds, bands, mergedDetections, deconvolvedCoadds, idFactory
            As for the stack's task.
        old : `lsst.pipe.base.Struct`, optional
            ``old_objects``, ``old_models`` and ``old_parents`` of the deblend
            before; what `runQuantum` read if absent.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            As from the stack's task.

        Raises
        ------
        RedeblendError
            Raised if the models to keep have other bands or PSFs.
        """
        old = self._old if old is None else old
        every = {record.getId() for record in mergedDetections}
        changed = every if self.config.deblend_all else changed_parents(old.old_parents, mergedDetections)
        for catalogue in (old.old_objects, old.old_parents):
            if len(catalogue):
                idFactory.notify(int(catalogue["id"].max()))
        sources = self._makeSourceCatalog(mergedDetections, idFactory)
        fresh = self._deblend(coadds, bands, deconvolvedCoadds, sources, changed, idFactory, old)
        n_kept = _keep_ids(fresh, old.old_objects)
        self.metadata["n_parents"] = len(every)
        self.metadata["n_changed_parents"] = len(changed)
        self.log.info(
            "deblended %d of %d parents again: of their %d objects %d keep their ids",
            len(changed),
            len(every),
            len(fresh.deblendedCatalog),
            n_kept,
        )
        return self._with_old(fresh, old, mergedDetections, changed)

    def _deblend(
        self,
        coadds: Any,
        bands: Any,
        deconvolved: Any,
        sources: SourceCatalog,
        changed: Collection[int],
        id_factory: Any,
        old: pipe_base.Struct,
    ) -> pipe_base.Struct:
        """What the stack's deblender makes of the changed parents."""
        some = SourceCatalog(SourceTable.make(self.schema, id_factory))
        some.extend([record for record in sources if record.getId() in changed], deep=True)
        if not len(some):
            return pipe_base.Struct(
                deblendedCatalog=SourceCatalog(self.multibandDeblend.objectSchema),
                objectParents=SourceCatalog(self.multibandDeblend.parentSchema),
                scarletModelData=LsstScarletModelData(metadata=old.old_models.metadata),
            )
        return self.multibandDeblend.run(
            MultibandExposure.fromExposures(bands, coadds),
            MultibandExposure.fromExposures(bands, deconvolved),
            some,
        )

    def _with_old(
        self,
        fresh: pipe_base.Struct,
        old: pipe_base.Struct,
        merged: SourceCatalog,
        changed: Collection[int],
    ) -> pipe_base.Struct:
        """A fresh deblend of the changed parents, and the old one of the
        others, in the order of the merged detections.
        """
        place = {record.getId(): index for index, record in enumerate(merged)}
        kept = place.keys() - set(changed)
        if kept:
            _check_models(old.old_models, fresh.scarletModelData)

        def family(record: SourceRecord) -> int:
            return int(record.getParent() or record.getId())

        def together(one: SourceCatalog, other: SourceCatalog) -> SourceCatalog:
            to_one, from_other = _mapper(one.schema, one.schema), _mapper(other.schema, one.schema)
            records = [(record, to_one) for record in one]
            records += [(record, from_other) for record in other if family(record) in kept]
            # Those without a parent first, then the children of one parent
            # after the other's.
            records.sort(key=lambda pair: (pair[0].getParent() != 0, place[family(pair[0])], pair[0].getId()))
            catalogue = SourceCatalog(SourceTable.make(one.schema))
            for record, mapper in records:
                added = catalogue.addNew()
                added.assign(record, mapper)
                if added.getId() in kept and not added.getParent():
                    added.setFootprint(merged[place[added.getId()]].getFootprint())
            return catalogue

        models = LsstScarletModelData(metadata=fresh.scarletModelData.metadata)
        for name in ("blends", "isolated"):
            both = {int(i): data for i, data in getattr(old.old_models, name).items() if int(i) in kept}
            both |= {int(i): data for i, data in getattr(fresh.scarletModelData, name).items()}
            getattr(models, name).update({i: both[i] for i in sorted(both, key=place.__getitem__)})
        return pipe_base.Struct(
            deblendedCatalog=together(fresh.deblendedCatalog, old.old_objects),
            scarletModelData=models,
            objectParents=together(fresh.objectParents, old.old_parents),
        )
