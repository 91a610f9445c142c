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


"""Kinds of bad input to ``residualdetect detect``: none is taken in silence."""

from __future__ import annotations

import gzip
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from conftest import invoke, make_scene
from lsst.meas.residualdetect.io.plausibility import check_plausible
from lsst.meas.residualdetect.io.remarks import Remarks
from lsst.meas.residualdetect.io.scene_file import SceneFile, write_scene_file
from survey_files import CARDS, star, write

SHAPE = (80, 90)
FWHM_PIX = 4.5
SOURCES = [(25.0, 30.0), (55.0, 60.0), (20.0, 70.0), (60.0, 20.0), (40.0, 45.0)]
WIDTH = ["--psf-fwhm", str(FWHM_PIX * CARDS["CD2_2"] * 3600)]


def sky(seed):
    """Stars in unit noise."""
    image = np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)
    for number, (y, x) in enumerate(SOURCES):
        image += star(SHAPE, y, x, 1000 + 300 * number, FWHM_PIX)
    return image


G, R = sky(1), sky(2)
ONES = np.ones(SHAPE, np.float32)
PSF = star((25, 25), 12, 12, 1, FWHM_PIX)


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


def saturated(array, level):
    """With a star that no pixel can hold."""
    return np.minimum(array + star(SHAPE, 40, 70, 80_000, FWHM_PIX), level)


class Input:
    """Files in a folder, and the command on them."""

    def __init__(self, folder):
        self.folder = folder
        self.bands = {"g": {"SCI": G, "VAR": ONES}, "r": {"SCI": R, "VAR": ONES}}
        self.cards = {"g": {"BUNIT": "nJy"}, "r": {"BUNIT": "nJy"}}
        self.options = [*WIDTH]

    def path(self, name):
        return self.folder / name

    def write(self, name, extensions, **cards):
        return str(write(self.path(name), extensions, **cards))

    def table(self, name="known.ecsv", **columns):
        Table(columns).write(self.path(name), overwrite=True)
        return ["--peaks", str(self.path(name))]

    def run(self):
        """What the command says on standard error, and whether it stopped."""
        images = []
        for band, extensions in self.bands.items():
            images += ["--image", f"{band}={self.write(f'{band}.fits', extensions, **self.cards[band])}"]
        out = self.path("out.ecsv")
        arguments = ["detect", *images, *self.options, "--out", str(out), "--detector", "matched_filter"]
        result = invoke(*arguments)
        assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
        assert out.exists() == (result.exit_code == 0)
        return result.stderr, result.exit_code


def image(change):
    return lambda i: i.bands["r"].update(SCI=change(R))


def variance(value):
    return lambda i: i.bands["r"].update(VAR=(value * ONES).astype(np.float32))


def cards(**more):
    return lambda i: i.cards["r"].update(more)


def option(*texts):
    return lambda i: i.options.extend(texts)


def with_file(option_name, name, extensions, prefix="r=", suffix=""):
    return lambda i: i.options.extend([option_name, f"{prefix}{i.write(name, extensions)}{suffix}"])


def raw(content):
    """A file in place of the image in r."""

    def change(i):
        del i.bands["r"]
        i.path("raw.fits").write_bytes(content)
        i.options += ["--image", f"r={i.path('raw.fits')}"]

    return change


def psf(array):
    def change(i):
        i.options[:] = ["--psf", f"g={i.write('psf_g.fits', {'PSF': PSF})}"]
        i.options += ["--psf", f"r={i.write('psf_r.fits', {'PSF': array})}"]

    return change


def shifted_twice(i):
    y, x = np.array(SOURCES + SOURCES[:1]).T
    i.options += i.table(y=y, x=x)


def field(seed):
    """More stars than `sky` has."""
    places = np.random.default_rng(8).permutation(
        [(y, x) for y in range(12, 72, 14) for x in range(12, 80, 14)]
    )
    return sum((star(SHAPE, y + 0.3, x, 4000, FWHM_PIX) for y, x in places), start=sky(seed))


def narrow(i):
    i.options[:] = ["--psf-fwhm", str(float(WIDTH[1]) / 1.8)]


