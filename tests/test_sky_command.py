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


"""``residualdetect detect`` on FITS images, and what comes out."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner

from lsst.meas.residualdetect.cli import main
from survey_files import CARDS, star, write

SHAPE = (110, 120)
FWHM_PIX = 4.5
BANDS = "gri"
SKY = WCS(fits.Header(CARDS))

# Right ascension, declination, fluxes in gri; the last of each pair is not in
# the catalogue.
BRIGHT = [(150.0 - 40 * CARDS["CD2_2"], 2.0 + 10 * CARDS["CD2_2"], (3000.0, 4000.0, 5000.0))]
BRIGHT += [(150.0 + 2 * CARDS["CD2_2"], 2.0 + 58 * CARDS["CD2_2"], (2000.0, 2500.0, 2000.0))]
HIDDEN = [(BRIGHT[0][0] - 5.3 * CARDS["CD2_2"], BRIGHT[0][1] + 5.6 * CARDS["CD2_2"], (1500.0, 900.0, 700.0))]
HIDDEN += [(BRIGHT[1][0] + 7.6 * CARDS["CD2_2"], BRIGHT[1][1] + 0.4 * CARDS["CD2_2"], (500.0, 700.0, 1100.0))]


def pixels(seed=11):
    """The bands of a blank sky of unit noise with those sources: (band, y, x)."""
    images = np.random.default_rng(seed).normal(0, 1, (3, *SHAPE)).astype(np.float32)
    for ra, dec, fluxes in (*BRIGHT, *HIDDEN):
        x, y = SKY.world_to_pixel(SkyCoord(ra, dec, unit="deg"))
        for image, flux in zip(images, fluxes, strict=True):
            image += star(SHAPE, float(y), float(x), flux, FWHM_PIX)
    return images


def known_table(folder):
    path = folder / "known.ecsv"
    ra, dec = zip(*[source[:2] for source in BRIGHT], strict=True)
    Table({"objid": ["first", "second"], "ra": ra, "dec": dec}).write(path, overwrite=True)
    return path


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], standalone_mode=False)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def detect(images, folder, *arguments, out="new.ecsv", detector="matched_filter"):
    """One command; the table it wrote."""
    command = ["detect", "--out", folder / out, "--detector", detector, "--peaks", known_table(folder)]
    for image in images:
        command += ["--image", image]
    run(*command, *arguments)
    return Table.read(folder / out, format="votable" if out.endswith("xml") else None)


def check_places(new):
    """The hidden sources are there, to 0.1 arcsec."""
    truth = SkyCoord([(ra, dec) for ra, dec, _ in HIDDEN], unit="deg")
    found = SkyCoord(new["ra"], new["dec"], unit="deg")
    index, distance, _ = truth.match_to_catalog_sky(found)
    assert distance.max() < 0.1 * u.arcsec, distance.arcsec
    return new[index]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Images in nJy with their variance."""
    folder = tmp_path_factory.mktemp("plain")
    for band, image in zip(BANDS, pixels(), strict=True):
        write(folder / f"{band}.fits", {"SCI": image, "VAR": np.ones(SHAPE, np.float32)}, BUNIT="nJy")
    return [f"{band}={folder / f'{band}.fits'}" for band in BANDS]


WIDTH = ("--psf-fwhm", FWHM_PIX * CARDS["CD2_2"] * 3600)


