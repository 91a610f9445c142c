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


"""Companions beside real objects: chosen for a patch, injected in each band."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from astropy.table import Table

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import ConfigField, Field, ListField, RangeField

from ..data_models import load_data_model
from ..evaluation.companions import (
    add_source_noise,
    companion_snr,
    draw_companions,
    variance_per_flux,
)
from ..footprint import Detections
from ..scene import DEFAULT_BAD_PLANES, Scene
from .companions_config import CompanionOptionsConfig
from .patch import PATCH_DIMENSIONS, read_scene

__all__ = [
    "InjectCompanionsConfig",
    "InjectCompanionsConnections",
    "InjectCompanionsTask",
    "MakeCompanionsConfig",
    "MakeCompanionsConnections",
    "MakeCompanionsTask",
    "NoInjectionError",
]

_BAND_DIMENSIONS = (*PATCH_DIMENSIONS, "band")


class NoInjectionError(RuntimeError):
    """lsst.source.injection cannot be imported."""


def _generator(seed: int, data_id: Mapping[str, Any]) -> np.random.Generator:
    """The same for the same data id, in whatever run."""
    words = [zlib.crc32(f"{name}={data_id[name]}".encode()) for name in sorted(data_id)]
    return np.random.default_rng([seed, *words])


class MakeCompanionsConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=PATCH_DIMENSIONS,
    defaultTemplates={"injected_prefix": "injected_"},
):
    """Inputs and outputs of `MakeCompanionsTask`."""

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
        doc="Coadds in all bands.",
        name="deep_coadd",
        storageClass="ExposureF",
        dimensions=_BAND_DIMENSIONS,
        multiple=True,
    )
    coadds_cell = cT.Input(
        doc="Coadds in cells, in place of the others.",
        name="deep_coadd_cell_predetection",
        storageClass="MultipleCellCoadd",
        dimensions=_BAND_DIMENSIONS,
        multiple=True,
    )
    backgrounds = cT.Input(
        doc="Backgrounds to subtract from coadds in cells.",
        name="deep_coadd_background",
        storageClass="Background",
        dimensions=_BAND_DIMENSIONS,
        multiple=True,
    )
    detections = cT.Input(
        doc="Merged detection catalogue, for hosts.",
        name="object_detection_merged",
        storageClass="SourceCatalog",
        dimensions=PATCH_DIMENSIONS,
    )
    companions = cT.Output(
        doc="What to inject.",
        name="{injected_prefix}companions",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )

    def __init__(self, *, config: MakeCompanionsConfig) -> None:
        super().__init__(config=config)
        for name in ("coadds",) if config.use_cell_coadds else ("coadds_cell", "backgrounds"):
            delattr(self, name)


class MakeCompanionsConfig(pipe_base.PipelineTaskConfig, pipelineConnections=MakeCompanionsConnections):
    """Options of `MakeCompanionsTask`."""

    use_cell_coadds = Field[bool](
        doc="Read coadds in cells, stitch them and subtract their backgrounds?",
        default=False,
    )
    companions = ConfigField[CompanionOptionsConfig](doc="What to inject beside which objects.")
    seed = RangeField(
        dtype=int,
        doc="Another seed gives other companions; the same, the same in the same patch.",
        default=0,
        min=0,
    )
    bad_mask_planes = ListField[str](
        doc="A patch with one of these in every pixel is passed over.",
        default=list(DEFAULT_BAD_PLANES),
    )
    pseudo_columns = ListField[str](
        doc="Flags that mark sky objects, which are no hosts.",
        default=["merge_peak_sky", "sky_source"],
    )


class MakeCompanionsTask(pipe_base.PipelineTask):
    """Choose objects of a patch, and draw a companion for each."""

    ConfigClass = MakeCompanionsConfig
    _DefaultName = "makeCompanions"
    config: MakeCompanionsConfig

    def __init__(self, *, initInputs: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: N803
        super().__init__(initInputs=initInputs, **kwargs)
        self.data_model = load_data_model("afw", initInputs, self.config.pseudo_columns)

    def runQuantum(  # noqa: N802
        self,
        butlerQC: pipe_base.QuantumContext,  # noqa: N803
        inputRefs: pipe_base.InputQuantizedConnection,  # noqa: N803
        outputRefs: pipe_base.OutputQuantizedConnection,  # noqa: N803
    ) -> None:
        """Read a patch and write its companions."""
        data_id: Any = butlerQC.quantum.dataId
        catalogue = butlerQC.get(inputRefs.detections)
        if not len(catalogue):
            raise pipe_base.NoWorkFound(f"{data_id}: the detection catalogue is empty")
        cells = self.config.use_cell_coadds
        scene = read_scene(
            butlerQC,
            inputRefs.coadds_cell if cells else inputRefs.coadds,
            self.data_model,
            bad_planes=self.config.bad_mask_planes,
            background_refs=inputRefs.backgrounds if cells else (),
            catalogue=catalogue,
        )
        rng = _generator(self.config.seed, data_id.required)
        try:
            companions = self.run(scene, self.data_model.detections(catalogue), rng).companions
        except ValueError as error:
            raise type(error)(f"{data_id}: {error}") from error
        if not len(companions):
            raise pipe_base.NoWorkFound(f"{data_id}: no object got a companion")
        butlerQC.put(companions, outputRefs.companions)

    def run(self, scene: Scene, detections: Detections, rng: np.random.Generator) -> pipe_base.Struct:
        """Draw companions; see `draw_companions` for parameters and table.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``companions`` (`astropy.table.Table`).
        """
        companions = draw_companions(scene, detections, self.config.companions.options(), rng)
        self.metadata["n_companions"] = len(companions)
        self.log.info("Drew %d companions beside %d peaks", len(companions), len(detections.peaks))
        return pipe_base.Struct(companions=companions)


class InjectCompanionsConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=_BAND_DIMENSIONS,
    defaultTemplates={"injected_prefix": "injected_"},
):
    """Inputs and outputs of `InjectCompanionsTask`."""

    coadd = cT.Input(
        doc="Coadd.",
        name="deep_coadd",
        storageClass="ExposureF",
        dimensions=_BAND_DIMENSIONS,
    )
    coadd_cell = cT.Input(
        doc="Coadd in cells, in place of the other.",
        name="deep_coadd_cell_predetection",
        storageClass="MultipleCellCoadd",
        dimensions=_BAND_DIMENSIONS,
    )
    background = cT.Input(
        doc="Background to subtract from the coadd in cells.",
        name="deep_coadd_background",
        storageClass="Background",
        dimensions=_BAND_DIMENSIONS,
    )
    companions = cT.Input(
        doc="What to inject.",
        name="{injected_prefix}companions",
        storageClass="ArrowAstropy",
        dimensions=PATCH_DIMENSIONS,
    )
    injected = cT.Output(
        doc="Coadd with companions, in one piece.",
        name="{injected_prefix}deep_coadd",
        storageClass="ExposureF",
        dimensions=_BAND_DIMENSIONS,
    )
    in_band = cT.Output(
        doc="Magnitudes and signal-to-noise ratios of the companions in this band.",
        name="{injected_prefix}companions_band",
        storageClass="ArrowAstropy",
        dimensions=_BAND_DIMENSIONS,
    )

    def __init__(self, *, config: InjectCompanionsConfig) -> None:
        super().__init__(config=config)
        for name in ("coadd",) if config.use_cell_coadds else ("coadd_cell", "background"):
            delattr(self, name)


class InjectCompanionsConfig(pipe_base.PipelineTaskConfig, pipelineConnections=InjectCompanionsConnections):
    """Options of `InjectCompanionsTask`."""

    use_cell_coadds = Field[bool](
        doc="Read a coadd in cells, stitch it and subtract its background?",
        default=False,
    )
    add_noise = Field[bool](
        doc="Give the injected light the noise, and the variance, that real light has in the coadd?",
        default=True,
    )
    seed = RangeField(dtype=int, doc="Seed of the noise.", default=0, min=0)
    calib_flux_radius_pix = RangeField(
        dtype=float,
        doc="Aperture radius that the coadds' photometric calibration refers to. Pixels.",
        default=12.0,
        min=0.0,
        inclusiveMin=False,
    )
    mask_plane = Field[str](doc="Mask plane of pixels that got light.", default="INJECTED")
    bad_mask_planes = ListField[str](
        doc="Mask planes whose pixels say nothing of the noise.",
        default=list(DEFAULT_BAD_PLANES),
    )


class InjectCompanionsTask(pipe_base.PipelineTask):
    """Inject the companions of a patch into the coadd of one band.

    lsst.source.injection draws them. Its CoaddInjectTask reads catalogues
    from outside the run (``htm7``), while ours come from the catalogue of the
    patch itself; and it draws the same noise in every band, which a detector
    that compares bands would see, so that only its engine is used.
    """

    ConfigClass = InjectCompanionsConfig
    _DefaultName = "injectCompanions"
    config: InjectCompanionsConfig

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        try:
            self._engine = import_module("lsst.source.injection")
        except ImportError as error:
            raise NoInjectionError(f"companions are injected with source_injection: {error}") from error

    def runQuantum(  # noqa: N802
        self,
        butlerQC: pipe_base.QuantumContext,  # noqa: N803
        inputRefs: pipe_base.InputQuantizedConnection,  # noqa: N803
        outputRefs: pipe_base.OutputQuantizedConnection,  # noqa: N803
    ) -> None:
        """Read a coadd, inject and write it."""
        data_id: Any = butlerQC.quantum.dataId
        companions = butlerQC.get(inputRefs.companions)
        if f"flux_{data_id['band']}" not in companions.colnames:
            raise pipe_base.NoWorkFound(f"{data_id}: the companions have no flux in this band")
        if self.config.use_cell_coadds:
            # Needs lsst.afw, without which this module can still be read.
            from ..data_models.afw.exposures import stitch_cells

            coadd = stitch_cells(butlerQC.get(inputRefs.coadd_cell), butlerQC.get(inputRefs.background))
        else:
            coadd = butlerQC.get(inputRefs.coadd)
        rng = _generator(self.config.seed, data_id.required)
        result = self.run(coadd, companions, data_id["band"], rng)
        butlerQC.put(result.injected, outputRefs.injected)
        butlerQC.put(result.in_band, outputRefs.in_band)

    def run(self, coadd: Any, companions: Table, band: str, rng: np.random.Generator) -> pipe_base.Struct:
        """Inject companions into a coadd.

        Parameters
        ----------
        coadd : `lsst.afw.image.ExposureF`
            Coadd with WCS, PSF and photometric calibration; changed.
        companions : `astropy.table.Table`
            What `draw_companions` gave.
        band : `str`
            Whose fluxes to take.
        rng : `numpy.random.Generator`
            Source of the noise.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``injected``, the coadd, and ``in_band`` (`astropy.table.Table`)
            with ``id``, ``mag_<band>``, ``flux_<band>`` and ``snr_<band>`` of
            each companion; ``snr`` is 0 for one that could not be injected.
        """
        calibration = coadd.getPhotoCalib()
        flux = np.asarray(companions[f"flux_{band}"])
        mag = np.array([calibration.instFluxToMagnitude(float(value)) for value in flux])
        before = coadd.image.array.copy()
        good = (coadd.mask.array & self._bits(coadd)) == 0
        slope = variance_per_flux(before, coadd.variance.array, good)
        self._engine.inject_galsim_objects_into_exposure(
            coadd,
            self._engine.generate_galsim_objects(
                _injection_catalogue(companions, mag), calibration, coadd.getWcs(), fits_alignment="pixel"
            ),
            mask_plane_name=self.config.mask_plane,
            calib_flux_radius=self.config.calib_flux_radius_pix,
            inject_variance=False,
            add_noise=False,
        )
        light = np.nan_to_num(coadd.image.array - before)
        if self.config.add_noise:
            add_source_noise(coadd.image.array, coadd.variance.array, light, slope, rng)
        snr = companion_snr(
            light,
            coadd.variance.array,
            good,
            np.stack([companions["y"], companions["x"]], axis=1),
            (coadd.getY0(), coadd.getX0()),
        )
        coadd.getMetadata().set("INJECTED", "companions beside real objects")
        if coadd.getInfo().hasVisitInfo():
            coadd.getInfo().setVisitInfo(coadd.visitInfo.copyWith(hasSimulatedContent=True))
        self.metadata["n_injected"] = int((snr > 0).sum())
        self.log.info(
            "Injected %d of %d companions; a unit of flux brings %.3g of variance",
            self.metadata["n_injected"],
            len(companions),
            slope if self.config.add_noise else 0.0,
        )
        in_band = Table(
            {"id": np.asarray(companions["id"]), f"mag_{band}": mag, f"flux_{band}": flux, f"snr_{band}": snr}
        )
        return pipe_base.Struct(injected=coadd, in_band=in_band)

    def _bits(self, coadd: Any) -> int:
        known = coadd.mask.getMaskPlaneDict()
        return int(
            coadd.mask.getPlaneBitMask([plane for plane in self.config.bad_mask_planes if plane in known])
        )


def _injection_catalogue(companions: Table, mag: np.ndarray) -> Table:
    """Companions in lsst.source.injection's columns, one band's magnitudes.

    With pixels beside ra and dec, they come to lie on the very pixels that
    were drawn.
    """
    names = ("ra", "dec", "x", "y", "source_type", "n", "half_light_radius", "q", "beta")
    return Table({**{name: companions[name] for name in names}, "mag": mag})
