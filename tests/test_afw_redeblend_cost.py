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


"""What the second deblend costs; needs the stack."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

from lsst.pipe.tasks.deblendCoaddSourcesPipeline import DeblendCoaddSourcesMultiTask

from afw_patch import PSEUDO, Patch
from lsst.meas.residualdetect.butler.catalogues.afw import read_catalogue
from lsst.meas.residualdetect.tasks.redeblend_changed import RedeblendTask


def test_a_tenth_of_the_parents_costs_about_a_fifth():
    large = Patch(400)
    large.deblend(DeblendCoaddSourcesMultiTask, large.merged)
    first, before = large.seconds, read_catalogue(large.merged.catalogue, PSEUDO)
    real = [parent for parent in before if not parent.is_sky]
    had = {record.getId() for record in large.first.deblendedCatalog}
    alone = {record.getId() for record in large.first.deblendedCatalog if not record.getParent()}
    rng, shares = np.random.default_rng(0), []
    for _ in range(3):
        some = [real[i] for i in rng.choice(len(real), round(len(before) / 10), replace=False)]
        merged = large.written(large.add(before, [(p.peaks[0].y + 3, p.peaks[0].x + 1) for p in some]))
        result = large.deblend(RedeblendTask, merged)
        kept = had & {record.getId() for record in result.deblendedCatalog}
        assert had - kept == alone & {parent.id for parent in some}
        shares.append(large.seconds / first)
        print(f"{len(some)} of {len(before)} parents: {shares[-1]:.2f} of {first:.1f} s")
        print(f"{len(kept)} of {len(had)} ids kept")
    # A quarter, and what a busy machine adds.
    assert np.median(shares) < 0.3
