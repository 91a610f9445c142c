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


"""Companions to be injected beside real objects: where, how bright, what shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.stats import gaussian_sigma_to_fwhm
from astropy.table import Table
from scipy.spatial import KDTree

from ..boxes import is_inside, nearest_pixel
from ..detections import Detections, Parent, Peak, positions_of
from ..noise import point_source_flux, snr_over_bands
from ..scene import DEFAULT_BAD_PLANES, Scene
from ..truth.matching import Floats
from ..truth.measures import psf_sigma_pix
from .companion_options import CompanionOptions

__all__ = ["draw_companions"]

# Standard deviation of the Gaussian of unit half-light radius.
_SIGMA_PER_HALF_LIGHT = 1 / math.sqrt(2 * math.log(2))


@dataclass(frozen=True, eq=False)
class _Sky:
    """What the draws need to know of a patch."""

    scene: Scene
    owned: list[tuple[Peak, Parent, int]]
    tree: KDTree
    labels: npt.NDArray[np.int32]
    good: npt.NDArray[np.bool_]
    flux: Floats
    colours: Floats
    sigma: Floats
    reference: int
    fwhm_pix: float

    def allows(self, y: float, x: float, host: int) -> bool:
        """Whether a companion of a host may lie here: on a good pixel of the
        host's footprint, nearer to the host than to any other peak.
        """
        pixel = nearest_pixel((y, x), self.scene.origin)
        if not is_inside(pixel, self.scene.shape):
            return False
        row, column = pixel
        return bool(
            self.good[row, column]
            and self.labels[row, column] == self.owned[host][2]
            and self.tree.query((y, x))[1] == host
        )


def _draw(sky: _Sky, host: int, options: CompanionOptions, rng: np.random.Generator) -> dict[str, Any]:
    """One companion of a host, wherever it comes to lie."""
    separation = rng.uniform(*options.separation_fwhm)
    angle = rng.uniform(0, 2 * math.pi)
    delta_mag = rng.uniform(*options.delta_mag)
    wanted_snr = math.exp(rng.uniform(*np.log(options.snr)))
    colours = sky.colours[rng.integers(len(sky.colours))]
    is_star = rng.random() < options.star_fraction
    radius = math.exp(rng.uniform(*np.log(options.half_light_radius_arcsec)))
    index = rng.choice(options.sersic_indices)
    axis_ratio = rng.uniform(options.min_axis_ratio, 1)
    beta_deg = rng.uniform(0, 180)

    # The noise where the host is; an extended source's is that of a Gaussian of
    # its half-light radius. Only to choose by, what is injected is measured.
    size_pix = 0.0 if is_star else radius * _SIGMA_PER_HALF_LIGHT / sky.scene.pixel_scale_arcsec
    sigmas = sky.sigma[host] * np.sqrt(1 + (size_pix / sky.scene.psf_sigmas_pix) ** 2)
    unit_snr = float(np.sqrt(np.square(colours / sigmas).sum()))
    host_flux = sky.flux[host, sky.reference]
    if options.brightness == "snr":
        flux = wanted_snr / unit_snr
        delta_mag = -2.5 * math.log10(flux / host_flux)
    else:
        flux = host_flux * 10 ** (-0.4 * delta_mag)
    separation_pix = separation * sky.fwhm_pix
    peak, parent, _ = sky.owned[host]
    return {
        "ra": math.nan,
        "dec": math.nan,
        "y": peak.y + separation_pix * math.sin(angle),
        "x": peak.x + separation_pix * math.cos(angle),
        "host_peak_id": peak.id,
        "host_parent_id": parent.id,
        "host_y": peak.y,
        "host_x": peak.x,
        "separation_pix": separation_pix,
        "separation_fwhm": separation,
        "delta_mag": delta_mag,
        "expected_snr": flux * unit_snr,
        "source_type": "DeltaFunction" if is_star else "Sersic",
        "n": index,
        "half_light_radius": 0.0 if is_star else radius,
        "q": 1.0 if is_star else axis_ratio,
        "beta": beta_deg,
        **{f"flux_{band}": flux * colours[number] for number, band in enumerate(sky.scene.bands)},
    }


_COLUMNS: Mapping[str, type | str] = {
    **dict.fromkeys(("id", "host_peak_id", "host_parent_id"), np.int64),
    **dict.fromkeys(
        (
            *("ra", "dec", "y", "x", "host_y", "host_x", "separation_pix", "separation_fwhm", "delta_mag"),
            *("expected_snr", "n", "half_light_radius", "q", "beta"),
        ),
        np.float64,
    ),
    "source_type": "U16",
}


def draw_companions(
    scene: Scene,
    detections: Detections,
    options: CompanionOptions,
    rng: np.random.Generator,
    *,
    bad_planes: Sequence[str] = DEFAULT_BAD_PLANES,
) -> Table:
    """Choose hosts and draw a companion for each.

    A companion lies in its host's footprint, nearer to its host than to any
    other peak, so that without a peak of its own it is an unrecognised blend
    (one peak in the footprint) or a partially deblended one (several). Its
    colours are those of another object of the patch. What does not fit is
    drawn anew, so bright hosts with large footprints have more companions
    far away and faint than faint hosts have: figures are to be quoted as
    functions of separation and brightness, not for all together.

    Parameters
    ----------
    scene : `Scene`
        Coadds, with the reference band.
    detections : `Detections`
        Catalogue; sky objects get no companions.
    options : `CompanionOptions`
        What to inject.
    rng : `numpy.random.Generator`
        Source of randomness.
    bad_planes : `~collections.abc.Sequence` [`str`], optional
        Mask planes on whose pixels no companion is put, and which say nothing
        of hosts.

    Returns
    -------
    companions : `astropy.table.Table`
        One row each: ``id`` (from 1), ``ra``, ``dec`` (degrees; NaN if the
        scene does not know), ``y``, ``x`` (patch coordinates),
        ``host_peak_id``, ``host_parent_id``, ``host_y``, ``host_x``,
        ``separation_pix``, ``separation_fwhm``, ``delta_mag`` (fainter than
        the host in the reference band, the host taken for a point),
        ``expected_snr``, ``source_type``, ``n``, ``half_light_radius``
        (arcsec), ``q``, ``beta`` (degrees; GalSim's names), and
        ``flux_<band>`` in image units.

    Raises
    ------
    ValueError
        Raised if the scene lacks the reference band.
    """
    if options.reference_band not in scene.bands:
        raise ValueError(f"there is no reference band {options.reference_band!r} in {list(scene.bands)}")
    scene = scene.with_bad(scene.bad(bad_planes))
    columns = {**_COLUMNS, **{f"flux_{band}": np.float64 for band in scene.bands}}
    rows: list[dict[str, Any]] = []
    placed = np.empty((0, 2))
    sky, hosts = _prepare(scene, detections, options, rng)
    for host in hosts.tolist():
        for _ in range(options.n_tries):
            row = _draw(sky, host, options, rng)
            place = np.array([row["y"], row["x"]])
            nearest = np.hypot(*(placed - place).T).min(initial=math.inf)
            if (
                row["expected_snr"] >= options.min_snr
                and nearest >= options.isolation_fwhm * sky.fwhm_pix
                and sky.allows(row["y"], row["x"], host)
            ):
                placed = np.vstack([placed, place])
                rows.append({"id": len(rows) + 1, **row})
                break
    table = Table(
        {name: np.array([row[name] for row in rows], dtype=dtype) for name, dtype in columns.items()}
    )
    if len(table):
        table["ra"], table["dec"] = scene.sky(np.asarray(table["y"]), np.asarray(table["x"]))
    return table


def _prepare(
    scene: Scene,
    detections: Detections,
    options: CompanionOptions,
    rng: np.random.Generator,
) -> tuple[_Sky, npt.NDArray[np.int64]]:
    """What draws need, and the indices of the peaks chosen for hosts."""
    owned = [
        (peak, parent, label)
        for label, parent in enumerate(detections, start=1)
        if not parent.is_sky
        for peak in parent.peaks
    ]
    positions = positions_of(tuple(peak for peak, _, _ in owned))
    reference = scene.bands.index(options.reference_band)
    good = ~scene.bad()[reference]
    flux, sigma = point_source_flux(scene.images, scene, *positions.T)
    snr = flux[:, reference] / sigma[:, reference]
    donors = (snr_over_bands(flux, sigma) >= options.min_donor_snr) & (snr >= options.min_donor_snr / 2)
    seen = np.isfinite(sigma)
    donors &= seen[:, seen.any(axis=0)].all(axis=1)
    rows, columns = nearest_pixel(positions, scene.origin).T
    hosts = (snr >= options.min_host_snr) & good[rows, columns]
    if not donors.any():
        donors = hosts
    # A donor that noise made negative in a band has no light there; upstream
    # takes magnitudes, so that there must be a little.
    colours = np.maximum(flux[donors], 1e-6 * flux[donors, reference, None]) / flux[donors, reference, None]
    chosen = (rng.random(len(positions)) < options.fraction) & hosts
    sky = _Sky(
        scene=scene,
        owned=owned,
        tree=KDTree(positions),
        labels=detections.labels(scene.shape, scene.origin),
        good=good,
        flux=flux,
        colours=colours,
        sigma=sigma,
        reference=reference,
        fwhm_pix=gaussian_sigma_to_fwhm * psf_sigma_pix(scene),
    )
    return sky, np.flatnonzero(chosen)
