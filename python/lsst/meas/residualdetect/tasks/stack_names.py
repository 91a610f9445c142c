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


"""Data set names of the stack's pipelines, old and new, for an iteration.

Pipelines can hand parameters on but not compose names of them, so their
``python`` blocks call these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["STACK_NAMES", "name_redeblend", "name_residual_detection"]

# Pictures of a deblend are named by the catalogue that was deblended, all else by
# that which is written.
_BASE: Mapping[str, str] = {
    "coadds": "deep_coadd",
    "coadds_cell": "deep_coadd_cell_predetection",
    "backgrounds": "deep_coadd_background",
    "deconvolved": "deconvolved_deep_coadd",
    "detections": "object_detection_merged{}",
    "schema": "object_detection_merged{}_schema",
    "peak_schema": "object_detection_peak{}_schema",
    "models": "object_scarlet_models{}",
    "candidates": "object_candidates{}",
    "model_images": "deep_coadd_model{}",
    "residual_images": "deep_coadd_residual{}",
    "deblend_schema": "object_deblend{}_schema",
    "deblended": "object_deblend{}",
    "parents": "object_parent_patch{}",
    "new_objects": "object{}",
}

STACK_NAMES: Mapping[str, Mapping[str, str]] = {
    "base-v2": _BASE,
    "deepCoadd": {
        **_BASE,
        "coadds": "deepCoadd_calexp",
        "coadds_cell": "deepCoaddCell",
        "backgrounds": "deepCoadd_calexp_background",
        "detections": "deepCoadd_mergeDet{}",
        "schema": "deepCoadd_mergeDet{}_schema",
        "peak_schema": "deepCoadd_peak{}_schema",
        "models": "deepCoadd_scarletModelData{}",
        "candidates": "deepCoadd_candidates{}",
        "model_images": "deepCoadd_model{}",
        "residual_images": "deepCoadd_residual{}",
        "deblend_schema": "deepCoadd_deblendedFlux{}_schema",
        "deblended": "deepCoadd_deblendedCatalog{}",
    },
}
"""Names by kind of pipeline; the braces are for the suffix of an iteration."""


def _name(config: Any, names: str, suffix: str, connections: Mapping[str, str]) -> None:
    if names not in STACK_NAMES:
        raise ValueError(f"parameter names is {names!r}; expected {' or '.join(STACK_NAMES)}")
    for connection, what in connections.items():
        setattr(config.connections, connection, STACK_NAMES[names][what].format(suffix))


def name_residual_detection(config: Any, names: str, before: str, after: str) -> None:
    """Name what residual detection reads and writes in the stack.

    Parameters
    ----------
    config : `ResidualDetectionConfig`
        Changed.
    names : `str`
        One of `STACK_NAMES`.
    before, after : `str`
        Suffixes of the data sets read and written.
    """
    config.connections.before, config.connections.after = before, after
    kept = ("coadds", "coadds_cell", "backgrounds", "detections", "models", "model_images", "residual_images")
    read = dict(zip(kept, kept, strict=True)) | {"input_schema": "schema", "peak_schema": "peak_schema"}
    written = {"new_detections": "detections", "candidates": "candidates"}
    written |= {"output_schema": "schema", "output_peak_schema": "peak_schema"}
    _name(config, names, before, read)
    _name(config, names, after, written)


def name_redeblend(config: Any, names: str, before: str, after: str) -> None:
    """Name what the stack's deblender reads and writes as the second pass.

    Parameters
    ----------
    config : `RedeblendConfig`
        Changed.
    names : `str`
        One of `STACK_NAMES`.
    before, after : `str`
        Suffixes of the deblend whose unchanged parents are kept, and of the
        catalogue deblended and of what is written.
    """
    connections = {
        "inputSchema": "schema",
        "peakSchema": "peak_schema",
        "mergedDetections": "detections",
        "coadds": "coadds",
        "coadds_cell": "coadds_cell",
        "backgrounds": "backgrounds",
        "deconvolvedCoadds": "deconvolved",
        "outputSchema": "deblend_schema",
        "deblendedCatalog": "deblended",
        "scarletModelData": "models",
        "objectParents": "parents",
        "candidates": "candidates",
        "new_objects": "new_objects",
    }
    _name(config, names, after, connections)
    old = {"old_objects": "deblended", "old_models": "models", "old_parents": "parents"}
    _name(config, names, before, old)
