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


"""Options of the commands that read FITS images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ..io.survey.fits_scene import FitsScene

__all__ = ["band_map_of", "fits_options", "read_images"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--image",
        "images",
        multiple=True,
        metavar="[BAND=]FILE",
        help="FITS image of a band, as g=g.fits, g=file.fits[SCI] or, for a cube, g,r,i=cube.fits, or a "
        "coadd of lsst.images; without BAND= its header says which.",
    ),
    click.option(
        "--psf",
        "psfs",
        multiple=True,
        metavar="BAND=FILE",
        help="PSF of a band: an image, a PSFEx model, or a cube with a table of positions. Without it the "
        "image's own, else measured from stars.",
    ),
    click.option(
        "--psf-fwhm",
        "widths",
        multiple=True,
        metavar="[BAND=]ARCSEC[:moffat[:BETA]]",
        help="A Gaussian or Moffat PSF of this full width at half maximum; without BAND= in all bands.",
    ),
    click.option(
        "--noise",
        multiple=True,
        metavar="BAND=FILE[:KIND]",
        help="Noise of a band, a file or a number; KIND is variance, weight, invvar or rms. Without it the "
        "image's own, else measured.",
    ),
    click.option(
        "--mask",
        "masks",
        multiple=True,
        metavar="BAND=FILE",
        help="Mask of a band; 0 is good. Without it the image's own.",
    ),
    click.option(
        "--mask-plane",
        "planes",
        multiple=True,
        metavar="NAME=BIT",
        help="What a bit of the masks means, as SAT=1, where the file does not say (MP_ cards).",
    ),
    click.option(
        "--band-map",
        "band_map",
        multiple=True,
        metavar="NAME=BAND",
        help="What a name of a band means, as i2=i.",
    ),
    click.option(
        "--peaks",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Table of the sources that are known (ra, dec or x, y). Without it they are detected.",
    ),
    click.option("--footprints", metavar="FILE", help="Segmentation map of those; 0 = no source."),
    click.option(
        "--image-scale",
        type=click.FloatRange(min=0, min_open=True),
        help="Arcsec per pixel of the images, in place of what their WCS says.",
    ),
    click.option("--name", help="What to call the scene of the images; the first file's stem if not given."),
    click.option(
        "--strict", is_flag=True, help="Stop where input is likely not what it says, instead of warning."
    ),
)


def fits_options(command: F) -> F:
    """Give a command the options that `read_images` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise click.UsageError(f"{option} {text}: expected BAND=..., as {option} g={text or '...'}")
    return key.strip(), value.strip()


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, value = _pair(text, option)
        if key in pairs:
            raise click.UsageError(f"{option} {key}=... is given twice")
        pairs[key] = value
    return pairs


def _images(texts: Sequence[str]) -> dict[str, str]:
    """File of each band, from what the user says or the file."""
    from ..io.survey.fits_scene import band_of_file

    images: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        # A folder's name may hold an equals sign.
        if not equals or "/" in key or Path(text).exists():
            key, value = band_of_file(text), text
        key = key.strip()
        if not key or not value.strip():
            raise click.UsageError(f"--image {text}: expected BAND=FILE")
        if key in images:
            raise click.UsageError(f"two images of band {key}: {images[key]} and {value}")
        images[key] = value
    return images


def _psfs(files: Sequence[str], widths: Sequence[str], images: Mapping[str, str]) -> dict[str, Any]:
    from ..io.survey.fits_psf import PsfWidth

    psfs: dict[str, Any] = dict(_pairs(files, "--psf"))
    for text in widths:
        band, equals, width = text.partition("=")
        for one in [band.strip()] if equals else [name for names in images for name in names.split(",")]:
            if one in psfs:
                raise click.UsageError(f"the PSF of band {one} is given twice")
            psfs[one] = PsfWidth.parse(width if equals else text)
    return psfs


def band_map_of(given: Sequence[str]) -> dict[str, str] | None:
    """What ``--band-map`` says, which holds for scene files as well."""
    return _pairs(given, "--band-map") or None


def read_images(
    images: Sequence[str],
    psfs: Sequence[str],
    widths: Sequence[str],
    noise: Sequence[str],
    masks: Sequence[str],
    planes: Sequence[str],
    band_map: Sequence[str],
    peaks: Path | None,
    footprints: str | None,
    image_scale: float | None,
    name: str | None,
    strict: bool,
) -> FitsScene | None:
    """Read the scene that the options of `fits_options` describe.

    Returns
    -------
    scene : `FitsScene` or `None`
        `None` if no image is given.

    Raises
    ------
    click.UsageError
        Raised if options are no pairs, are given twice, or are given without
        an image.
    FitsError, SceneError
        Raised by `read_fits_scene`.
    """
    others = {
        "--psf": psfs,
        "--psf-fwhm": widths,
        "--noise": noise,
        "--mask": masks,
        "--mask-plane": planes,
        "--peaks": peaks,
        "--footprints": footprints,
        "--image-scale": image_scale,
        "--name": name,
    }
    if not images:
        idle = [option for option, value in others.items() if value]
        if idle:
            raise click.UsageError(f"{', '.join(idle)} go with --image, and none is given")
        return None
    from ..io.survey.fits_scene import read_fits_scene

    bits = {}
    for plane, bit in _pairs(planes, "--mask-plane").items():
        if not bit.isdigit():
            raise click.UsageError(f"--mask-plane {plane}={bit}: expected the number of a bit")
        bits[plane.upper()] = int(bit)
    files = _images(images)
    scene = read_fits_scene(
        files,
        psfs=_psfs(psfs, widths, files),
        noise=_pairs(noise, "--noise"),
        masks=_pairs(masks, "--mask"),
        mask_planes=bits or None,
        band_map=band_map_of(band_map),
        peaks=peaks,
        footprints=footprints,
        pixel_scale_arcsec=image_scale,
        name=name,
        strict=strict,
    )
    for note in scene.notes:
        click.echo(note, err=True)
    return scene
