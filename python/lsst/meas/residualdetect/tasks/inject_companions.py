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


"""Companions injected into the coadd of a band."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from astropy.table import Table

import lsst.pipe.base as pipe_base
import lsst.pipe.base.connectionTypes as cT
from lsst.pex.config import Field, ListField, RangeField

from ..detections import places_of
from ..injection.light import add_source_noise, companion_snr, variance_per_flux
from ..scene import DEFAULT_BAD_PLANES
from .patch import BAND_DIMENSIONS, PATCH_DIMENSIONS, InputRefs, OutputRefs, Quantum, patch_generator

__all__ = [
    "InjectCompanionsConfig",
    "InjectCompanionsConnections",
    "InjectCompanionsTask",
    "NoInjectionError",
]


class NoInjectionError(RuntimeError):
    """lsst.source.injection cannot be imported."""


class InjectCompanionsConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=BAND_DIMENSIONS,
    defaultTemplates={"injected_prefix": "injected_"},
):
    """Inputs and outputs of `InjectCompanionsTask`."""

    coadd = cT.Input(
        doc="Coadd.",
        name="deep_coadd",
        storageClass="ExposureF",
        dimensions=BAND_DIMENSIONS,
    )
    coadd_cell = cT.Input(
        doc="Coadd in cells, in place of the other.",
        name="deep_coadd_cell_predetection",
        storageClass="MultipleCellCoadd",
        dimensions=BAND_DIMENSIONS,
    )
    background = cT.Input(
        doc="Background to subtract from the coadd in cells.",
        name="deep_coadd_background",
        storageClass="Background",
        dimensions=BAND_DIMENSIONS,
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
        dimensions=BAND_DIMENSIONS,
    )
    in_band = cT.Output(
        doc="Magnitudes and signal-to-noise ratios of the companions in this band.",
        name="{injected_prefix}companions_band",
        storageClass="ArrowAstropy",
        dimensions=BAND_DIMENSIONS,
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

    def runQuantum(self, butlerQC: Quantum, inputRefs: InputRefs, outputRefs: OutputRefs) -> None:
        """Read a coadd, inject and write it."""
        data_id: Any = butlerQC.quantum.dataId
        companions = butlerQC.get(inputRefs.companions)
        if f"flux_{data_id['band']}" not in companions.colnames:
            raise pipe_base.NoWorkFound(f"{data_id}: the companions have no flux in this band")
        if self.config.use_cell_coadds:
            # Needs lsst.afw, without which this module can still be read.
            from ..butler.images.afw import stitch_cells

            coadd = stitch_cells(butlerQC.get(inputRefs.coadd_cell), butlerQC.get(inputRefs.background))
        else:
            coadd = butlerQC.get(inputRefs.coadd)
        rng = patch_generator(self.config.seed, data_id.required)
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
            places_of(companions),
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
        # Cameras may lack those that are bad by default; another is an error.
        lacks = set(DEFAULT_BAD_PLANES) - set(coadd.mask.getMaskPlaneDict())
        planes = [plane for plane in self.config.bad_mask_planes if plane not in lacks]
        return int(coadd.mask.getPlaneBitMask(planes))


def _injection_catalogue(companions: Table, mag: np.ndarray) -> Table:
    """Companions in lsst.source.injection's columns, one band's magnitudes.

    With pixels beside ra and dec, they come to lie on the very pixels that
    were drawn.
    """
    names = ("ra", "dec", "x", "y", "source_type", "n", "half_light_radius", "q", "beta")
    return Table({**{name: companions[name] for name in names}, "mag": mag})
