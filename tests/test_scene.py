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

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_scene
from lsst.meas.residualdetect import Scene, SceneError
from lsst.meas.residualdetect.mask_bits import PlaneNumbers, has_bits, set_bit


def _parts(**changes):
    parts = {
        "images": np.ones((2, 8, 9), np.float32),
        "variance": np.ones((2, 8, 9), np.float32),
        "psfs": np.ones((2, 5, 5), np.float32),
        "bands": ("g", "r"),
    }
    return parts | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variance": np.ones((2, 8, 8))}, "variance has shape (2, 8, 8), but images have (2, 8, 9)"),
        ({"mask": np.zeros((1, 8, 9), int)}, "mask has shape (1, 8, 9)"),
        ({"mask": np.zeros((2, 8, 9))}, "mask has type float64"),
        ({"bands": ("g",)}, "expected 2 different names"),
        ({"bands": ("g", "g")}, "expected 2 different names"),
        ({"images": np.ones((8, 9))}, "expected (band, y, x)"),
        ({"images": np.ones((2, 0, 9)), "variance": np.ones((2, 0, 9))}, "none of them 0"),
        ({"psfs": np.ones((2, 4, 5))}, "4 x 5 pixels"),
        ({"psfs": np.stack([np.ones((5, 5)), np.zeros((5, 5))])}, "PSF in band 'r' sums to 0"),
        ({"psfs": np.stack([np.full((5, 5), np.nan), np.ones((5, 5))])}, "PSF in band 'g' has pixels"),
        ({"psfs": np.ones((3, 5, 5))}, "expected (2, h, w)"),
        ({"pixel_scale_arcsec": 0.0}, "pixel scale is 0.0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(SceneError) as caught:
        Scene(**_parts(**changes))
    assert words in str(caught.value)


def test_pixels_without_information_are_masked():
    parts = _parts()
    parts["images"][0, 1, 1] = np.nan
    parts["images"][1, 2, 2] = np.inf
    parts["variance"][0, 3, 3] = 0
    parts["variance"][0, 4, 4] = -1
    parts["variance"][0, 5, 5] = np.nan
    scene = Scene(**parts)
    bad = np.zeros((2, 8, 9), bool)
    bad[[0, 1, 0, 0, 0], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]] = True
    np.testing.assert_array_equal(scene.bad(()), bad)
    np.testing.assert_array_equal(scene.weights() == 0, bad)
    assert np.isfinite(scene.images).all()
    assert (scene.variance > 0).all()
    assert np.isnan(parts["images"][0, 1, 1]), "the caller's array must stay as it was"


def test_named_planes_are_bad_and_others_are_not():
    mask = np.zeros((2, 8, 9), int)
    mask[0, 0, 0] = 1 << 0  # BAD
    mask[0, 0, 1] = 1 << 5  # DETECTED
    mask[1, 0, 2] = 1 << 1  # SAT
    scene = Scene(**_parts(mask=mask))
    assert np.argwhere(scene.bad()).tolist() == [[0, 0, 0], [1, 0, 2]]
    assert np.argwhere(scene.bad(["DETECTED"])).tolist() == [[0, 0, 1]]


def test_a_plane_that_the_data_lack_is_an_error_that_lists_theirs_unless_it_is_a_default():
    scene = Scene(**_parts(mask_planes={"NO_DATA": 0, "HOLE": 1}), name="other")
    assert not scene.bad().any()
    assert not scene.bad(["SAT", "HOLE"]).any()
    with pytest.raises(
        SceneError, match=r"'other' has no mask planes \['SATT'\]; it has \['HOLE', 'NO_DATA'\]"
    ):
        scene.bad(["HOLE", "SATT"])
    hidden = scene.with_bad(np.ones((2, 8, 9), bool))
    assert hidden.bad(["HOLE"]).all() and hidden.mask_planes == scene.mask_planes


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("bit", [31, 32, 40, 62, 63])
def test_high_bits_are_planes_as_others_are(bit, dtype):
    mask = np.zeros((2, 8, 9), np.uint64)
    mask[0, 2, 3] = 1 << bit
    planes = {"NO_DATA": 0, "HIGH": bit}
    images = np.ones((2, 8, 9))
    images[1, 1, 1] = np.nan
    scene = Scene(**_parts(mask=mask.astype(dtype), mask_planes=planes, images=images))
    assert np.argwhere(scene.bad(["HIGH"])).tolist() == [[0, 2, 3], [1, 1, 1]]
    assert np.argwhere(scene.bad()).tolist() == [[1, 1, 1]]
    scene = Scene(**_parts(mask=mask.astype(dtype), mask_planes={"NO_DATA": bit}, images=images))
    assert np.argwhere(scene.bad(())).tolist() == [[0, 2, 3], [1, 1, 1]]
    assert np.argwhere(scene.with_bad(np.zeros((2, 8, 9), bool)).bad()).tolist() == [[0, 2, 3], [1, 1, 1]]
    assert scene.with_bad(np.ones((2, 8, 9), bool)).bad(()).all()


