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


"""What residual detection reads, writes and lets a user choose."""

from __future__ import annotations

from copy import deepcopy

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import (
    ChoiceField,
    Config,
    ConfigField,
    Field,
    FieldValidationError,
    ListField,
    RangeField,
)

from ..butler import CATALOGUE_FORMS, IMAGE_FORMS, MODEL_FORMS
from ..butler.model_packages import MODEL_PACKAGE, MODEL_PACKAGE_STORAGE
from ..candidates import DEFAULT_MIN_DISTANCE_PIX
from ..detectors import DEFAULT_DETECTOR, DETECTORS, Detector
from ..find_missing import FindMissingOptions
from ..network.package import ModelPackage
from ..scene import DEFAULT_BAD_PLANES
from .deblend_options import DeblendOptionsConfig
from .patch import (
    BAND_DIMENSIONS,
    PATCH_DIMENSIONS,
    StackCoaddConnections,
    StackCoaddsConfig,
    set_storage_class,
)

__all__ = ["ResidualDetectionConfig", "ResidualDetectionConnections"]


class ResidualDetectionConnections(
    StackCoaddConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"before": "", "after": "_residual"},
):
    """Inputs and outputs of `ResidualDetectionTask`.

    ``before`` and ``after`` are suffixes of data set names; the k-th
    iteration reads what the one before it wrote.
    """

    input_schema = cT.InitInput(
        doc="Schema of the merged detection catalogue.",
        name="object_detection_merged{before}_schema",
        storageClass="SourceCatalog",
    )
    peak_schema = cT.InitInput(
        doc="Schema of its peaks.",
        name="object_detection_peak{before}_schema",
        storageClass="PeakCatalog",
    )
    detections = cT.Input(
        doc="Merged detection catalogue that was deblended.",
        name="object_detection_merged{before}",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    models = cT.Input(
        doc="Scarlet models of its sources.",
        name="object_scarlet_models{before}",
        storageClass="LsstScarletModelData",
        dimensions=PATCH_DIMENSIONS,
    )
    model_package = cT.PrerequisiteInput(
        doc="Model package of the detector; see residualdetect register-model.",
        name=MODEL_PACKAGE,
        storageClass=MODEL_PACKAGE_STORAGE,
        dimensions=(),
    )
    output_schema = cT.InitOutput(
        doc="Schema of the catalogue written.",
        name="object_detection_merged{after}_schema",
        storageClass="SourceCatalog",
    )
    output_peak_schema = cT.InitOutput(
        doc="Schema of its peaks, with merge_peak_residual.",
        name="object_detection_peak{after}_schema",
        storageClass="PeakCatalog",
    )
    new_detections = cT.Output(
        doc="The catalogue with the new peaks appended and footprints grown.",
        name="object_detection_merged{after}",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    candidates = cT.Output(
        doc="Every candidate of the detector, those below the threshold too.",
        name="object_candidates{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    model_images = cT.Output(
        doc="Models of all sources, convolved to each band's PSF.",
        name="deep_coadd_model{before}",
        storageClass="ExposureF",
        dimensions=BAND_DIMENSIONS,
        multiple=True,
    )
    residual_images = cT.Output(
        doc="Coadds minus models.",
        name="deep_coadd_residual{before}",
        storageClass="ExposureF",
        dimensions=BAND_DIMENSIONS,
        multiple=True,
    )

    def __init__(self, *, config: ResidualDetectionConfig) -> None:
        super().__init__(config=config)
        if config.data_model == "array":
            for name in ("input_schema", "peak_schema", "output_schema", "output_peak_schema"):
                delattr(self, name)
        if config.model_source != "butler":
            del self.model_package
        if not config.write_images:
            del self.model_images
            del self.residual_images
        images = IMAGE_FORMS[config.image_form()]
        for name, storage_class in {
            "coadds": images.storage_class,
            "coadds_cell": images.storage_class,
            "detections": CATALOGUE_FORMS[config.data_model].storage_class,
            "models": MODEL_FORMS[config.data_model].storage_class,
            "new_detections": CATALOGUE_FORMS[config.data_model].output_storage_class,
            "model_images": images.output_storage_class,
            "residual_images": images.output_storage_class,
        }.items():
            set_storage_class(self, name, storage_class)


class ResidualDetectionConfig(
    StackCoaddsConfig, pipe_base.PipelineTaskConfig, pipelineConnections=ResidualDetectionConnections
):
    """Options of `ResidualDetectionTask`."""

    data_model = ChoiceField[str](
        doc="What the Butler holds.",
        default="afw",
        allowed={
            "afw": "lsst.afw exposures and catalogues, lsst.meas.extensions.scarlet models (the stack).",
            "array": "The package's own types (the embedded repository).",
        },
    )
    images = ChoiceField[str](
        doc="What the Butler holds for a coadd, if that is not what goes with data_model.",
        default=None,
        optional=True,
        allowed={name: form.doc for name, form in IMAGE_FORMS.items()},
    )
    bands = ListField[str](
        doc="Bands to look at; all that the models have if empty.",
        default=[],
    )
    detector = DETECTORS.makeField(
        doc="How to look for sources that the model lacks, and its options: detector['onnx'].n_threads, "
        "or detector.active.n_threads of the one chosen.",
        default=DEFAULT_DETECTOR,
    )
    model = Field[str](
        doc="Model package of a detector that runs a network, a folder or a name under models/, in place of "
        "its own option of that name.",
        default=None,
        optional=True,
    )
    model_source = ChoiceField[str](
        doc="Where the model package of a detector that runs a network is.",
        default="path",
        allowed={
            "path": "A folder, or a name under models/, as model says.",
            "butler": "The data set connections.model_package of the input collections.",
        },
    )
    score_threshold = RangeField(
        dtype=float,
        doc="Score from which a candidate becomes a peak; the detector's own if not set.",
        default=None,
        optional=True,
        min=0.0,
    )
    min_bands = RangeField(
        dtype=int,
        doc="Bands that must have seen a candidate for it to become a peak: where one stands out by 5 sigma, "
        "the others without the min_bands - 1 best have to show something together. If not set 2 where there "
        "are three bands or more, else 1.",
        default=None,
        optional=True,
        min=0,
    )
    min_distance_pix = RangeField(
        dtype=float,
        doc="Candidates nearer than this to a peak are taken for a flaw of that peak's model. Pixels.",
        default=DEFAULT_MIN_DISTANCE_PIX,
        min=0.0,
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels are left out.",
        default=list(DEFAULT_BAD_PLANES),
    )
    singles = ConfigField[DeblendOptionsConfig](
        doc="How to model parents with a single peak, which the stack's deblender passes over.",
    )
    pseudo_columns = ListField[str](
        doc="Flags that mark sky objects, which are left alone, as in the stack's deblender.",
        default=["merge_peak_sky", "sky_source"],
    )
    write_images = Field[bool](
        doc="Write the model and the residual of each band?",
        default=False,
    )

    def image_form(self) -> str:
        """Which of `~lsst.meas.residualdetect.butler.IMAGE_FORMS` to read."""
        return str(self.images or ("afw_cells" if self.use_cell_coadds else self.data_model))

    def detector_options(self) -> Config:
        """The options of the detector chosen."""
        options = deepcopy(self.detector.active)
        if self.model is not None and "model" in options:
            options.model = self.model
        return options

    def load_detector(self, package: ModelPackage | None = None) -> Detector:
        """The detector chosen.

        Parameters
        ----------
        package : `~lsst.meas.residualdetect.network.package.ModelPackage`, optional
            What the Butler holds, if the model is there; to be kept for as
            long as the detector.
        """
        options = self.detector_options()
        if package is not None:
            options.model = str(package.folder)
        return self.detector.target(config=options)

    def options(self) -> FindMissingOptions:
        """The same as the core's options."""
        return FindMissingOptions(
            score_threshold=self.score_threshold,
            min_bands=self.min_bands,
            min_distance_pix=self.min_distance_pix,
            bad_planes=tuple(self.bad_mask_planes),
            singles=self.singles.deblend_options(self.bad_mask_planes),
            singles_engine=self.singles.engine,
        )

    def validate(self) -> None:
        """Refuse what cannot go together."""
        super().validate()
        if self.use_cell_coadds and self.data_model != "afw":
            raise FieldValidationError(
                type(self).use_cell_coadds, self, f"data model {self.data_model!r} has no coadds in cells"
            )
        if self.model_source == "butler":
            if "model" not in self.detector.active:
                raise FieldValidationError(
                    type(self).model_source, self, f"detector {self.detector.name!r} has no model"
                )
            if self.model is not None:
                raise FieldValidationError(
                    type(self).model, self, f"the model is in the Butler, not in {self.model!r}"
                )
        if len(set(self.bands)) != len(self.bands):
            raise FieldValidationError(type(self).bands, self, f"{list(self.bands)} names a band twice")
        if self.connections.before == self.connections.after:
            raise FieldValidationError(
                type(self).connections, self, f"before and after are both {self.connections.after!r}"
            )
