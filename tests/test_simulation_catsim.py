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


"""A user's own galaxy catalogue."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from lsst.meas.residualdetect.simulation import (
    SimulationError,
    SimulationOptions,
    read_catsim,
    simulate_scene,
    simulate_scenes,
)
from lsst.meas.residualdetect.simulation.catsim import draw_from_catalogue
from lsst.meas.residualdetect.simulation.simulation_options import BANDS
from lsst.meas.residualdetect.simulation.sources import flux_njy

TINY = Path(__file__).parent / "data" / "catsim_tiny.csv"


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("suffix", ["csv", "fits", "ecsv", "xml"])
def test_reads_whatever_astropy_reads(tmp_path, suffix):
    table = Table.read(TINY)
    path = tmp_path / f"galaxies.{suffix}"
    table.write(path, format="votable" if suffix == "xml" else None)
    read = read_catsim(path)
    assert len(read) == len(table)
    assert np.asarray(read["i_ab"]) == pytest.approx(np.asarray(table["i_ab"]))


def test_components_have_the_catalogues_flux_and_shape(rng):
    catalogue = read_catsim(TINY)
    sources = draw_from_catalogue(catalogue, 300, 28, rng)
    rows = np.array([np.abs(catalogue["i_ab"] - mag).argmin() for mag in sources.mag_i])
    assert set(rows) == set(range(len(catalogue)))
    drawn = catalogue[rows]
    for index, band in enumerate(BANDS):
        assert sources.flux_njy[:, index] == pytest.approx(flux_njy(drawn[f"{band}_ab"]))
    norm = drawn["fluxnorm_disk"] + drawn["fluxnorm_bulge"] + drawn["fluxnorm_agn"]
    assert sources.bulge_fraction == pytest.approx(np.asarray(drawn["fluxnorm_bulge"] / norm))
    assert sources.point_njy[:, 3] / sources.flux_njy[:, 3] == pytest.approx(
        np.asarray(drawn["fluxnorm_agn"] / norm)
    )
    disk = np.asarray(drawn["fluxnorm_disk"] > 0)
    assert sources.disk.radius_arcsec[disk] == pytest.approx(np.sqrt(drawn["a_d"] * drawn["b_d"])[disk])
    assert sources.disk.axis_ratio[disk] == pytest.approx(np.asarray(drawn["b_d"][disk] / drawn["a_d"][disk]))
    # Disk and bulge are turned together.
    both = disk & np.asarray(drawn["fluxnorm_bulge"] > 0)
    assert sources.disk.angle_rad[both] == pytest.approx(sources.bulge.angle_rad[both])


def test_magnitude_limit_holds(rng):
    sources = draw_from_catalogue(read_catsim(TINY), 100, 23.0, rng)
    assert sources.mag_i.max() <= 23.0 + 1e-9


def test_scene_from_catalogue():
    catalogue = read_catsim(TINY)
    options = SimulationOptions(shape=(100, 100), star_density=0, mag_limit=26)
    (alone,) = simulate_scenes(1, options, 5, jobs=1, catalogue=catalogue)
    together = list(simulate_scenes(2, options, 5, jobs=2, catalogue=catalogue))
    assert (alone[0].images == together[0][0].images).all()
    assert np.isin(np.round(alone[1]["mag_i"], 3), catalogue["i_ab"]).all()
    assert np.isin(alone[1]["redshift"], catalogue["redshift"]).all()


def drop(table):
    table.remove_columns(["a_b", "y_ab"])


def not_a_number(table):
    table["z_ab"][3] = np.nan


def masked(table):
    table["r_ab"] = MaskedColumn(table["r_ab"], mask=np.arange(len(table)) == 1)


def no_rows(table):
    table.remove_rows(slice(None))


def words(table):
    table["i_ab"] = ["bright"] * len(table)


def negative(table):
    table["fluxnorm_bulge"][0] = -1


def no_size(table):
    table["b_d"][0] = 0


def dark(table):
    table["fluxnorm_disk"][1] = 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop, "lacks the columns a_b, y_ab"),
        (not_a_number, "'z_ab' has 1 bad of 6 values, the first in row 3"),
        (masked, "'r_ab' has 1 bad of 6 values, the first in row 1"),
        (no_rows, "has no rows"),
        (words, "'i_ab' is not numeric"),
        (negative, "'fluxnorm_bulge' has 1 bad"),
        (no_size, "'b_d' has 1 bad"),
        (dark, "row 1; expected a disk, a bulge or a nucleus"),
    ],
)
def test_bad_catalogues_are_refused_with_file_and_column(tmp_path, spoil, message):
    table = Table.read(TINY)
    spoil(table)
    path = tmp_path / "galaxies.ecsv"
    table.write(path)
    with pytest.raises(SimulationError, match=message) as error:
        read_catsim(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a table at all", None])
def test_unreadable_files_are_refused(tmp_path, content):
    path = tmp_path / "galaxies.fits"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SimulationError, match=r"galaxies\.fits: cannot be read") as error:
        read_catsim(path)
    assert "\n" not in str(error.value)


def test_catalogue_without_bright_galaxies_is_refused(rng):
    with pytest.raises(SimulationError, match=r"'i_ab' begins at 20\.8; expected some brighter"):
        simulate_scene(SimulationOptions(mag_limit=19), rng, catalogue=read_catsim(TINY))
