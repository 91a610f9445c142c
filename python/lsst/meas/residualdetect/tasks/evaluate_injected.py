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


"""Holding what is found against the companions injected, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ListField, RangeField

from ..butler import load_catalogues, load_images, load_models
from ..detection import DetectionOptions
from ..injection.companion_counts import summarise_companions
from ..injection.recovery import InjectedPatch, evaluate_companions
from ..scene import DEFAULT_BAD_PLANES
from ..truth import EvaluationOptions
from .patch import PATCH_DIMENSIONS, read_scene, wavelength_order

__all__ = ["EvaluateInjectedConfig", "EvaluateInjectedConnections", "EvaluateInjectedTask"]


class EvaluateInjectedConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"injected_prefix": "injected_", "after": "_residual"},
):
    """Inputs and outputs of `EvaluateInjectedTask`."""

    input_schema = cT.InitInput(
        doc="Schema of the merged detection catalogue.",
        name="object_detection_merged_schema",
        storageClass="SourceCatalog",
    )
    peak_schema = cT.InitInput(
        doc="Schema of its peaks.",
        name="object_detection_peak_schema",
        storageClass="PeakCatalog",
    )
    coadds = cT.Input(
        doc="Coadds with companions, in all bands.",
        name="{injected_prefix}deep_coadd",
        storageClass="ExposureF",
        dimensions=(*PATCH_DIMENSIONS, "band"),
        multiple=True,
    )
    companions = cT.Input(
        doc="What was injected.",
        name="{injected_prefix}companions",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    in_bands = cT.Input(
        doc="The same in each band.",
        name="{injected_prefix}companions_band",
        storageClass="ArrowAstropy",
        dimensions=(*PATCH_DIMENSIONS, "band"),
        multiple=True,
    )
    detections = cT.Input(
        doc="Merged detection catalogue of the coadds without companions.",
        name="object_detection_merged",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    models = cT.Input(
        doc="Its models in the coadds with companions.",
        name="{injected_prefix}object_scarlet_models",
        storageClass="LsstScarletModelData",
        dimensions=PATCH_DIMENSIONS,
    )
    detections_control = cT.Input(
        doc="Catalogue with the peaks found in the residual without companions.",
        name="object_detection_merged{after}",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    detections_injected = cT.Input(
        doc="Catalogue with the peaks found in the residual with companions.",
        name="{injected_prefix}object_detection_merged{after}",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    evaluated = cT.Output(
        doc="What became of each companion.",
        name="{injected_prefix}evaluation_companions{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    peaks = cT.Output(
        doc="What each new peak in the coadds with companions turned out to be.",
        name="{injected_prefix}evaluation_peaks{after}",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )


class EvaluateInjectedConfig(pipe_base.PipelineTaskConfig, pipelineConnections=EvaluateInjectedConnections):
    """Options of `EvaluateInjectedTask`."""

    match_radius_pix = RangeField(
        dtype=float,
        doc="Farthest that a peak may lie from the source it is matched to. Pixels.",
        default=EvaluationOptions.match_radius_pix,
        min=0.0,
        inclusiveMin=False,
    )
    min_snr = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio, over all bands, from which a companion is counted.",
        default=EvaluationOptions.min_snr,
        min=0.0,
    )
    faint_snr = RangeField(
        dtype=float,
        doc="From here to min_snr a companion is not counted, but a new peak on it is no error.",
        default=EvaluationOptions.faint_snr,
        min=0.0,
    )
    detection_threshold = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio above which ordinary detection would give a companion a peak.",
        default=DetectionOptions.threshold,
        min=0.0,
        inclusiveMin=False,
    )
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels are left out.", default=list(DEFAULT_BAD_PLANES)
    )
    pseudo_columns = ListField[str](
        doc="Flags that mark sky objects.",
        default=["merge_peak_sky", "sky_source"],
    )

    def options(self) -> EvaluationOptions:
        """The same as the core's options."""
        return EvaluationOptions(
            match_radius_pix=self.match_radius_pix, min_snr=self.min_snr, faint_snr=self.faint_snr
        )

    def validate(self) -> None:
        """Refuse values that do not go together."""
        super().validate()
        self.options()


