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

"""Inputs that once went wrong without a word: the right value, or a refusal
that says what is wrong.
"""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.residualdetect import Scene
from lsst.meas.residualdetect.detection import detect
from lsst.meas.residualdetect.detectors.matched_filter import MatchedFilter

SHAPE = (61, 71)
PEAKS = ((30.0, 30.0), (34.0, 42.0), (22.0, 40.0))


def blend(peaks=PEAKS, *, shape=SHAPE, bands="gri", psf_sigma=2.0, size=1.5, flux=100.0, noise=0.1):
    """Arrays of a scene file: Gaussian galaxies in white noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    r2 = np.add.outer(np.arange(-20, 21) ** 2, np.arange(-20, 21) ** 2)
    psf = np.exp(-r2 / 2 / psf_sigma**2)
    images = np.random.default_rng(1).normal(0, noise, (len(bands), *shape))
    s2 = psf_sigma**2 + size**2
    for index, (py, px) in enumerate(peaks):
        galaxy = np.exp(-((y - py) ** 2 + (x - px) ** 2) / 2 / s2) / (2 * np.pi * s2)
        for band in range(len(bands)):
            images[band] += flux * (1 + 0.3 * band * (index % 2)) * galaxy
    return {
        "images": images.astype(np.float32),
        "variance": np.full(images.shape, noise**2, np.float32),
        "psfs": np.stack([psf / psf.sum()] * len(bands)).astype(np.float32),
        "bands": np.array(list(bands)),
        "peaks": np.array(peaks, float),
    }


def scene_of(arrays):
    return Scene(
        images=arrays["images"],
        variance=arrays["variance"],
        psfs=arrays["psfs"],
        bands=tuple(arrays["bands"].tolist()),
    )


@pytest.mark.parametrize("exponent", [-24, -18, -12, -9, -6, 6, 12, 15, 18])
def test_peaks_and_scores_do_not_depend_on_the_flux_unit(exponent):
    arrays = blend(flux=3000)
    expected = detect(scene_of(arrays))
    scores = [c.score for c in MatchedFilter().detect(scene_of(arrays), np.zeros_like(arrays["images"]), [])]
    unit = 10.0**exponent
    arrays["images"] = arrays["images"].astype(np.float64) * unit
    arrays["variance"] = arrays["variance"].astype(np.float64) * unit**2
    scene = scene_of(arrays)
    assert detect(scene) == expected
    assert sorted((peak.y, peak.x) for peak in expected.peaks) == sorted(PEAKS)
    found = MatchedFilter().detect(scene, np.zeros_like(scene.images), [])
    assert [c.score for c in found] == pytest.approx(scores, rel=1e-4)
