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


"""Residual detection, as a task of either world."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

import lsst.pipe.base as pipe_base

from ..butler import DataModelError, load_catalogues, load_images, load_models
from ..candidates import Fate
from ..detections import Detections
from ..find_missing import Missing, find_missing
from ..find_missing.candidate_table import candidate_table
from ..io.band_names import wavelength_order
from ..network.package import ModelPackage
from ..scene import Scene
from ..scene_model import SceneModel
from .patch import InputRefs, OutputRefs, Quantum, read_scene
from .residual_detection_config import ResidualDetectionConfig, ResidualDetectionConnections

__all__ = [
    "NoUsableModelError",
    "ResidualDetectionConfig",
    "ResidualDetectionConnections",
    "ResidualDetectionTask",
]

# Different reasons to log; the metadata counts all.
_MAX_REASONS = 10


class NoUsableModelError(pipe_base.AlgorithmError):
    """No source of a patch has a model, so that there is no residual.

    Parameters
    ----------
    n_parents : `int`
        Parents that are no sky objects.
    why : `str`
        The most frequent reason.
    """

    def __init__(self, n_parents: int, why: str) -> None:
        super().__init__(f"none of {n_parents} parents has a model; most often: {why}")
        self._metadata = {"n_parents": n_parents, "why": why}

    @property
    def metadata(self) -> dict[str, Any]:
        """The parameters."""
        return self._metadata


def _prefix(scene: Scene) -> str:
    """What a message begins with; the stack's coadds have no names."""
    return f"{scene.name}: " if scene.name else ""