def test_bit_31_stays_one_bit_beside_higher_ones():
    """Of 32 bits it is the sign."""
    mask = np.zeros((2, 6, 7), np.int32)
    mask[0, 2, 3] = -(1 << 31)
    wide = set_bit(mask, 40, np.zeros(mask.shape, bool))
    assert wide.dtype == np.int64
    assert has_bits(wide, [31]).sum() == 1 and not has_bits(wide, [32, 40, 63]).any()


def test_bit_31_of_an_unsigned_mask_of_32_bits_is_kept():
    mask = np.zeros((2, 8, 9), np.uint32)
    mask[0, 2, 3] = 1 << 31
    scene = Scene(**_parts(mask=mask, mask_planes={"NO_DATA": 0, "HIGH": 31}))
    assert np.argwhere(scene.bad(["HIGH"])).tolist() == [[0, 2, 3]]


@pytest.mark.parametrize("bit", [-1, 64])
def test_bits_that_no_mask_has_are_refused(bit):
    with pytest.raises(SceneError, match=f"'FAR': {bit}.*must be 0 to 63"):
        Scene(**_parts(mask_planes={"NO_DATA": 0, "FAR": bit}))


@pytest.mark.parametrize("unit", [1e-24, 1e-18, 1e-9, 1.0, 1e9, 1e18])
def test_pixels_of_any_flux_unit_survive(unit):
    scene = make_scene([(20, 30, 100)], rng=np.random.default_rng(2), noise=0.1)
    other = replace(
        scene,
        images=scene.images.astype(np.float64) * unit,
        variance=scene.variance.astype(np.float64) * unit**2,
    )
    assert not other.bad().any()
    np.testing.assert_allclose(other.images / unit, scene.images, rtol=1e-6)
    np.testing.assert_allclose(other.weights() * unit**2, scene.weights(), rtol=1e-6)
    chi2 = (np.square(other.images) * other.weights()).sum(dtype=np.float64)
    assert chi2 == pytest.approx((np.square(scene.images) * scene.weights()).sum(dtype=np.float64), rel=1e-4)


def test_ordinary_pixels_are_float32_and_not_copied():
    parts = _parts()
    scene = Scene(**parts, mask=np.zeros((2, 8, 9), np.int32))
    assert scene.images is parts["images"] and scene.variance is parts["variance"]
    assert Scene(**_parts(images=np.ones((2, 8, 9)))).images.dtype == np.float32


def test_a_variance_whose_inverse_overflows_is_no_data():
    variance = np.ones((2, 8, 9), np.float32)
    variance[0, 1, 1] = 1e-42
    scene = Scene(**_parts(variance=variance))
    assert np.argwhere(scene.bad(())).tolist() == [[0, 1, 1]]
    assert np.isfinite(scene.weights()).all()


def test_psfs_are_normalised():
    assert Scene(**_parts(psfs=7 * np.ones((2, 5, 5)))).psfs.sum(axis=(1, 2)) == pytest.approx([1, 1])


def test_select_bands_keeps_everything_together():
    scene = make_scene([(20, 30, 100)])
    chosen = scene.select_bands(["i", "g"])
    assert chosen.bands == ("i", "g")
    np.testing.assert_array_equal(chosen.images, scene.images[[2, 0]])
    np.testing.assert_array_equal(chosen.psfs, scene.psfs[[2, 0]])
    with pytest.raises(SceneError, match=r"scene 'made' has bands \['g', 'r', 'i'\], not \['z'\]"):
        scene.select_bands(["g", "z"])


def test_more_planes_than_bits_are_refused():
    numbers = PlaneNumbers((1, 2, 2), {f"P{bit}": bit for bit in range(64) if bit != 5})
    there = np.eye(2, dtype=bool)
    numbers.add(0, [("P63", there), ("LAST", ~there)], "band 'g'")
    assert numbers.names["LAST"] == 5
    assert (has_bits(numbers.mask[0], [63]) == there).all() and (
        has_bits(numbers.mask[0], [5]) != there
    ).all()
    with pytest.raises(ValueError, match="band 'g': more than 64 mask planes are in use; no bit for MORE"):
        numbers.add(0, [("MORE", there)], "band 'g'")
