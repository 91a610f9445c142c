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


"""Galaxy colours: template spectra through LSST's filters."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import galsim
import numpy as np
import numpy.typing as npt

from .simulation_options import BANDS

__all__ = ["N_TYPES", "flux_ratios"]

# Coleman, Wu & Weedman (1980, ApJS 43, 393), extended into the ultraviolet
# and infrared, as GalSim ships them; a spectrum flat in f_nu, that of young
# stars without dust, comes last.
_TEMPLATES = ("E", "Sbc", "Scd", "Im")
N_TYPES: int = len(_TEMPLATES) + 1

_REDSHIFTS = np.linspace(0, 6, 121)
_WAVE_NM = np.arange(300.0, 1150.0, 2.0)
_LYMAN_ALPHA_NM = 121.567
_LYMAN_LIMIT_NM = 91.18


def _igm_transmission(wave_nm: npt.NDArray[np.float64], redshift: float) -> npt.NDArray[np.float64]:
    """Mean transmission of the Lyman alpha forest (Madau 1995, ApJ 441, 18);
    nothing passes below the Lyman limit.
    """
    absorber = wave_nm / _LYMAN_ALPHA_NM
    forest = np.where(wave_nm < _LYMAN_ALPHA_NM * (1 + redshift), np.exp(-0.0036 * absorber**3.46), 1)
    return np.where(wave_nm < _LYMAN_LIMIT_NM * (1 + redshift), 0, forest)


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.float64]:
    """Mean f_nu in each band over that in i: (type, redshift, band)."""
    share = Path(galsim.meta_data.share_dir)
    seds = [galsim.SED(str(share / "SEDs" / f"CWW_{name}_ext.sed"), "Ang", "flambda") for name in _TEMPLATES]
    throughput = np.array(
        [galsim.Bandpass(str(share / "bandpasses" / f"LSST_{band}.dat"), "nm")(_WAVE_NM) for band in BANDS]
    )
    table = np.empty((N_TYPES, len(_REDSHIFTS), len(BANDS)))
    for row, redshift in enumerate(_REDSHIFTS):
        rest = _WAVE_NM / (1 + redshift)
        # GalSim's spectra are photons per wavelength: f_nu goes as that times
        # the wavelength, and detectors count photons.
        photons = [np.where(rest > sed.blue_limit, sed(np.maximum(rest, sed.blue_limit)), 0) for sed in seds]
        seen = np.array([*photons, 1 / _WAVE_NM]) * _igm_transmission(_WAVE_NM, redshift)
        mean = seen @ throughput.T / (throughput / _WAVE_NM).sum(axis=1)
        table[:, row] = mean / mean[:, [BANDS.index("i")]]
    return table


def flux_ratios(
    spectral_type: npt.NDArray[np.float64], redshift: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Flux in each band over that in i.

    Parameters
    ----------
    spectral_type : `numpy.ndarray`, (n,)
        Place in the sequence 0 = E, 1 = Sbc, 2 = Scd, 3 = Im, 4 = flat in
        f_nu; spectra between two are mixed.
    redshift : `numpy.ndarray`, (n,)
        Redshift; colours beyond 6 are those at 6.

    Returns
    -------
    ratios : `numpy.ndarray`, (n, 6), float64
        In the order ugrizy, 1 in i. The intergalactic medium's mean
        absorption is included.
    """
    table = _table()
    t = np.clip(spectral_type, 0, N_TYPES - 1)
    t0 = np.minimum(t.astype(int), N_TYPES - 2)
    place = np.clip(redshift, 0, _REDSHIFTS[-1]) / _REDSHIFTS[1]
    z0 = np.minimum(place.astype(int), len(_REDSHIFTS) - 2)
    ratios = np.zeros((len(t), len(BANDS)))
    for dt in (0, 1):
        for dz in (0, 1):
            weight = np.abs(1 - dt - (t - t0)) * np.abs(1 - dz - (place - z0))
            ratios += weight[:, None] * table[t0 + dt, z0 + dz]
    return ratios
