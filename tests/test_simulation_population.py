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


"""The drawn population against the distributions it cites."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lsst.meas.residualdetect.simulation import SimulationOptions, simulate_scene
from lsst.meas.residualdetect.simulation.colours import flux_ratios
from lsst.meas.residualdetect.simulation.counts import draw_magnitudes, galaxy_counts, star_counts
from lsst.meas.residualdetect.simulation.placement import place_galaxies
from lsst.meas.residualdetect.simulation.population import draw_galaxies, draw_redshifts
from lsst.meas.residualdetect.simulation.simulation_options import BANDS
from lsst.meas.residualdetect.simulation.stars import stellar_locus


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def colour(flux, blue, red):
    return -2.5 * np.log10(flux[:, BANDS.index(blue)] / flux[:, BANDS.index(red)])


def test_counts_follow_the_science_book(rng):
    assert galaxy_counts(25) == pytest.approx(46)
    assert galaxy_counts(27) / galaxy_counts(26) == pytest.approx(10**0.31)
    # No step at the knee.
    assert galaxy_counts(20.5 - 1e-9) == pytest.approx(galaxy_counts(20.5))
    assert star_counts(25) == 1
    mag = draw_magnitudes(200_000, 20, 28, rng)
    for limit in (22, 24, 26):
        expected = (galaxy_counts(limit) - galaxy_counts(20)) / (galaxy_counts(28) - galaxy_counts(20))
        assert (mag < limit).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 200_000))


@pytest.mark.parametrize("density", [0.5, 1.0, 2.0])
def test_scene_has_as_many_galaxies_as_the_counts_say(density):
    options = SimulationOptions(shape=(600, 600), bands=("i",), density=density, mag_limit=27)
    _, truth = simulate_scene(options, np.random.default_rng(3))
    area_arcmin2 = (650 * 0.2 / 60) ** 2
    for limit in (25, 27):
        found = (~truth["is_star"] & (truth["mag_i"] < limit)).sum()
        expected = density * galaxy_counts(limit) * area_arcmin2
        # Pairs make the counts scatter more than Poisson's.
        assert found == pytest.approx(expected, abs=5 * np.sqrt(expected))


def test_stars_have_the_density_asked_for():
    options = SimulationOptions(shape=(600, 600), bands=("i",), density=0, star_density=50)
    _, truth = simulate_scene(options, np.random.default_rng(3))
    expected = 50 * (650 * 0.2 / 60) ** 2
    assert (truth["mag_i"] < 25).sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert truth["is_star"].all()
    assert (truth["r_half_arcsec"] == 0).all()


def test_pairs_follow_the_angular_correlation(rng):
    options = SimulationOptions(shape=(8000, 8000), clustering=0.2)
    per_arcmin2 = float(galaxy_counts(options.mag_limit))
    positions, host = place_galaxies(per_arcmin2, options, rng)
    assert len(positions) / (8050 * 0.2 / 60) ** 2 == pytest.approx(per_arcmin2, rel=0.02)
    away = np.hypot(*(positions - positions[host]).T) * 0.2
    assert away.max() < options.clustering_radius_arcsec
    edges = np.array([0.3, 0.6, 1.2, 2.4, 4.8])
    middle = ((positions > 50) & (positions < 7949)).all(axis=1)
    tree, centres = cKDTree(positions), cKDTree(positions[middle])
    within = centres.count_neighbors(tree, edges / 0.2)
    found = np.diff(within) / middle.sum()
    uniform = np.diff(np.pi * edges**2) * per_arcmin2 / 3600
    expected = 0.2 * np.diff(2 * np.pi * edges**1.2 / 1.2) * per_arcmin2 / 3600
    error = np.sqrt((uniform + expected) * 2 / middle.sum())
    assert (np.abs(found - uniform - expected) < 5 * error).all()


def test_no_clustering_means_no_companions(rng):
    positions, host = place_galaxies(100.0, SimulationOptions(clustering=0), rng)
    assert (host == np.arange(len(positions))).all()


def test_redshifts_of_a_magnitude_limited_sample(rng):
    mag = draw_magnitudes(200_000, 20, 25, rng)
    redshift = draw_redshifts(mag, rng)
    # LSST Science Book: mean 3 z0 for all galaxies with i < 25.
    assert redshift.mean() == pytest.approx(3 * (0.0417 * 25 - 0.744), rel=0.03)


def test_shapes_and_sizes(rng):
    mag = np.full(100_000, 24.0)
    galaxies = draw_galaxies(mag, draw_redshifts(mag, rng), rng)
    assert galaxies.mag_i == pytest.approx(mag)
    spheroid = galaxies.bulge_fraction == 1
    assert spheroid.mean() == pytest.approx(0.1, abs=0.005)
    disks = ~spheroid
    major = galaxies.disk.radius_arcsec / np.sqrt(galaxies.disk.axis_ratio) / 1.678347
    assert np.log(major[disks]).mean() == pytest.approx(-1.145 - 0.269, abs=0.01)
    e = (1 - galaxies.disk.axis_ratio) / (1 + galaxies.disk.axis_ratio)
    # Moments of Miller et al.'s distribution, by quadrature.
    grid = np.linspace(0, 0.804, 20_001)
    density = grid * (1 - np.exp((grid - 0.804) / 0.2539)) / ((1 + grid) * np.hypot(grid, 0.0256))
    assert e[disks].mean() == pytest.approx((grid * density).sum() / density.sum(), abs=0.005)
    assert e.max() < 0.804
    # Fainter galaxies are smaller.
    faint = draw_galaxies(mag + 3, galaxies.redshift, rng)
    assert np.median(faint.r_half_arcsec) < 0.6 * np.median(galaxies.r_half_arcsec)


def test_breaks_move_through_the_bands():
    ellipticals = np.zeros(3)
    local, middle, far = flux_ratios(ellipticals, np.array([0.0, 0.4, 0.9]))[:, None]
    # The 4000 Angstrom break lies in u or g at z=0, between g and r at 0.4,
    # between r and i at 0.9.
    assert colour(middle, "g", "r") > colour(local, "g", "r") + 0.5
    assert colour(far, "r", "i") > colour(middle, "r", "i") + 0.2
    young = flux_ratios(np.full(2, 4.0), np.array([0.5, 3.3]))
    assert colour(young, "u", "g") == pytest.approx([0, 2], abs=1)
    assert colour(young, "g", "r")[0] == pytest.approx(0, abs=1e-6)
    with np.errstate(divide="ignore"):
        assert colour(flux_ratios(np.array([3.0]), np.array([5.0])), "u", "i")[0] > 5
    # Colours change steadily with type.
    types = flux_ratios(np.linspace(0, 4, 9), np.full(9, 0.3))
    assert (np.diff(colour(types, "g", "i")) < 0).all()


def test_stellar_locus_of_known_types():
    # Sun-like and M dwarf stars: Covey et al. (2007, AJ 134, 2398), rounded.
    sun, m_dwarf = stellar_locus(np.array([0.12, 1.5]))
    assert sun[1] - sun[2] == pytest.approx(0.42, abs=0.1)
    assert sun[0] - sun[1] == pytest.approx(1.1, abs=0.4)
    assert m_dwarf[1] - m_dwarf[2] == pytest.approx(1.3, abs=0.2)
    assert m_dwarf[3] - m_dwarf[4] == pytest.approx(0.75, abs=0.2)


def test_companions_share_their_hosts_redshift():
    _, truth = simulate_scene(
        SimulationOptions(shape=(600, 600), bands=("i",), star_density=0), np.random.default_rng(2)
    )
    _, counts = np.unique(truth["redshift"], return_counts=True)
    share = SimulationOptions().companion_fraction
    assert (counts == 2).sum() / len(truth) == pytest.approx(share, abs=0.05)
    assert counts.max() == 2