class ResidualDetectionTask(pipe_base.PipelineTask):
    """Find sources in the deblender's residual and add them as peaks.

    Runs after the scarlet deblender. The catalogue it writes is the
    deblender's input for another pass.
    """

    ConfigClass = ResidualDetectionConfig
    _DefaultName = "residualDetection"
    config: ResidualDetectionConfig

    def __init__(self, *, initInputs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        form = self.config.data_model
        self.images = load_images(self.config.image_form())
        self.catalogues = load_catalogues(form, initInputs, self.config.pseudo_columns)
        self.models = load_models(form)
        for name, dataset in self.catalogues.init_outputs.items():
            setattr(self, name, dataset)
        # From the Butler, if it is not given.
        self.package: ModelPackage | None = None
        self.detector = None if self.config.model_source == "butler" else self.config.load_detector()
        self.options = self.config.options()

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
        """Read a patch, find sources, write the results."""
        data_id = butlerQC.quantum.dataId
        catalogue = butlerQC.get(inputRefs.detections)
        if not len(catalogue):
            raise pipe_base.NoWorkFound(f"{data_id}: the detection catalogue is empty")
        try:
            detections = self.catalogues.read(catalogue)
            model = self.models.read(butlerQC.get(inputRefs.models), catalogue)
            model = model.select_bands(self.config.bands or sorted(model.bands, key=wavelength_order))
        except ValueError as error:
            raise DataModelError(f"{data_id}: {error}") from error
        if self.detector is None:
            self.package = butlerQC.get(inputRefs.model_package)
            self.detector = self.config.load_detector(self.package)
        coadds, backgrounds = self.config.coadd_refs(inputRefs)
        scene = read_scene(
            butlerQC,
            coadds,
            self.images,
            bands=model.bands,
            bad_planes=self.config.bad_mask_planes,
            background_refs=backgrounds,
            catalogue=catalogue,
            # In the other data model detection did it, or ingest.
            check=self.config.data_model == "afw",
        )
        try:
            result = self.run(scene, detections, model)
        except pipe_base.AlgorithmError as error:
            unchanged = self.catalogues.write(detections, catalogue)
            # The core's catalogue has no metadata to say it in.
            said_in = unchanged if hasattr(unchanged, "metadata") else None
            annotated = pipe_base.AnnotatedPartialOutputsError.annotate(error, self, said_in, log=self.log)
            butlerQC.put(unchanged, outputRefs.new_detections)
            nothing = candidate_table(scene, np.zeros_like(scene.images), (), ())
            butlerQC.put(nothing, outputRefs.candidates)
            raise annotated from error
        butlerQC.put(self.catalogues.write(result.detections, catalogue), outputRefs.new_detections)
        butlerQC.put(result.candidates, outputRefs.candidates)
        if self.config.write_images:
            # Read anew, so that only one band need be in memory with its type.
            pixels = {
                "model_images": result.model_image,
                "residual_images": scene.images - result.model_image,
            }
            originals = {ref.dataId["band"]: ref for ref in coadds}
            for index, band in enumerate(scene.bands):
                coadd = butlerQC.get(originals[band])
                for name, images in pixels.items():
                    (ref,) = (ref for ref in getattr(outputRefs, name) if ref.dataId["band"] == band)
                    butlerQC.put(self.images.picture(images[index], scene, coadd), ref)

    def run(self, scene: Scene, detections: Detections, model: SceneModel) -> pipe_base.Struct:
        """Find sources that the model lacks.

        Parameters
        ----------
        scene : `Scene`
            Coadds.
        detections : `Detections`
            The catalogue that was deblended.
        model : `SceneModel`
            Its deblended sources. Parents of one peak that it lacks are
            modelled here; others that it lacks are left alone.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``detections`` (`Detections`), the catalogue with new peaks;
            ``candidates`` (`astropy.table.Table`), see `Missing.table`;
            and ``model_image`` (`numpy.ndarray`, (band, y, x), float32).

        Raises
        ------
        NoUsableModelError
            Raised if there are sources, but no model of any.
        """
        if self.detector is None:
            raise RuntimeError("the detector's model is in the Butler; runQuantum gets it")
        missing = find_missing(scene, detections, model, self.detector, self.options)
        self._report(missing)
        return pipe_base.Struct(
            detections=missing.detections,
            candidates=missing.table,
            model_image=missing.model_image,
        )

    def _report(self, missing: Missing) -> None:
        """Say what was done; refuse a patch where no source has a model."""
        prefix = _prefix(missing.scene)
        reasons = missing.reasons
        n_new = missing.fates[Fate.ADDED]
        self.metadata["n_parents"] = len(missing.before)
        self.metadata["n_sky"] = len(missing.before) - missing.n_sources
        self.metadata["n_left_alone"] = reasons.total()
        self.metadata["n_unmodelled_peaks"] = len(missing.unmodelled_peaks)
        self.metadata["n_singles"] = missing.n_singles
        self.metadata["n_candidates"] = len(missing.candidates)
        self.metadata["n_new_peaks"] = n_new
        self.metadata["n_changed_parents"] = missing.n_changed_parents
        for reason, count in reasons.most_common(_MAX_REASONS):
            self.log.warning("%s%d parents left alone: %s", prefix, count, reason)
        for reason in islice(missing.unmodelled_peaks.values(), _MAX_REASONS):
            self.log.warning("%s%s; nothing is looked for around it", prefix, reason)
        if missing.doubt:
            self.log.warning("%s%s", prefix, missing.doubt)
        if not missing.n_sources:
            self.log.info("%sthere are only sky objects; nothing to look for", prefix)
        elif not missing.has_model:
            raise NoUsableModelError(reasons.total(), reasons.most_common(1)[0][0])
        self.log.info(
            "%sof %d candidates of %s, taken from a score of %g in %d or more bands, %d became peaks, "
            "which changed %d of %d parents; others: %s",
            prefix,
            len(missing.candidates),
            self.config.detector.name,
            missing.score_threshold,
            missing.min_bands,
            n_new,
            missing.n_changed_parents,
            len(missing.detections),
            ", ".join(f"{count} {fate}" for fate, count in missing.fates.items() if fate != Fate.ADDED)
            or "none",
        )
