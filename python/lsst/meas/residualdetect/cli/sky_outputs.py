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


"""What ``residualdetect detect`` writes about the sky."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..detectors import Detector
from ..find_missing import FindMissingOptions, Missing
from ..io.scene_file import SceneFile
from ..scene_model import SceneModel
from .extras import need_extras

__all__ = ["SkyOutputs", "SkyTables", "metadata", "sky_tables"]


def metadata(content: SceneFile, detector: str, finder: Detector, threshold: float) -> dict[str, Any]:
    """What a table says of how it was made; keys are cards of FITS."""
    from ..release import __version__

    meta: dict[str, Any] = {
        "CREATOR": f"meas_residualdetect {__version__}",
        "RADESYS": "ICRS",
        "DETECTOR": detector,
        "THRESH": threshold,
    }
    package = getattr(finder, "package", None)
    if package is not None:
        meta["MODEL"] = package.name
        for number, (name, checksum) in enumerate(sorted(package.sha256.items()), start=1):
            meta[f"MFILE{number}"], meta[f"MSHA{number}"] = name, checksum
    for band, unit in zip(content.scene.bands, getattr(content, "flux_units", ()), strict=False):
        meta[f"FUNIT_{band}".upper()] = unit or "image units"
    lines = [
        f"{what}: {text}" for what in ("file", "note", "doubt") for text in getattr(content, f"{what}s", ())
    ]
    if lines:
        meta["comments"] = lines
    return meta


@dataclass(frozen=True, eq=False)
class SkyTables:
    """Known and new sources of a scene, and their model.

    Parameters
    ----------
    new, all : `astropy.table.Table`
        See `new_sources` and `all_sources`.
    model : `SceneModel`
        Of all of them.
    """

    new: Any
    all: Any
    model: SceneModel


def sky_tables(
    content: SceneFile, missing: Missing, model: SceneModel | Any, options: FindMissingOptions
) -> SkyTables:
    """Deblend again with the new sources, and say what is where.

    Parameters
    ----------
    content : `SceneFile`
        The pixels.
    missing : `Missing`
        What a look at their residual gave.
    model : `SceneModel` or `numpy.ndarray`
        What it was looked for with.
    options : `FindMissingOptions`
        How; deblended again as its singles.
    """
    from ..deblend import deblend
    from ..deblend.redeblend import redeblend
    from ..find_missing.sky_catalogue import all_sources, new_sources

    scene, after = content.scene, missing.detections
    if isinstance(model, SceneModel):
        model = redeblend(scene, missing.before, after, model, options.singles, engine=options.singles_engine)
    else:
        model = deblend(scene, after.parents, options.singles, engine=options.singles_engine)
    everything = all_sources(
        scene,
        missing,
        model,
        known_names=getattr(content, "peak_ids", None),
        flux_units=getattr(content, "flux_units", ()),
    )
    return SkyTables(new_sources(missing, everything), everything, model)


@dataclass(frozen=True)
class SkyOutputs:
    """Files beside the table of new sources; those that are `None` are not
    written.

    Parameters
    ----------
    regions, catalogue, model_images, picture : `~pathlib.Path`, optional
        As the options of these names.
    """

    regions: Path | None = None
    catalogue: Path | None = None
    model_images: Path | None = None
    picture: Path | None = None

    @property
    def given(self) -> list[str]:
        """Options that are given."""
        return [f"--{name.replace('_', '-')}" for name, path in vars(self).items() if path is not None]

    def check(self) -> None:
        """Refuse, before any work is done, what cannot be written."""
        from ..io.table_file import check_table_ending
        from .common import check_folder, check_parent

        for path in (self.regions, self.catalogue, self.picture):
            if path is not None:
                check_parent(path)
        if self.catalogue is not None:
            check_table_ending(self.catalogue)
        if self.picture is not None:
            if self.picture.suffix.lower() != ".png":
                raise click.UsageError(f"--picture {self.picture}: expected a name that ends with .png")
            need_extras("report")
        if self.model_images is not None:
            check_folder(self.model_images)

    def write(self, content: SceneFile, missing: Missing, tables: SkyTables, meta: dict[str, Any]) -> None:
        """Write the files."""
        from ..io.model_images import write_model_images
        from ..io.regions_file import write_regions
        from ..io.table_file import write_table
        from ..io.whole_file import whole_file

        if self.regions is not None:
            write_regions(self.regions, tables.all)
        if self.catalogue is not None:
            tables.all.meta |= meta
            write_table(self.catalogue, tables.all)
        if self.model_images is None and self.picture is None:
            return
        image = tables.model.image(content.scene)
        if self.model_images is not None:
            write_model_images(
                self.model_images,
                content.scene,
                image,
                units=getattr(content, "flux_units", ()),
                CREATOR=meta["CREATOR"],
            )
        if self.picture is not None:
            with whole_file(self.picture) as temporary:
                missing.plot(model_after=image).savefig(temporary, format="png")
