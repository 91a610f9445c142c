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


"""What goes wrong in one patch, in the stack's Butler, costs no other patch
anything and is said in one line; needs the stack.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np
import pytest

pytest.importorskip("lsst.afw", reason="needs the LSST Science Pipelines (lsst.afw)")
pytest.importorskip("lsst.pipe.tasks", reason="needs the LSST Science Pipelines (lsst.pipe.tasks)")

from lsst.daf.butler import Butler
from lsst.meas.extensions.scarlet.io import LsstScarletModelData

from afw_repository import (
    PIPELINE,
    RUN,
    WHERE,
    create_repository,
    detect,
    make_skymap,
    pipetask,
    pipetask_command,
    put_patch,
    put_schemas,
    select,
    simulate_exposures,
)

BANDS = tuple("gri")
SIDE = 120
GOOD, MASKED, NO_R, FAILS, EMPTY = range(5)
PASS = (GOOD, NO_R, FAILS)
WRITTEN = ("object_detection_merged_residual", "object_candidates_residual", "object_deblend_residual")
FIRST = f"{PIPELINE}#deconvolve,deblendCoaddFootprints"
SECOND = f"{PIPELINE}#residualDetection,redeblend"


def _where(patch):
    return WHERE | {"patch": patch}


def _fill(butler, skymap, patch):
    """A patch with what is to go wrong in it; the parents that have several peaks."""
    exposures = simulate_exposures(skymap, BANDS, 5, patch=patch)
    merged = detect(exposures, skymap, 2, patch)
    catalogue = merged.catalogue
    for record in catalogue:
        # No other patch's, as the stack's own.
        record.setId(1000 * (patch + 1) + record.getId())
    if patch == GOOD:
        put_schemas(butler, merged)
    elif patch == MASKED:
        for exposure in exposures.values():
            exposure.mask.array[:] |= exposure.mask.getPlaneBitMask("NO_DATA")
    elif patch == NO_R:
        del exposures["r"]
    elif patch == EMPTY:
        catalogue = select(catalogue, lambda record: False)
    put_patch(butler, exposures, catalogue, patch)
    return [record.getId() for record in catalogue if len(record.getFootprint().peaks) > 1]


def _put_empty_deblend(butler):
    """What a deblender that stands an empty catalogue would make of it; the
    stack's of today ends there.
    """
    where = _where(EMPTY)
    for band in BANDS:
        coadd = butler.get("deep_coadd", where | {"band": band}, collections=RUN)
        butler.put(coadd, "deconvolved_deep_coadd", where | {"band": band}, run=RUN)
    models = butler.get("object_scarlet_models", _where(GOOD), collections="out")
    butler.put(LsstScarletModelData(metadata=models.metadata), "object_scarlet_models", where, run=RUN)
    for name in ("object_deblend", "object_parent_patch"):
        catalogue = butler.get(name, _where(GOOD), collections="out")
        butler.put(select(catalogue, lambda record: False), name, where, run=RUN)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The repository, deblended once, and two parents in the patch FAILS: the
    deblender fails on the first, and on both if it is to deblend them again.
    """
    skymap = make_skymap(SIDE, 3)
    folder = tmp_path_factory.mktemp("failures")
    butler = create_repository(folder / "repo", skymap, BANDS)
    blends = [_fill(butler, skymap, patch) for patch in range(5)]
    parents = blends[FAILS][:2]
    assert len(parents) == 2
    options = []
    for label, failing in (("deblendCoaddFootprints", parents[:1]), ("redeblend", parents)):
        config = folder / f"{label}.py"
        config.write_text(
            "from failing_deblend import FailingDeblendTask\n"
            "config.multibandDeblend.retarget(FailingDeblendTask)\n"
            f"config.multibandDeblend.fails_on = {failing}\n"
        )
        options.append(("-C", f"{label}:{config}"))
    pipetask(folder / "repo", "-p", FIRST, "-d", f"patch != {EMPTY}", *options[0], output="out")
    _put_empty_deblend(butler)
    # New peaks, right or wrong; and the second parent deblended again whether it has one or not.
    again = ("-c", "residualDetection:score_threshold=0.1", "-c", "redeblend:deblend_all=True", *options[1])
    return folder / "repo", parents, ("-p", SECOND, *again)