def twice():
    """An instrument's file with an image of each of its detectors."""
    stream = BytesIO()
    images = [fits.ImageHDU(R, fits.Header(CARDS), name="SCI", ver=number) for number in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(stream)
    return stream.getvalue()


def shifted(dy, dx):
    y, x = np.array(SOURCES).T
    return lambda i: i.options.extend(i.table(y=y + dy, x=x + dx))


def whole_file():
    hdu = fits.PrimaryHDU(R, fits.Header(CARDS))
    return b"".join([hdu.header.tostring().encode(), R.astype(">f4").tobytes()])


def raw_extension(i, name):
    i.write("other.fits", {"SCI": R})
    del i.bands["r"]
    i.options += ["--image", f"r={i.path('other.fits')}[{name}]"]


def table_as_image(i):
    del i.bands["r"]
    Table({"a": [1.0]}).write(i.path("table.fits"))
    i.options += ["--image", f"r={i.path('table.fits')}"]


def rename(i, name, map_option=None):
    band = name.partition("=")[0]
    i.bands[band], i.cards[band] = i.bands.pop("r"), i.cards.pop("r")
    if map_option:
        i.options += [map_option, name]


def faint():
    return np.random.default_rng(5).normal(0, 1, SHAPE).astype(np.float32)


def garbage(i):
    i.path("garbage.fits").write_bytes(bytes(range(256)) * 20)
    return str(i.path("garbage.fits"))


def known(**columns):
    return lambda i: i.options.extend(i.table(**columns))


def segments(labels):
    return lambda i: footprints(i, labels)


def footprints(i, labels):
    i.options += ["--footprints", i.write("seg.fits", {"SEG": labels})]


def without_crval(i):
    i.write("bare.fits", {"SCI": R, "VAR": ONES}, BUNIT="nJy")
    with fits.open(i.path("bare.fits"), mode="update") as hdus:
        del hdus[1].header["CRVAL1"], hdus[1].header["CRVAL2"]
    del i.bands["r"]
    i.options += ["--image", f"r={i.path('bare.fits')}"]


def noisy(i, wrong):
    """Noise of 10 in place of 1, and what is wrong about its variance."""
    i.bands["r"] = {"SCI": 10 * R, "VAR": (wrong(100.0) * ONES).astype(np.float32)}


REFUSED = {
    "no such file": (option("--image", "i=/nowhere/i.fits"), "no such file"),
    "an empty file": (raw(b""), "raw.fits"),
    "a text file": (raw(b"This is no FITS file.\n" * 200), "raw.fits"),
    "a file cut short": (raw(whole_file()[:9000]), "raw.fits"),
    "a gzip file cut short": (raw(gzip.compress(whole_file())[:5000]), "raw.fits"),
    "an image of one axis": (image(lambda a: a[0]), "holds no image"),
    "an image without pixels": (raw(fits.PrimaryHDU().header.tostring().encode()), "holds no image"),
    "a cube": (image(lambda a: np.stack([a, a])), "a cube of 2 planes"),
    "an image of another size": (image(lambda a: a[1:]), "pixels"),
    "only NaN": (image(lambda a: a * np.nan), "no pixel is finite"),
    "a constant image": (image(lambda a: a * 0 + 3), "there is no image in this file"),
    "an extension that is not there": (lambda i: raw_extension(i, "ERR"), "no such extension"),
    "several images without a name": (
        lambda i: i.bands.update(r={"A": R, "B": R}),
        "any of its images could be meant",
    ),
    "several images of one name": (raw(twice()), "any of its images could be meant"),
    "an image of a name's fifth": (lambda i: raw_extension(i, "SCI,5"), "no such extension"),
    "the error page of a server": (raw(b"<!DOCTYPE html><html>404</html>" * 200), "raw.fits"),
    "a folder in place of a file": (lambda i: i.options.extend(["--image", f"i={i.folder}"]), "no such file"),
    "a table in place of an image": (lambda i: table_as_image(i), "holds no image"),
    "a variance in place of an image": (lambda i: i.bands.update(r={"VAR": ONES}), "holds no image"),
    "an unknown band": (lambda i: rename(i, "Q"), "unknown bands 'Q'"),
    "Johnson's R": (lambda i: rename(i, "R"), "Johnson's"),
    "a band twice": (lambda i: rename(i, "g2=g", "--band-map"), "give each band once"),
    "an image without a band": (
        lambda i: i.options.extend(["--image", i.write("x.fits", {"SCI": R})]),
        "BAND",
    ),
    "pixels of no size": (cards(CD1_1=0.0, CD2_2=0.0), "pixels of 3600 arcsec"),
    "another pixel scale": (cards(CD1_1=-0.3 / 3600, CD2_2=0.3 / 3600), "0.3 arcsec"),
    "a grid shifted by 3 pixels": (cards(CRPIX1=34.0), "3 pixels apart"),
    "another part of the sky": (cards(CRVAL1=190.0), "apart"),
    "zero variance": (variance(0), "no pixel that is positive"),
    "negative variance": (variance(-1), "no pixel that is positive"),
    "NaN as variance": (variance(np.nan), "no pixel that is positive"),
    "a variance of another size": (lambda i: i.bands["r"].update(VAR=ONES[1:]), "the image has"),
    "noise of an unknown kind": (option("--noise", "r=2:loud"), "expected one of variance"),
    "a number without a kind": (option("--noise", "r=2"), "unknown kind"),
    "noise that is no file": (option("--noise", "r=nothing.fits:rms"), "no such file"),
    "noise of a band without image": (option("--noise", "z=2:rms"), "no image of it"),
    "noise that is no pair": (option("--noise", "2:rms"), "expected BAND="),
    "a mask of another size": (with_file("--mask", "m.fits", {"MASK": ONES[1:].astype(np.int16)}), "m.fits"),
    "a mask of fractions": (with_file("--mask", "m.fits", {"MASK": 0.3 * ONES}), "no integers"),
    "a mask plane without number": (option("--mask-plane", "SAT=one"), "number of a bit"),
    "a mask plane beyond 64": (
        lambda i: (
            with_file("--mask", "m.fits", {"MASK": changed(ONES, 0, 0).astype(np.int16)})(i),
            option("--mask-plane", "SAT=70")(i),
        ),
        "expected 0 to 63",
    ),
    "a PSF of zeros": (psf(PSF * 0), "must be positive"),
    "a PSF with NaN": (psf(changed(PSF, (3, 3), np.nan)), "not finite"),
    "a PSF of one axis": (psf(PSF[0]), "psf_r.fits"),
    "a PSF of text": (lambda i: i.options.extend(["--psf", "r=psf.txt"]), "given twice"),
    "a width of zero": (lambda i: i.options.__setitem__(1, "0"), "must be positive"),
    "a width that is no number": (lambda i: i.options.__setitem__(1, "wide"), "expected arcsec"),
    "a Moffat profile without end": (lambda i: i.options.__setitem__(1, "0.8:moffat:1"), "above 1"),
    "no PSF and no star": (lambda i: (i.options.clear(), i.bands.update(r={"SCI": faint()})), "--psf-fwhm"),
    "sexagesimal positions": (known(ra=["10:00:00"], dec=["+02:00:00"]), "no sky positions"),
    "right ascensions in hours": (known(ra=[10.0], dec=[2.0]), "lies in the image"),
    "positions in radians": (known(ra=[2.618], dec=[0.0349]), "lies in the image"),
    "an empty catalogue": (known(x=[], y=[]), "no rows"),
    "a catalogue without positions": (known(flux=[1.0]), "has no positions"),
    "a catalogue of elsewhere": (
        lambda i: i.options.extend(i.table(ra=[10.0], dec=[-50.0])),
        "lies in the image",
    ),
    "declinations beyond the pole": (
        lambda i: i.options.extend(i.table(ra=[10.0], dec=[123.0])),
        "declinations",
    ),
    "a catalogue that is no table": (lambda i: i.options.extend(["--peaks", garbage(i)]), "garbage.fits"),
    "footprints of another size": (
        lambda i: footprints(i, np.ones((5, 5), np.int16)),
        "footprints have shape",
    ),
    "footprints without a label": (
        lambda i: footprints(i, np.zeros(SHAPE, np.int16)),
        "no pixel has a label",
    ),
    "footprints everywhere": (segments(np.ones(SHAPE, np.int16)), "looks inverted"),
    "inverted footprints": (segments((sky(3) < 5).astype(np.int16)), "looks inverted"),
    "negative labels": (segments(-np.ones(SHAPE, np.int16)), "expected 0 or more"),
    "labels of fractions": (segments(0.5 * ONES), "no integers"),
    "a table of unknown ending": (option("--catalogue", "all.doc"), "is no table"),
    "a picture that is none": (option("--picture", "all.doc"), ".png"),
    "a folder that is not there": (option("--regions", "/nowhere/a.reg"), "is no folder"),
}

DOUBTED = {
    "a grid shifted by half a pixel": (cards(CRPIX1=31.5), "0.5 pixels apart"),
    "magnitudes in place of light": (cards(BUNIT="mag/arcsec2"), "not its logarithm"),
    "no WCS and no pixel scale": (
        lambda i: [i.cards[b].update(CTYPE1="LINEAR", CTYPE2="LINEAR") for b in "gr"],
        "nothing tells the pixel scale",
    ),
    "a WCS that cannot be": (cards(CTYPE1="RA---XYZ"), "WCS cannot be used"),
    "a WCS without its place": (lambda i: without_crval(i), "no reference position"),
    "a card and a WCS that disagree": (cards(PIXSCALE=0.3), "a card says 0.3"),
    "a scale of degrees": (
        lambda i: (psf(PSF)(i), [i.cards[b].update(CD1_1=-0.168 / 60, CD2_2=0.168 / 60) for b in "gr"]),
        "pixel scale is wrong",
    ),
    "units of one band only": (lambda i: i.cards["r"].update(BUNIT="adu"), "colours mean nothing"),
    "zero points that disagree": (
        lambda i: i.cards["r"].update(BUNIT="", MAGZERO=27.0, PHOTZP=27.5),
        "disagree by",
    ),
    "Vega magnitudes": (lambda i: i.cards["r"].update(BUNIT="", MAGZERO=27.0, MAGSYS="Vega"), "not AB"),
    "some negative variances": (
        lambda i: i.bands["r"].update(VAR=changed(ONES, (3, 4), -1)),
        "1 pixels of the variance are negative",
    ),
    "an inverse variance as variance": (
        lambda i: noisy(i, lambda v: 1 / v),
        "inverse variance given as variance",
    ),
    "a relative weight as inverse variance": (
        lambda i: i.bands.update(r={"SCI": 10 * R, "INVVAR": ONES}),
        "the variance says 1",
    ),
    "an rms as variance": (lambda i: noisy(i, np.sqrt), "an rms given as variance"),
    "a variance of other units": (variance(1e4), "the variance says 100"),
    "a sky that was left": (image(lambda a: a + 5), "not subtracted"),
    "a sky that was subtracted twice": (image(lambda a: a - 3), "subtracted too much"),
    "most pixels NaN": (image(lambda a: changed(a, np.s_[:60], np.nan)), "hold no number"),
    "a part without data": (image(lambda a: changed(a, np.s_[:, :20], 0)), "likely there is no data"),
    "a value that means missing": (image(lambda a: changed(a, np.s_[:4], -999)), "likely there is no data"),
    "the same image twice": (image(lambda a: G), "has the pixels of band 'g'"),
    "a saturated core without a mask": (image(lambda a: saturated(a, 1000)), "likely it is saturated"),
    "one in an average of exposures": (
        image(lambda a: saturated(a, 1000) + 0.8 * faint()),
        "likely it is saturated",
    ),
    "an inverted mask": (
        with_file("--mask", "m.fits", {"MASK": changed(ONES, np.s_[:9, :9], 0).astype(np.uint8)}),
        "may be inverted",
    ),
    "a mask whose bits nobody names": (
        with_file(
            "--mask", "m.fits", {"MASK": changed(changed(0 * ONES, (3, 4), 5), (9, 9), 2).astype(np.uint8)}
        ),
        "nothing says what the bits",
    ),
    "a bit without a name": (
        lambda i: (
            with_file("--mask", "m.fits", {"MASK": changed(0 * ONES, (3, 4), 6).astype(np.uint8)})(i),
            option("--mask-plane", "SAT=1")(i),
        ),
        "bits 2 of the mask have no name",
    ),
    "a PSF off its centre": (psf(np.roll(PSF, 2, axis=1)), "x=+2.00 pixels off"),
    "a PSF narrower than a pixel": (psf(star((25, 25), 12, 12, 1, 1.2)), "too coarse"),
    "an oversampled PSF": (psf(star((51, 51), 25, 25, 1, 3 * FWHM_PIX)), "as sharp as the PSF"),
    "a width in other pixels": (
        lambda i: (i.bands["r"].update(SCI=field(2)), narrow(i)),
        "times as wide as the PSF",
    ),
    "a PSF that is cut off": (psf(PSF[10:15, 10:15]), "likely it is cut off"),
    "a PSF with a sky": (psf(PSF + 3e-4), "its sky was not subtracted"),
    "a PSF with a negative sky": (psf(PSF - 3e-4), "of the PSF is negative"),
    "peaks counted from 1": (shifted(1, 1), "counted from 1?"),
    "peaks off by a constant": (shifted(0, 2.5), "off them"),
    "peaks with x and y swapped": (
        known(y=[70.0, 20.0], x=[20.0, 60.0]),
        "with x and y swapped 100%",
    ),
    "sources that are listed twice": (
        lambda i: shifted_twice(i),
        "likely they are twice in the catalogue",
    ),
    "a mask as segmentation map": (segments((sky(3) > 3).astype(np.int16)), "in place of a segmentation map"),
    "peaks without a place": (
        known(y=[25.0, np.nan], x=[30.0, 5.0]),
        "1 of 2 sources have no position",
    ),
}


def test_there_are_sixty_kinds():
    assert len(REFUSED) + len(DOUBTED) >= 60


def test_what_is_right_says_nothing(tmp_path):
    said, code = Input(tmp_path).run()
    assert code == 0 and "warning" not in said, said


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, kind):
    change, words = REFUSED[kind]
    case = Input(tmp_path)
    change(case)
    said, code = case.run()
    assert code != 0 and words in said, said
    assert said.count("\n") <= 5 and "Traceback" not in said  # click adds its usage