def test_everything_that_comes_out(plain, tmp_path):
    new = detect(
        plain,
        tmp_path,
        *WIDTH,
        *("--regions", tmp_path / "new.reg"),
        *("--catalogue", tmp_path / "all.fits"),
        *("--model-images", tmp_path / "images"),
        *("--picture", tmp_path / "new.png"),
        "--strict",
        detector="onnx",
    )
    rows = check_places(new)
    assert rows["nearest_known"].tolist() == ["first", "second"]
    assert (
        new["ra"].unit == u.deg and new["flux_g"].unit == u.nJy and new["nearest_distance"].unit == u.arcsec
    )
    for row, (_, _, fluxes) in zip(rows, HIDDEN, strict=True):
        for band, flux in zip(BANDS, fluxes, strict=True):
            assert abs(row[f"flux_{band}"] - flux) < 5 * row[f"flux_err_{band}"] + 0.05 * flux
            assert 3 < row[f"flux_err_{band}"] < 20
    assert new.meta["RADESYS"] == "ICRS" and new.meta["MODEL"] and len(new.meta["MSHA1"]) == 64
    assert any("g.fits" in line for line in new.meta["comments"])

    everything = Table.read(tmp_path / "all.fits")
    assert everything["name"].tolist()[:2] == ["first", "second"]
    assert everything["new"].sum() == len(new) and len(everything) == len(new) + 2
    assert everything["flux_i"].unit == u.nJy and everything.meta["THRESH"] == new.meta["THRESH"]
    for row, (_, _, fluxes) in zip(everything[:2], BRIGHT, strict=True):
        assert abs(row["flux_i"] - fluxes[2]) < 5 * row["flux_err_i"] + 0.05 * fluxes[2]

    regions = pytest.importorskip("regions", reason="the package regions comes with the extra 'files'")
    shapes = regions.Regions.read(str(tmp_path / "new.reg"), format="ds9")
    circles = [shape for shape in shapes if isinstance(shape, regions.CircleSkyRegion)]
    assert len(circles) == len(new) and len(shapes) == len(everything)
    apart = SkyCoord([circle.center for circle in circles]).separation(
        SkyCoord(everything["ra"][everything["new"]], everything["dec"][everything["new"]], unit="deg")
    )
    assert apart.max() < 0.001 * u.arcsec
    assert shapes[0].meta["text"] == "first"

    for band, image in zip(BANDS, pixels(), strict=True):
        with fits.open(tmp_path / "images" / f"residual_{band}.fits") as hdus:
            residual, header = hdus[0].data, hdus[0].header
        model = fits.getdata(tmp_path / "images" / f"model_{band}.fits")
        np.testing.assert_allclose(residual + model, image, atol=1e-3)
        assert np.std(residual) < 1.1 and header["BUNIT"] == "nJy"
        sky = WCS(header).pixel_to_world(70, 30)
        assert sky.separation(SKY.pixel_to_world(70, 30)) < 1e-6 * u.arcsec
    picture = matplotlib.image.imread(tmp_path / "new.png")
    assert picture.shape[1] > 2 * picture.shape[0] > 400


@pytest.mark.parametrize("ending", ["ecsv", "fits", "parquet", "xml", "csv"])
def test_tables_by_their_ending(plain, tmp_path, ending):
    new = detect(plain, tmp_path, *WIDTH, out=f"new.{ending}")
    check_places(new)
    assert {"id", "score", "snr_r", "flux_err_i", "area", "flag_edge"} <= set(new.colnames)
    if ending != "csv":
        assert [new[name].unit for name in ("dec", "y", "flux_r")] == [u.deg, u.pix, u.nJy]
    if ending == "xml":
        infos = {info.name: info.value for info in parse(tmp_path / "new.xml").resources[0].infos}
        assert infos["RADESYS"] == "ICRS"
    elif ending != "csv":
        assert new.meta["RADESYS"] == "ICRS"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known.ecsv", f"new.{ending}"]


def test_hyper_suprime_cam_cutouts(tmp_path):
    """Image, mask and variance in one file of counts of zero point 27."""
    images = []
    for band, image in zip(BANDS, pixels() / 57.544, strict=True):
        mask = np.zeros(SHAPE, np.int32)
        mask[:, :3] = 1 << 8
        path = write(
            tmp_path / f"cutout-HSC-{band.upper()}.fits",
            {"IMAGE": image, "MASK": mask, "VARIANCE": np.full(SHAPE, 57.544**-2, np.float32)},
            FLUXMAG0=63095734448.0194,
            FILTER=f"HSC-{band.upper()}",
        )
        with fits.open(path, mode="update") as hdus:
            hdus["MASK"].header["MP_NO_DATA"] = 8
            hdus["IMAGE"].header["EXTTYPE"] = "IMAGE"
        images.append(path)  # the band is the file's own word
    new = check_places(detect(images, tmp_path, *WIDTH))
    assert new["flux_g"].unit == u.nJy and abs(new["flux_g"][0] / HIDDEN[0][2][0] - 1) < 0.1


