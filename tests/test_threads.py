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


import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from conftest import BLEND_SOURCES, make_scene
from lsst.meas.residualdetect import threads
from lsst.meas.residualdetect.deblend import DeblendError, DeblendOptions, deblend
from lsst.meas.residualdetect.detection import detect, detections_at
from lsst.meas.residualdetect.detectors.matched_filter import MatchedFilter
from lsst.meas.residualdetect.threads import (
    default_threads,
    in_parallel,
    one_thread,
    usable_cores,
    worker_processes,
)


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def three_threads():
    """A user's process that gives torch and BLAS three threads."""
    n_before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpool_limits(3, user_api="blas"):
        yield
    torch.set_num_threads(n_before)


@pytest.mark.parametrize(("wanted", "n"), [("3", 3), ("2,4", 2), ("", None), ("no", None), ("0", None)])
def test_threads_are_those_the_user_asks_for(monkeypatch, wanted, n):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(5)), raising=False)
    monkeypatch.setattr(threads, "_QUOTA", threads._QUOTA / "nowhere")
    assert default_threads() == (n or 5)


@pytest.mark.parametrize(
    ("quota", "n"), [("max 100000", 5), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 5)]
)
def test_a_container_has_the_cores_of_its_quota(monkeypatch, tmp_path, quota, n):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(5)), raising=False)
    assert usable_cores() == n


def test_one_thread_inside_and_the_users_own_afterwards(three_threads):
    with one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1 and blas_threads() == {1}
        assert torch.get_num_threads() == 1 and blas_threads() == {1}
    assert torch.get_num_threads() == 3 and blas_threads() == {3}
    with pytest.raises(ZeroDivisionError), one_thread():
        _ = 1 / 0
    assert torch.get_num_threads() == 3 and blas_threads() == {3}


def test_scopes_that_overlap_leave_the_users_numbers(three_threads):
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_thread():
            entered.set()
            leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with one_thread():
            pool.submit(other)
            assert entered.wait(10)
        leave.set()
    assert torch.get_num_threads() == 3 and blas_threads() == {3}


def test_pieces_of_work_run_on_a_thread_each_and_in_order(three_threads):
    def work(piece: int) -> tuple[int, int, int]:
        inner = in_parallel(lambda _: threading.get_ident(), range(3), 3)
        return piece, torch.get_num_threads(), len(set(inner))

    assert in_parallel(work, range(9), 4) == [(piece, 1, 1) for piece in range(9)]
    assert torch.get_num_threads() == 3 and blas_threads() == {3}


def test_pieces_of_work_share_the_threads_there_are(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert in_parallel(lambda _: default_threads(), range(3), 3) == [2, 2, 2]
    assert in_parallel(lambda _: default_threads(), range(9)) == [1] * 9
    assert default_threads() == 7


@pytest.mark.parametrize("n", ["1", "6"])
def test_bands_and_strips_side_by_side_give_the_same(n, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", n)
    # A source on each side of where a strip ends, and on the seam, all alike.
    places = [(100, 40, 400.0), (256, 40, 400.0), (420, 40, 400.0)]
    scene = make_scene(places, shape=(512, 80))
    found = detect(scene)
    assert [(peak.y, peak.x) for peak in found.peaks] == [(100, 40), (256, 40), (420, 40)]
    assert len({parent.footprint.area for parent in found}) == 1
    candidates = MatchedFilter().detect(scene, np.zeros_like(scene.images), [])
    assert sorted((round(c.y), round(c.x)) for c in candidates) == [(100, 40), (256, 40), (420, 40)]
    scores = [candidate.score for candidate in candidates]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-5)
    assert len({candidate.footprint.area for candidate in candidates}) == 1


def test_pieces_of_work_are_at_hand_at_the_same_time():
    # Each waits for the others, and would for ever on fewer threads.
    meeting = threading.Barrier(3, timeout=10)
    assert sorted(in_parallel(lambda _: meeting.wait(), range(3), 3)) == [0, 1, 2]


def test_what_goes_wrong_in_a_piece_of_work_is_raised():
    def work(piece: int) -> int:
        if piece == 2:
            raise KeyError(piece)
        return piece

    for n in (1, 2):
        with pytest.raises(KeyError, match="2"):
            in_parallel(work, range(5), n)
    assert in_parallel(work, []) == []


def _numbers() -> tuple[int, str, int]:
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], default_threads()


def test_worker_processes_have_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with worker_processes(1) as executor:
        assert executor.submit(_numbers).result() == (1, "1", 1)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_deblend_on_two_threads_is_the_same(three_threads):
    scene = make_scene(BLEND_SOURCES, rng=np.random.default_rng(1))
    parents = detections_at(scene, [(y, x) for y, x, _ in BLEND_SOURCES]).parents
    counts: list[int] = []
    one, two = (
        deblend(scene, parents, DeblendOptions(n_threads=n, batch_mbytes=1e-3), progress=counts.append)
        for n in (1, 2)
    )
    assert [parent.chi2 for parent in one] == [parent.chi2 for parent in two]
    assert sum(counts) == 2 * len(parents) and len(parents) > 1
    np.testing.assert_array_equal(one.image(scene), two.image(scene))
    assert torch.get_num_threads() == 3
    with pytest.raises(DeblendError, match="n_threads is 0; it must be positive"):
        DeblendOptions(n_threads=0)
