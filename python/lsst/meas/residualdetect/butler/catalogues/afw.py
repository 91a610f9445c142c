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

"""The merged detection catalogue of lsst.afw, to the core's and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lsst.afw.detection import Footprint as AfwFootprint
from lsst.afw.detection import PeakCatalog
from lsst.afw.geom import Span, SpanSet
from lsst.afw.table import Schema, SchemaMapper, SourceCatalog, SourceTable

from ...boxes import nearest_pixel
from ...detections import Detections, Footprint, Parent, Peak
from ..forms import DataModelError

__all__ = ["AfwCatalogues", "Schemas", "peak_ids", "read_catalogue", "write_catalogue"]

_PEAK = "merge_peak_"
_FOOTPRINT = "merge_footprint_"

# Names in the place of a band's that are none.
_SKY = "sky"
_RESIDUAL = "residual"

_ITERATION = "residual_iteration"
_SCORE = "residual_score"


class Schemas:
    """Schemas of the catalogue and of its peaks, before and after.

    Parameters
    ----------
    source, peak : `lsst.afw.table.Schema`
        Those of the catalogue that is read.

    Attributes
    ----------
    source, peak : `lsst.afw.table.Schema`
        Those of the catalogue that is written, with
        ``merge_footprint_residual`` and, for peaks, ``merge_peak_residual``,
        ``residual_iteration`` and ``residual_score``, unless they were there.
    from_source, from_peak : `lsst.afw.table.SchemaMapper`
        From the one to the other.
    """

    def __init__(self, source: Schema, peak: Schema) -> None:
        self.from_source = _mapper(
            source,
            [
                (
                    _FOOTPRINT + _RESIDUAL,
                    "Flag",
                    "residual detection added a peak to this footprint, or founded it",
                )
            ],
        )
        self.from_peak = _mapper(
            peak,
            [
                (
                    _PEAK + _RESIDUAL,
                    "Flag",
                    "peak found in the residual of a deblend; its merge_peak_<band> say where it stands out "
                    "in the residual, not that it was detected in the band; all, if in none by itself",
                ),
                (_ITERATION, np.int32, "in which residual detection the peak was found; 0 for none"),
                (
                    _SCORE,
                    np.float64,
                    "score that the residual detector gave the peak, for a network the probability of being "
                    "right; NaN for peaks of detection",
                ),
            ],
        )
        self.source: Schema = self.from_source.getOutputSchema()
        self.peak: Schema = self.from_peak.getOutputSchema()


def _mapper(schema: Schema, fields: Sequence[tuple[str, Any, str]]) -> SchemaMapper:
    mapper = SchemaMapper(schema)
    mapper.addMinimalSchema(schema, True)
    output = mapper.editOutputSchema()
    for name, dtype, doc in fields:
        if name not in schema:
            output.addField(name, type=dtype, doc=doc)
    return mapper


def peak_ids(catalogue: SourceCatalog) -> dict[tuple[int, int], int]:
    """A number for each peak that no other in the catalogue has.

    The stack promises only that a peak's id is unique in its parent. It is
    kept where it is unique in the catalogue too.

    Returns
    -------
    ids : `dict`
        Number by the ids of parent and peak.
    """
    pairs = [
        (int(record.getId()), int(peak.getId()))
        for record in catalogue
        for peak in record.getFootprint().peaks
    ]
    spare = max((peak for _, peak in pairs), default=0) + 1
    ids: dict[tuple[int, int], int] = {}
    taken = set()
    for parent, peak in pairs:
        number = peak
        if peak in taken:
            number = spare
            spare += 1
        taken.add(number)
        ids[parent, peak] = number
    return ids


def _bands(names: Iterable[str]) -> list[str]:
    """Bands that the fields of peaks name."""
    found = {name.removeprefix(_PEAK) for name in names if name.startswith(_PEAK)}
    return sorted(found - {_SKY, _RESIDUAL})


def _position(centre: float, pixel: int) -> float:
    """A peak's position, or its pixel's if the two do not agree."""
    return centre if nearest_pixel(centre) == pixel else float(pixel)


def read_catalogue(catalogue: SourceCatalog, pseudo_columns: Sequence[str]) -> Detections:
    """The core's catalogue from the stack's.

    Parameters
    ----------
    catalogue : `lsst.afw.table.SourceCatalog`
        Merged detections, top-level parents only.
    pseudo_columns : `~collections.abc.Sequence` [`str`]
        Flags of records or peaks that make a parent a sky object.

    Raises
    ------
    DataModelError
        Raised if a parent has no peak, or is not a parent.
    """
    numbers = peak_ids(catalogue)
    peak_fields: set[str] = set()
    for record in catalogue[:1]:
        peak_fields = set(record.getFootprint().peaks.schema.getNames())
    bands = [(band, _PEAK + band) for band in _bands(peak_fields)]
    pseudo_records = [name for name in pseudo_columns if name in catalogue.schema]
    pseudo_peaks = [name for name in pseudo_columns if name in peak_fields]
    parents = []
    for record in catalogue:
        footprint = record.getFootprint()
        if record.getParent() or not len(footprint.peaks):
            raise DataModelError(
                f"record {record.getId()} is no parent of a merged detection catalogue: it has parent "
                f"{record.getParent()} and {len(footprint.peaks)} peaks"
            )
        peaks = []
        for peak in footprint.peaks:
            iteration = peak[_ITERATION] if _ITERATION in peak_fields else 0
            peaks.append(
                Peak(
                    numbers[int(record.getId()), int(peak.getId())],
                    _position(peak.getFy(), peak.getIy()),
                    _position(peak.getFx(), peak.getIx()),
                    frozenset(band for band, name in bands if peak[name]),
                    iteration,
                    peak[_SCORE] if iteration else None,
                )
            )
        corner = footprint.getBBox().getMin()
        first = footprint.peaks[0]
        parents.append(
            Parent(
                int(record.getId()),
                Footprint.from_mask(footprint.spans.asArray() != 0, (corner.y, corner.x)),
                tuple(peaks),
                is_sky=any(record[name] for name in pseudo_records) or any(first[n] for n in pseudo_peaks),
            )
        )
    return Detections(tuple(parents))


def _span_set(footprint: Footprint) -> SpanSet:
    return SpanSet([Span(int(y), int(first), int(after) - 1) for y, first, after in footprint.spans])


def _set_flags(record: Any, schema: Schema, prefix: str, bands: Iterable[str]) -> None:
    for name in (prefix + band for band in bands):
        if name in schema:
            record.set(name, True)


def _seen_in(peak: Peak, schema: Schema) -> Iterable[str]:
    """Bands whose flags a peak has. MergeMeasurementsTask wants one at least:
    what stands out in the sum of the bands alone has all.
    """
    bands = _bands(schema.getNames())
    return peak.bands.intersection(bands) or bands


def _add_peak(footprint: AfwFootprint, peak: Peak, schema: Schema) -> None:
    # The value is that of a detection image, which we do not have; 0 stays
    # last if somebody sorts.
    added = footprint.addPeak(peak.x, peak.y, 0.0)
    # addPeak cuts the pixel's place off where the deblender wants the nearest.
    row, column = nearest_pixel((peak.y, peak.x)).tolist()
    added.setIy(row)
    added.setIx(column)
    added.setId(peak.id)
    added.set(_PEAK + _RESIDUAL, True)
    added.set(_ITERATION, peak.iteration)
    added.set(_SCORE, np.nan if peak.score is None else float(peak.score))
    _set_flags(added, schema, _PEAK, _seen_in(peak, schema))


def write_catalogue(detections: Detections, original: SourceCatalog, schemas: Schemas) -> SourceCatalog:
    """The stack's catalogue with new peaks and grown footprints.

    Parameters
    ----------
    detections : `Detections`
        The core's catalogue, made from that of ``original``.
    original : `lsst.afw.table.SourceCatalog`
        The stack's, as it was read.
    schemas : `Schemas`
        Before and after.

    Returns
    -------
    catalogue : `lsst.afw.table.SourceCatalog`
        Records and peaks of ``original`` as they were, in their order, and
        the new ones after them.
    """
    table = SourceTable.make(schemas.source, original.getIdFactory())
    catalogue = SourceCatalog(table)
    catalogue.extend(original, schemas.from_source)
    if len(original):
        table.getIdFactory().notify(max(int(record.getId()) for record in original))
    parents = {parent.id: parent for parent in detections}
    known = {int(record.getId()) for record in original}
    for number in parents:
        if number not in known:
            # The core numbers them, after all ids of a deblend.
            catalogue.addNew().setId(number)
    for record in catalogue:
        parent = parents[int(record.getId())]
        old = record.getFootprint()
        new_peaks = parent.peaks[len(old.peaks) if old else 0 :]
        spans = _span_set(parent.footprint) if new_peaks else old.spans
        footprint = AfwFootprint(spans, schemas.peak)
        if old:
            footprint.setRegion(old.getRegion())
            footprint.peaks.extend(old.peaks, schemas.from_peak)
            for peak in footprint.peaks:
                if not peak[_ITERATION]:
                    peak.set(_SCORE, np.nan)
        for peak in new_peaks:
            _add_peak(footprint, peak, schemas.peak)
        record.setFootprint(footprint)
        if new_peaks:
            record.set(_FOOTPRINT + _RESIDUAL, True)
        if not old:
            bands = {band for peak in new_peaks for band in _seen_in(peak, schemas.peak)}
            _set_flags(record, schemas.source, _FOOTPRINT, bands)
    return catalogue


class AfwCatalogues:
    """See `~lsst.meas.residualdetect.butler.Catalogues`."""

    def __init__(self, init_inputs: Mapping[str, Any] | None, pseudo_columns: Sequence[str]) -> None:
        missing = [name for name in ("input_schema", "peak_schema") if name not in (init_inputs or {})]
        if init_inputs is None or missing:
            raise DataModelError(
                f"data model 'afw' needs the init inputs {missing}: schemas of the catalogue"
            )
        self._schemas = Schemas(init_inputs["input_schema"].schema, init_inputs["peak_schema"].schema)
        self._pseudo_columns = tuple(pseudo_columns)

    @property
    def init_outputs(self) -> Mapping[str, Any]:
        """Schemas of the catalogue written, as empty catalogues."""
        return {
            "output_schema": SourceCatalog(self._schemas.source),
            "output_peak_schema": PeakCatalog(self._schemas.peak),
        }

    def read(self, catalogue: SourceCatalog) -> Detections:
        """Top-level parents, sky objects marked."""
        return read_catalogue(catalogue, self._pseudo_columns)

    def write(self, detections: Detections, original: SourceCatalog) -> SourceCatalog:
        """The catalogue with new peaks appended and footprints grown."""
        return write_catalogue(detections, original, self._schemas)
