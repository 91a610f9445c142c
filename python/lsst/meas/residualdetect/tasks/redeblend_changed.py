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

from astropy.table import Table

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.afw.image import MultibandExposure
from lsst.afw.table import SourceCatalog, SourceTable
from lsst.meas.extensions.scarlet.io import LsstScarletModelData
from lsst.pex.config import Field
from lsst.pipe.tasks.deblendCoaddSourcesPipeline import (
    DeblendCoaddSourcesMultiConfig,
    DeblendCoaddSourcesMultiConnections,
    DeblendCoaddSourcesMultiTask,
    deblendBaseTemplates,
)

from ..find_missing.new_objects import new_object_table
from .lost_objects import known_parts, lost_objects, object_ids
from .patch import PATCH_DIMENSIONS
from .residual_scarlet_deblend import ResidualScarletDeblendTask
from .two_deblends import changed_parents, keep_ids, left_out, list_objects, one_deblend

__all__ = ["RedeblendConfig", "RedeblendConnections", "RedeblendTask"]


class RedeblendConnections(
    DeblendCoaddSourcesMultiConnections, dimensions=PATCH_DIMENSIONS, defaultTemplates=deblendBaseTemplates
):
    """Those of DeblendCoaddSourcesMultiTask, what the first deblend and
    residual detection wrote, and a table of new objects.
    """

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
    candidates = cT.Input(
        doc="What residual detection says of its new peaks.",
        name="object_candidates_residual",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    new_objects = cT.Output(
        doc="The objects of those peaks, with fluxes of what lies nearest, before and after.",
        name="object_residual",
        storageClass="ArrowAstropy",
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


class RedeblendTask(DeblendCoaddSourcesMultiTask):
    """Deblend the parts of parents that residual detection changed, with the
    stack's deblender, and keep what it made of the others.

    Objects, models and parents come in the form that the stack's task gives
    them. An object keeps its id where its parent and peak stay; one that had
    its parent to itself and now shares it gets a new one, as its old id is
    the parent's. What the deblender fails on or leaves out, a parent or a part
    of one, keeps the objects that it had before.
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
        self._candidates = butlerQC.get(inputRefs.candidates)
        for name in (*names, "candidates"):
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
        candidates: Table | None = None,
    ) -> pipe_base.Struct:
        """Deblend what changed.

        Parameters
        ----------
        coadds, bands, mergedDetections, deconvolvedCoadds, idFactory
            As for the stack's task.
        old : `lsst.pipe.base.Struct`, optional
            ``old_objects``, ``old_models`` and ``old_parents`` of the deblend
            before; what `runQuantum` read if absent.
        candidates : `astropy.table.Table`, optional
            Candidates that the peaks of ``mergedDetections`` were made of;
            what `runQuantum` read if absent.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            As from the stack's task, and ``new_objects``, see
            `new_object_table`.

        Raises
        ------
        RedeblendError
            Raised if the models to keep have other bands or PSFs, or an id is
            that of two objects or parents.
        """
        old = self._old if old is None else old
        candidates = self._candidates if candidates is None else candidates
        every = {record.getId() for record in mergedDetections}
        changed = every if self.config.deblend_all else changed_parents(old.old_parents, mergedDetections)
        sources = self._makeSourceCatalog(mergedDetections, idFactory)
        # That has it count on from the last parent, whatever the deblend before has numbered.
        catalogues = (mergedDetections, old.old_objects, old.old_parents)
        idFactory.notify(max(record.getId() for catalogue in catalogues for record in catalogue))
        fresh = self._deblend(coadds, bands, deconvolvedCoadds, sources, changed, idFactory, old)
        lost = lost_objects(old, fresh, changed)
        skipped = left_out(fresh.objectParents)
        divided = {parent for parent, _ in object_ids(fresh.deblendedCatalog)}
        for parent, why in skipped.items():
            what = "keeps the objects of the deblend before" if parent in lost.peaks else "has no objects"
            whole = "parts of it" if parent in divided else "it"
            self.log.warning("parent %d %s: the deblender left %s out (%s)", parent, what, whole, why)
        n_kept = keep_ids(fresh, old.old_objects)
        self.metadata["n_parents"] = len(every)
        self.metadata["n_changed_parents"] = len(changed)
        self.metadata["n_left_out"] = len(skipped)
        self.metadata["n_restored"] = len(skipped.keys() & lost.peaks.keys())
        self.log.info(
            "deblended %d of %d parents again: of their %d objects %d keep their ids",
            len(changed),
            len(every),
            len(fresh.deblendedCatalog),
            n_kept,
        )
        result = one_deblend(fresh, old, mergedDetections, changed, lost)
        # In the order of the bands, as runQuantum sorts them.
        objects = list_objects(
            result, old, mergedDetections, coadds, self.config.multibandDeblend.pseudoColumns
        )
        scale = coadds[0].getWcs().getPixelScale().asArcseconds()
        result.new_objects = new_object_table(objects, candidates, bands, scale)
        return result

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
        """What the stack's deblender makes of the changed parents, or of their
        parts that changed.
        """
        some = SourceCatalog(SourceTable.make(self.schema, id_factory))
        some.extend([record for record in sources if record.getId() in changed], deep=True)
        if not len(some):
            return pipe_base.Struct(
                deblendedCatalog=SourceCatalog(self.multibandDeblend.objectSchema),
                objectParents=SourceCatalog(self.multibandDeblend.parentSchema),
                scarletModelData=LsstScarletModelData(metadata=old.old_models.metadata),
            )
        if isinstance(self.multibandDeblend, ResidualScarletDeblendTask):
            self.multibandDeblend.known_parts = {} if self.config.deblend_all else known_parts(old)
        return self.multibandDeblend.run(
            MultibandExposure.fromExposures(bands, coadds),
            MultibandExposure.fromExposures(bands, deconvolved),
            some,
        )
