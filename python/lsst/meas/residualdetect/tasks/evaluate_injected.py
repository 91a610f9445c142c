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

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table, join

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ListField, RangeField

from ..butler import load_catalogues, load_images, load_models
from ..detection import DetectionOptions
from ..injection.companion_counts import summarise_companions
from ..injection.recovery import InjectedPatch, evaluate_companions
from ..io.band_names import wavelength_order
from .evaluation_options import EvaluationOptionsConfig
from .patch import (
    BAND_DIMENSIONS,
    PATCH_DIMENSIONS,
    InputRefs,
    OutputRefs,
    Quantum,
    read_scene,
)

__all__ = ["EvaluateInjectedConfig", "EvaluateInjectedConnections", "EvaluateInjectedTask", "join_bands"]


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
        dimensions=BAND_DIMENSIONS,
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
        dimensions=BAND_DIMENSIONS,
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


class EvaluateInjectedConfig(
    EvaluationOptionsConfig, pipe_base.PipelineTaskConfig, pipelineConnections=EvaluateInjectedConnections
):
    """Options of `EvaluateInjectedTask`; the true sources are companions."""

    detection_threshold = RangeField(
        dtype=float,
        doc="Signal-to-noise ratio above which ordinary detection would give a companion a peak.",
        default=DetectionOptions.threshold,
        min=0.0,
        inclusiveMin=False,
    )
    pseudo_columns = ListField[str](
        doc="Flags that mark sky objects.",
        default=["merge_peak_sky", "sky_source"],
    )


class EvaluateInjectedTask(pipe_base.PipelineTask):
    """Say which companions were found, and what else is new beside them."""

    ConfigClass = EvaluateInjectedConfig
    _DefaultName = "evaluateInjected"
    config: EvaluateInjectedConfig

    def __init__(self, *, initInputs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        self.images = load_images("afw")
        self.catalogues = load_catalogues("afw", initInputs, self.config.pseudo_columns)
        self.models = load_models("afw")

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
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
        companions = join_bands(
            butlerQC.get(inputRefs.companions), {band: in_bands[band] for band in scene.bands}
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
        result = evaluate_companions(
            patch, self.config.options(), detection, bad_planes=self.config.bad_mask_planes
        )
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


def join_bands(companions: Table, in_bands: Mapping[str, Table]) -> Table:
    """Companions with what was injected of them in each band.

    Parameters
    ----------
    companions : `astropy.table.Table`
        All that were drawn.
    in_bands : `~collections.abc.Mapping` [`str`, `astropy.table.Table`]
        By band the same ones, in any order, with ``id``, ``mag_<band>`` and
        ``snr_<band>``.

    Returns
    -------
    joined : `astropy.table.Table`
        In the order of ``companions``, with these columns and ``snr``, the
        signal-to-noise ratio over all bands.

    Raises
    ------
    ValueError
        Raised if a band has others.
    """
    joined = companions
    for band, table in in_bands.items():
        columns = table["id", f"mag_{band}", f"snr_{band}"]
        joined = join(joined, columns, keys="id", keep_order=True)
        if not len(joined) == len(table) == len(companions):
            raise ValueError(f"the companions in band {band!r} are not those that were drawn")
    squares = [np.square(np.asarray(joined[f"snr_{band}"], np.float64)) for band in in_bands]
    joined["snr"] = np.sqrt(np.sum(squares, axis=0))
    return joined
