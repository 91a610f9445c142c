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


"""Marks that people give to candidates, and the purity that follows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.stats import binom_conf_interval
from astropy.table import Table

from conftest import invoke
from lsst.meas.residualdetect.candidates import Fate
from lsst.meas.residualdetect.io.marks_file import read_marks
from lsst.meas.residualdetect.truth.marks import Mark, judge_marks

THRESHOLD = 0.5


def candidates(n: int, seed: int) -> tuple[Table, np.ndarray]:
    """Candidates whose score is the chance of being real, all told so, and
    which of them are.
    """
    rng = np.random.default_rng(seed)
    score = np.sort(rng.uniform(0.05, 1.0, n))[::-1]
    real = rng.uniform(size=n) < score
    peak = np.where(score >= THRESHOLD, np.arange(n) + 1, 0)
    table = Table({"score": score, "peak": peak})
    table["reason"] = np.where(peak > 0, "", Fate.BELOW_THRESHOLD.value)
    table["mark"] = np.where(real, Mark.REAL, Mark.ARTEFACT).astype("U8")
    return table, real


def test_where_all_is_told_purity_is_counted() -> None:
    table, real = candidates(600, 1)
    figures = judge_marks(table, 0.9)
    above = np.asarray(table["peak"]) > 0
    assert figures["n"] == above.sum()
    assert figures["n_real"] == (above & real).sum()
    assert figures["purity"]["value"] == pytest.approx(real[above].mean())
    # Strata take away a part of the variance, not more.
    low, high = figures["purity"]["interval"]
    wilson = binom_conf_interval((above & real).sum(), above.sum(), interval="wilson")
    assert 0.7 < (high - low) / (wilson[1] - wilson[0]) < 1.05
    assert figures["purity"]["if_unsure"] == pytest.approx((real[above].mean(),) * 2)
    for row in figures["by_score"]:
        here = (table["score"] >= row["low"]) & (table["score"] <= row["high"])
        assert (row["n"], row["n_real"]) == (here.sum(), (here & real).sum())
        assert row["value"] == pytest.approx(real[here].mean())
    assert len(figures["by_score"]) == 10


def test_few_marks_have_wilson_s_interval() -> None:
    table, _ = candidates(30, 2)
    table = table[(table["peak"] > 0)]
    k, n = (table["mark"] == Mark.REAL).sum(), len(table)
    assert n < 20
    expected = binom_conf_interval(k, n, interval="wilson")
    assert judge_marks(table, 0.9)["purity"]["interval"] == pytest.approx(tuple(expected))


def test_intervals_hold_the_truth_two_times_of_three() -> None:
    held = 0
    for seed in range(60):
        table, _ = candidates(600, seed)
        above = np.asarray(table["peak"]) > 0
        expected = np.asarray(table["score"])[above].mean()
        # One in five looked at.
        table["mark"][np.random.default_rng(seed).uniform(size=len(table)) > 0.2] = ""
        low, high = judge_marks(table, 0.9)["purity"]["interval"]
        held += low <= expected <= high
    assert 33 <= held <= 51


def test_who_looks_at_the_surest_first_is_not_misled() -> None:
    off, naive = [], []
    for seed in range(10):
        table, real = candidates(1000, seed)
        above = np.asarray(table["peak"]) > 0
        passed_over = np.random.default_rng(seed + 100).uniform(size=len(table)) > 0.3
        table["mark"][above & (table["score"] < 0.8) & passed_over] = ""
        told = above & (np.asarray(table["mark"]) != "")
        off.append(judge_marks(table, 0.9)["purity"]["value"] - real[above].mean())
        naive.append(real[told].mean() - real[above].mean())
    assert abs(np.mean(off)) < 0.02
    assert np.mean(naive) > 0.04


def test_what_nobody_looked_at_is_in_no_figure() -> None:
    table, _ = candidates(400, 3)
    table["mark"][table["score"] < 0.7] = ""
    figures = judge_marks(table, 0.9)
    assert figures["lowest"] >= 0.7
    assert figures["n"] == figures["n_real"] + figures["n_artefact"]
    assert figures["n_below"] == ((table["score"] >= THRESHOLD) & (table["score"] < 0.7)).sum()


def test_the_threshold_gives_the_purity_wanted() -> None:
    table, real = candidates(3000, 5)
    figures = judge_marks(table, 0.8)
    score = np.asarray(table["score"])
    point, surely = figures["reaches"], figures["surely_reaches"]
    above = score >= point["threshold"]
    assert point["n_candidates"] == above.sum()
    assert point["value"] == pytest.approx(real[above].mean())
    assert point["value"] >= 0.8
    assert real[score >= point["threshold"] - 0.02].mean() < 0.8
    assert point["kept"] == pytest.approx(real[above].sum() / real.sum())
    # The mean of scores from t to 1 is 0.8 at t = 0.6: below the threshold
    # of new peaks would do for 0.7.
    assert point["threshold"] == pytest.approx(0.6, abs=0.06)
    assert judge_marks(table, 0.7)["reaches"]["threshold"] < THRESHOLD
    assert surely["threshold"] > point["threshold"]
    assert surely["interval"][0] >= 0.8


def test_a_purity_out_of_reach_is_said_to_be() -> None:
    table, _ = candidates(300, 6)
    table["mark"][:] = Mark.ARTEFACT
    table["mark"][::4] = Mark.REAL
    figures = judge_marks(table[1:], 0.99)
    assert figures["reaches"] is None and figures["surely_reaches"] is None
    assert figures["best"]["value"] < 0.99
    assert figures["surest"]["interval"][0] >= figures["best"]["interval"][0]


def test_one_sure_mark_is_not_the_surest() -> None:
    table, _ = candidates(200, 6)
    table["mark"][:] = Mark.REAL
    table["mark"][20::5] = Mark.ARTEFACT
    figures = judge_marks(table, 0.99)
    assert figures["surely_reaches"] is None
    assert figures["surest"]["n_candidates"] == 20


def test_what_no_threshold_would_make_a_peak_is_left_out() -> None:
    table, _ = candidates(200, 7)
    before = judge_marks(table, 0.9)
    for fate in (Fate.NEAR_PEAK, Fate.TOO_FEW_BANDS):
        table.add_row((0.99, 0, fate.value, Mark.ARTEFACT))
    table.add_row((np.nan, 0, Fate.BELOW_THRESHOLD.value, Mark.ARTEFACT))
    assert judge_marks(table, 0.9) == before


def test_unsure_ones_are_bounds() -> None:
    table, _ = candidates(400, 8)
    table = table[table["peak"] > 0]
    table["mark"][::10] = Mark.UNSURE
    figures = judge_marks(table, 0.9)
    n, unsure = len(table), int((np.asarray(table["mark"]) == Mark.UNSURE).sum())
    low, high = figures["purity"]["if_unsure"]
    assert high - low == pytest.approx(unsure / n)
    assert low < figures["purity"]["value"] < high


@pytest.mark.parametrize("wanted", [0.0, 1.5, float("nan")])
def test_a_purity_that_is_no_share_is_refused(wanted: float) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        judge_marks(candidates(10, 1)[0], wanted)


HEADER = "patch,peak,score,reason,mark\n"


def test_the_command_reads_prints_and_writes(tmp_path: Path) -> None:
    table, _ = candidates(500, 9)
    table["patch"] = 'patch 0 ("a", b)'
    path, out = tmp_path / "marks.csv", tmp_path / "purity.json"
    table.write(path, format="ascii.csv")
    done = invoke("marks", path, "--purity", "0.8", "--out", out)
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())
    assert figures["purity"]["value"] == pytest.approx(judge_marks(table, 0.8)["purity"]["value"])
    percent = f"{100 * figures['purity']['value']:.0f} %"
    assert f"Purity of the new peaks: {percent}" in done.output
    lines = done.output.splitlines()
    assert any(line.startswith("Purity is 80 % or more from a score of 0.") for line in lines)
    # A row a stratum, none of it on a second line.
    rows = [line for line in lines if re.match(r" *0\.\d+ to [01]", line)]
    assert len(rows) == len(figures["by_score"])
    assert all(re.search(r"\d+ % \(\d+ % to \d+ %\) *$", row) for row in rows)


def test_a_table_that_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + "p,3,0.5,,real \r\np,0,,below the threshold,\r\n").encode())
    table = read_marks(path, tuple(Mark))
    assert table["mark"].tolist() == ["real", ""]
    assert table["peak"].tolist() == [3, 0]
    assert np.isnan(table["score"][1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column score, peak, reason, mark"),
        (HEADER + "p,1,0.5,,real\np,2,0.4,,maybe\n", "line 3: mark 'maybe'; expected real, artefact, unsure"),
        (HEADER + "p,1,high,,real\n", "line 2: could not convert"),
        (HEADER + "p,1,0.5,,\n", "none of 1 candidates is marked"),
        (HEADER, "none of 0 candidates is marked"),
    ],
)
def test_other_tables_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "marks.csv"
    path.write_text(text)
    done = invoke("marks", path)
    assert done.exit_code == 1
    assert message in done.output
    assert str(path) in done.output
    assert len(done.output.strip().splitlines()) == 1