class EvaluateInjectedTask(pipe_base.PipelineTask):
    """Say which companions were found, and what else is new beside them."""

    ConfigClass = EvaluateInjectedConfig
    _DefaultName = "evaluateInjected"
    config: EvaluateInjectedConfig

    def __init__(self, *, initInputs: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: N803
        super().__init__(initInputs=initInputs, **kwargs)
        self.images = load_images("afw")
        self.catalogues = load_catalogues("afw", initInputs, self.config.pseudo_columns)
        self.models = load_models("afw")

    def runQuantum(  # noqa: N802
        self,
        butlerQC: pipe_base.QuantumContext,  # noqa: N803
        inputRefs: pipe_base.InputQuantizedConnection,  # noqa: N803
        outputRefs: pipe_base.OutputQuantizedConnection,  # noqa: N803
    ) -> None:
        """Evaluate a patch."""
        catalogue = butlerQC.get(inputRefs.detections)
        model = self.models.read(butlerQC.get(inputRefs.models), catalogue)
        scene = read_scene(
            butlerQC,
            inputRefs.coadds,
            self.images,
            bands=sorted(model.bands, key=wavelength_order),
            bad_planes=self.config.bad_mask_planes,
            catalogue=catalogue,
        )
        in_bands = {ref.dataId["band"]: butlerQC.get(ref) for ref in inputRefs.in_bands}
        companions = _join(
            butlerQC.get(inputRefs.companions), [in_bands[band] for band in scene.bands], scene.bands
        )
        result = self.run(
            InjectedPatch(
                name=str(butlerQC.quantum.dataId),
                scene=scene,
                before=self.catalogues.read(catalogue),
                control=self.catalogues.read(butlerQC.get(inputRefs.detections_control)),
                after=self.catalogues.read(butlerQC.get(inputRefs.detections_injected)),
                model=model.select_bands(scene.bands),
                companions=companions.as_array(),
            )
        )
        butlerQC.put(result.companions, outputRefs.evaluated)
        butlerQC.put(result.peaks, outputRefs.peaks)

    def run(self, patch: InjectedPatch) -> pipe_base.Struct:
        """Evaluate a patch.

        Parameters
        ----------
        patch : `InjectedPatch`
            The patch.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``companions`` and ``peaks`` (`astropy.table.Table`); see
            `~lsst.meas.residualdetect.injection.recovery.InjectedResult`.
            The metadata gets the counts of `summarise_companions`, and
            ``n_control`` and ``n_lost``.
        """
        detection = DetectionOptions(threshold=self.config.detection_threshold)
        result = evaluate_companions(patch, self.config.options(), detection)
        summary = summarise_companions(result.companions, result.peaks, self.config.options())
        for name, value in (*summary.items(), ("n_control", result.n_control), ("n_lost", result.n_lost)):
            self.metadata[name] = value
        self.log.info(
            "%d of %d companions recovered, %d of %d of those that ordinary detection does not recognise; "
            "%d of %d new peaks are there without companions, %d of the others are shreds, %d spurious",
            summary["n_recovered"],
            summary["n_to_find"],
            summary["n_recovered_unrecognized"],
            summary["n_to_find_unrecognized"],
            summary["n_unlabelled"],
            len(result.peaks),
            summary["n_shreds"],
            summary["n_spurious"],
        )
        return pipe_base.Struct(companions=result.companions, peaks=result.peaks)


def _join(companions: Table, in_bands: Sequence[Table], bands: Sequence[str]) -> Table:
    """Companions with the magnitudes of all bands, and the signal-to-noise
    ratio over all bands.
    """
    joined = companions.copy()
    snr = np.zeros(len(joined))
    for band, table in zip(bands, in_bands, strict=True):
        # In each band the same rows in the same order.
        joined[f"mag_{band}"] = table[f"mag_{band}"]
        joined[f"snr_{band}"] = table[f"snr_{band}"]
        snr += np.square(np.asarray(table[f"snr_{band}"]))
    joined["snr"] = np.sqrt(snr)
    return joined