def test_a_legacy_surveys_brick(tmp_path):
    images = []
    for band, image in zip("grz", pixels() / 3630.78, strict=True):
        for what, values in (
            ("image", image),
            ("invvar", np.full(SHAPE, 3630.78**2, np.float32)),
            ("psfsize", np.full(SHAPE, FWHM_PIX * CARDS["CD2_2"] * 3600, np.float32)),
        ):
            hdu = fits.CompImageHDU(values, compression_type="GZIP_2", quantize_level=0)
            hdu.header.update(CARDS | {"IMTYPE": what, "BUNIT": "nanomaggy", "FILTER": band})
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / f"ls-0001p002-{what}-{band}.fits.fz")
        images.append(f"{band}={tmp_path / f'ls-0001p002-image-{band}.fits.fz'}")
    maskbits = fits.CompImageHDU(np.zeros(SHAPE, np.int16), name="MASKBITS", compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), maskbits]).writeto(tmp_path / "ls-0001p002-maskbits.fits.fz")
    # The size says nothing of the wings; these sources have none.
    new = check_places(detect(images, tmp_path, *WIDTH))
    assert abs(new["flux_z"][1] / HIDDEN[1][2][2] - 1) < 0.1


def test_a_segmentation_map_says_what_is_known(plain, tmp_path):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    labels = np.zeros(SHAPE, np.int32)
    for number, (ra, dec, _) in enumerate(BRIGHT, start=5):
        x, y = SKY.world_to_pixel(SkyCoord(ra, dec, unit="deg"))
        labels[np.hypot(rows - y, columns - x) < 12] = number
    path = write(tmp_path / "seg.fits", {"SEG": labels})
    command = ["detect", "--out", tmp_path / "new.ecsv", "--detector", "matched_filter", *WIDTH]
    for image in plain:
        command += ["--image", image]
    run(*command, "--footprints", path)
    new = check_places(Table.read(tmp_path / "new.ecsv"))
    assert new["nearest_known"].tolist() == ["5", "6"]


def test_images_become_scene_files_for_the_other_commands(plain, tmp_path):
    command = [
        "deblend",
        "--out",
        tmp_path / "deblended",
        "--peaks",
        known_table(tmp_path),
        "--name",
        "here",
        *WIDTH,
    ]
    for image in plain:
        command += ["--image", image]
    run(*command)
    scene = tmp_path / "deblended" / "here.npz"
    run("detect", scene, "--out", tmp_path / "new.csv", "--detector", "matched_filter")
    new = Table.read(tmp_path / "new.csv")
    assert new.colnames == ["scene", "y", "x", "score", "area", "parent"] and set(new["scene"]) == {"here"}
    run("detect", scene, "--out", tmp_path / "new.ecsv", "--detector", "matched_filter")
    new = Table.read(tmp_path / "new.ecsv")
    assert new.colnames[0] == "scene"
    run("ingest", tmp_path / "repo", scene)
    run("ingest", tmp_path / "repo", *command[command.index("--peaks") :])
    x, y = SKY.world_to_pixel(SkyCoord([source[:2] for source in HIDDEN], unit="deg"))
    for row, column in zip(y, x, strict=True):
        assert np.hypot(new["y"] - row, new["x"] - column).min() < 0.5


def test_what_a_notebook_shows(plain, tmp_path):
    from lsst.meas.residualdetect.deblend import deblend
    from lsst.meas.residualdetect.detection import detections_at
    from lsst.meas.residualdetect.detectors import load_detector
    from lsst.meas.residualdetect.find_missing import find_missing
    from lsst.meas.residualdetect.io.survey import PsfWidth, read_fits_scene

    content = read_fits_scene(
        dict(image.split("=") for image in plain),
        psfs=dict.fromkeys(BANDS, PsfWidth(FWHM_PIX * CARDS["CD2_2"] * 3600)),
        peaks=known_table(tmp_path),
    )
    detections = detections_at(content.scene, content.peaks)
    model = deblend(content.scene, detections.parents)
    missing = find_missing(content.scene, detections, model, load_detector("matched_filter"))
    new = missing.table[missing.table["peak"] > 0]
    assert new["peak"].tolist() == sorted(peak.id for peak in missing.new_peaks) and len(new) >= 2
    figure = missing.plot(int(new["parent"][0]))
    assert len(figure.axes) == 2 and figure.axes[0].get_xlim()[1] < SHAPE[1]
    with pytest.raises(ValueError, match="no parent 99"):
        missing.plot(99)
    html = missing._repr_html_()
    assert html.count("<table") == 1 and "data:image/png;base64," in html
    assert f"{len(new)} new of {len(missing.table)} candidates, 2 known" in html
    assert "<th>reason</th>" not in html
    row = new[0]
    for text in (f"{row['ra']:.6f}", f"{row['y']:.1f}", f"{row['score']:.3g}"):
        assert f"<td>{text}</td>" in html
    nowhere = replace(missing, scene=replace(missing.scene, sky_position=None))._repr_html_()
    assert "<th>y</th>" in nowhere and "<th>ra</th>" not in nowhere
