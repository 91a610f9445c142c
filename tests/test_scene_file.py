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

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.lib import recfunctions

from conftest import make_scene
from lsst.meas.residualdetect import SceneError
from lsst.meas.residualdetect.io.scene_file import SceneFile, read_scene_file, write_scene_file


def _content(scene):
    truth = np.zeros(2, [("id", "i8"), ("y", "f8"), ("x", "f8")] + [(f"flux_{b}", "f8") for b in "gri"])
    return SceneFile(
        scene,
        peaks=np.array([[30.0, 33.0], [12.5, 8.25]]),
        footprints=np.arange(scene.shape[0] * scene.shape[1], dtype=np.int32).reshape(scene.shape) % 3,
        model=scene.images * np.float32(0.5),
        truth=truth,
    )


def test_round_trip_loses_nothing(tmp_path):
    scene = make_scene([(130, 233, 1000)], rng=np.random.default_rng(1), origin=(100, 200), name="one")
    scene.mask[0, 3, 4] = 1 << 5
    content = _content(scene)
    write_scene_file(tmp_path / "one.npz", content)
    back = read_scene_file(tmp_path / "one.npz")
    for key in ("images", "variance", "psfs", "mask"):
        np.testing.assert_array_equal(getattr(back.scene, key), getattr(scene, key))
    for key in ("bands", "origin", "pixel_scale_arcsec", "mask_planes", "name"):
        assert getattr(back.scene, key) == getattr(scene, key)
    for key in ("peaks", "footprints", "model", "truth"):
        np.testing.assert_array_equal(getattr(back, key), getattr(content, key))


def test_optional_parts_stay_absent(tmp_path):
    write_scene_file(tmp_path / "bare.npz", SceneFile(make_scene([])))
    back = read_scene_file(tmp_path / "bare.npz", pixel_scale_arcsec=0.168)
    assert (back.peaks, back.footprints, back.model, back.truth) == (None, None, None, None)
    assert back.scene.pixel_scale_arcsec == 0.168


@pytest.mark.parametrize(
    ("given", "band_map", "expected"),
    [
        ((b"g", b"r", b"i"), None, "gri"),
        (("HSC-G", "HSC-R", "HSC-I"), None, "gri"),
        (("g", "VR", "Y106"), None, ("g", "VR", "Y106")),
        (("g", "VR", "Y106"), {"VR": "r", "Y106": "y"}, "gry"),
        (("r", "i", "i2"), None, ("r", "i", "i2")),
    ],
)
def test_bands_have_the_names_of_this_package(given, band_map, expected, tmp_path, caplog):
    write_scene_file(tmp_path / "one.npz", _content(make_scene([])))
    with np.load(tmp_path / "one.npz") as stored:
        arrays = {**stored, "bands": np.array(given)}
    texts = [band.decode() if isinstance(band, bytes) else band for band in given]
    fields = dict(zip(("flux_g", "flux_r", "flux_i"), (f"flux_{text}" for text in texts), strict=True))
    arrays["truth"] = recfunctions.rename_fields(arrays["truth"], fields)
    np.savez(tmp_path / "two.npz", **arrays)
    back = read_scene_file(tmp_path / "two.npz", band_map=band_map)
    assert back.scene.bands == tuple(expected)
    assert back.truth.dtype.names[3:] == tuple(f"flux_{band}" for band in expected)
    assert ("two: takes band" in caplog.text) == (texts != list(expected))


@pytest.mark.parametrize("shape", [(4, 3), (2, 4), (6,), (1, 3, 2)])
def test_peaks_that_are_not_pairs_are_refused(shape, tmp_path):
    content = replace(_content(make_scene([])), peaks=np.ones(shape))
    write_scene_file(tmp_path / "odd.npz", content)
    found = re.escape(f"odd.npz: peaks has shape {shape}; expected (n, 2)")
    with pytest.raises(SceneError, match=found):
        read_scene_file(tmp_path / "odd.npz")


def test_no_peaks_have_any_shape(tmp_path):
    write_scene_file(tmp_path / "none.npz", replace(_content(make_scene([])), peaks=np.zeros(0)))
    assert read_scene_file(tmp_path / "none.npz").peaks.shape == (0, 2)


@pytest.fixture
def arrays(tmp_path):
    write_scene_file(tmp_path / "whole.npz", _content(make_scene([])))
    with np.load(tmp_path / "whole.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("variance"), "lacks ['variance']"),
        (lambda a: a.update(variance=a["variance"][:2]), "variance has shape"),
        (lambda a: a.update(footprints=a["footprints"][1:]), "footprints has shape"),
        (lambda a: a.update(footprints=(a["footprints"] > 0) * 2**32), "footprints has the label 4294967296"),
        (lambda a: a.update(footprints=a["footprints"] / 1000), "expected integers of 32 bits"),
        (lambda a: a.update(footprints=a["footprints"] * np.nan), "footprints has the label nan"),
        (lambda a: a.update(model=a["model"] * np.nan), "model has pixels that are not finite"),
        (lambda a: a.update(model=a["model"][:, 1:]), "model has shape"),
        (lambda a: a.update(truth=a["truth"][["id", "y"]]), "truth lacks the fields ['x'"),
        (lambda a: a.update(psfs=np.zeros_like(a["psfs"])), "PSF in band 'g' sums to 0"),
        (lambda a: a.update(images=np.array([["x"]], object)), "allow_pickle"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(arrays, tmp_path, change, words):
    change(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(SceneError) as caught:
        read_scene_file(tmp_path / "bad.npz")
    assert "bad.npz: " in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_truncated_file_is_named(tmp_path, keep):
    write_scene_file(tmp_path / "whole.npz", SceneFile(make_scene([])))
    content = (tmp_path / "whole.npz").read_bytes()
    size = int(keep * len(content)) if isinstance(keep, float) else keep
    (tmp_path / "short.npz").write_bytes(content[:size])
    with pytest.raises(SceneError, match="short.npz: "):
        read_scene_file(tmp_path / "short.npz")


def test_a_missing_file_and_a_single_array_are_named(tmp_path):
    with pytest.raises(SceneError, match="none.npz: no such file"):
        read_scene_file(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(SceneError, match="array.npz: is no .npz archive"):
        read_scene_file(tmp_path / "array.npz")


def test_writing_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scene.npz"
    write_scene_file(path, SceneFile(make_scene([])))
    before = path.read_bytes()

    def broken(target, **arrays):
        target.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        write_scene_file(path, SceneFile(make_scene([(30, 30, 9)])))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_is_told_in_one_line_also_if_it_says_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise EOFError

    write_scene_file(tmp_path / "blend.npz", SceneFile(make_scene([])))
    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(SceneError, match=r"blend\.npz: EOFError$"):
        read_scene_file(tmp_path / "blend.npz")