@pytest.fixture(scope="module")
def done(planted):
    """All patches looked at."""
    repo, _, second = planted
    text = pipetask(repo, *second, first="out", output="second")
    print(text)
    return Butler.from_config(str(repo), collections="second"), text


def _lines(text, *words):
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_what_goes_wrong_in_a_patch_costs_no_other_anything(done):
    butler, text = done
    for name in (*WRITTEN, "object_scarlet_models_residual", "object_parent_patch_residual"):
        found = butler.query_datasets(name, explain=False)
        assert sorted(ref.dataId["patch"] for ref in found) == sorted(PASS), name
    assert not _lines(text, "Traceback") and not _lines(text, " ERROR")
    for patch in PASS:
        counts = butler.get("redeblend_metadata", _where(patch))["redeblend"]
        assert counts["n_parents"] == len(butler.get("object_detection_merged_residual", _where(patch)))
        for label in ("residualDetection", "redeblend"):
            assert len(_lines(text, f"Execution of task '{label}'", f"patch: {patch}}}", "took")) == 1


def test_a_masked_patch_and_an_empty_catalogue_are_no_work(done):
    _, text = done
    for patch, why in (
        (MASKED, "every pixel of every band is masked"),
        (EMPTY, "the detection catalogue is empty"),
    ):
        (line,) = _lines(text, why)
        assert f"patch: {patch}}}: {why}" in line


def test_a_patch_without_a_band_is_looked_at_in_the_others(done):
    butler, _ = done
    columns = butler.get("object_candidates_residual", _where(NO_R)).colnames
    assert {"snr_g", "snr_i"} <= set(columns) and "snr_r" not in columns
    assert "snr_r" in butler.get("object_candidates_residual", _where(GOOD)).colnames
    models = butler.get("object_scarlet_models_residual", _where(NO_R))
    assert tuple(models.metadata["bands"]) == ("g", "i")


def test_a_parent_that_the_deblender_fails_on_is_named_and_costs_no_other_anything(done, planted):
    butler, text = done
    (never, once), where = planted[1], _where(FAILS)
    assert len(_lines(text, "1 parents left alone: the deblender made no model of its")) == 1
    for parent, what in ((never, "has no objects"), (once, "keeps the objects of the deblend before")):
        assert len(_lines(text, f"parent {parent} {what}: the deblender left it out (MemoryError)")) == 1
    before, after = (
        {record.getId(): record.getParent() for record in butler.get(f"object_deblend{suffix}", where)}
        for suffix in ("", "_residual")
    )
    assert before.items() <= after.items() and once in before.values() and never not in after.values()
    counts = butler.get("redeblend_metadata", where)["redeblend"]
    assert (counts["n_left_out"], counts["n_restored"]) == (2, 1)


def test_an_interrupted_run_goes_on_to_the_same_with_two_quanta_at_once(planted, done):
    repo, _, second = planted
    butler, _ = done
    command, environment = pipetask_command(repo, *second, first="out", output="cut")
    with (repo.parent / "cut.log").open("w") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 1200
        while not list(repo.glob("cut/*/redeblend_metadata/**/*.json")):
            assert running.poll() is None and time.monotonic() < until, (repo.parent / "cut.log").read_text()
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    # SQLite rolls back what was cut off, if it may write.
    cut = Butler.from_config(str(repo), collections="cut", writeable=True)
    assert len(cut.query_datasets("redeblend_metadata", explain=False)) < len(PASS)
    # Two quanta at once, as many workers would.
    resume = ("-j", "2", "--extend-run", "--skip-existing", "--clobber-outputs")
    text = pipetask(repo, *second, *resume, first="out", output="cut")
    print(text)
    assert not _lines(text, "Traceback") and not _lines(text, " ERROR")
    # What was done is not done again.
    ran = [
        line
        for label in ("residualDetection", "redeblend")
        for line in _lines(text, f"task '{label}'", "took")
    ]
    assert 0 < len(ran) < 2 * len(PASS)
    cut = Butler.from_config(str(repo), collections="cut")
    assert len({ref.run for name in WRITTEN for ref in cut.query_datasets(name)}) == 1
    for patch in PASS:
        where = _where(patch)
        for name in WRITTEN:
            one, other = (x.get(name, where) for x in (butler, cut))
            assert len(one) == len(other)
            for column in one.colnames if name == "object_candidates_residual" else ("id", "parent"):
                np.testing.assert_array_equal(np.asarray(one[column]), np.asarray(other[column]))