@pytest.mark.parametrize("kind", DOUBTED)
def test_what_is_likely_wrong_is_said_and_strict_refuses(tmp_path, kind):
    change, words = DOUBTED[kind]
    case = Input(tmp_path)
    change(case)
    case.options.append("--strict")
    said, code = case.run()
    assert code == 1 and words in said, said


def test_a_doubt_is_a_warning_in_the_table_too(tmp_path):
    case = Input(tmp_path)
    DOUBTED["a sky that was left"][0](case)
    said, code = case.run()
    assert code == 0 and "warning: r.fits" not in said and "not subtracted" in said
    comments = Table.read(tmp_path / "out.ecsv").meta["comments"]
    assert any(line.startswith("doubt: ") and "not subtracted" in line for line in comments)


def test_scene_files_are_doubted_as_images_are(tmp_path):
    scene = make_scene([(30, 33, 500.0)], rng=np.random.default_rng(1), name="plain")
    labels = np.ones(scene.shape, np.int32)
    labels[25:36, 28:39] = 0
    write_scene_file(tmp_path / "a.npz", SceneFile(scene, peaks=np.array([[30.0, 33.0]]), footprints=labels))
    arguments = [
        "detect",
        str(tmp_path / "a.npz"),
        "--detector",
        "matched_filter",
        "--out",
        str(tmp_path / "a.csv"),
    ]
    result = invoke(*arguments)
    assert result.exit_code == 0 and "looks inverted" in result.stderr
    result = invoke(*arguments, "--strict")
    assert result.exit_code == 1 and "looks inverted" in result.stderr


@pytest.mark.parametrize("unit", [1e-18, 1e-9, 1.0, 1e9])
def test_doubts_do_not_depend_on_the_unit(unit):
    scene = make_scene([(30, 33, 500.0)], rng=np.random.default_rng(1))
    remarks = Remarks()
    check_plausible(replace(scene, images=scene.images * unit, variance=scene.variance * unit**2), remarks)
    assert not remarks.doubts
