"""Traces and made-up people."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest

from zerokernel.broker.scheduling.policy import TIERS
from zerokernel.errors import BadTrace
from zerokernel.simulation import (
    Population,
    Workload,
    generate,
    read_trace,
    sample_path,
    write_trace,
)
from zerokernel.simulation.measures import quantile
from zerokernel.simulation.population import rounded_up

HEAD = "arrival_s,user,group,tier,size,limit_s,run_s"
GOOD = "0,ada,,free,large,60,30"
LONGEST = 86_400.0


def read(tmp_path: Path, text: str, sizes: tuple[str, ...] = ()) -> Workload:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return read_trace(path, TIERS, LONGEST, sizes)


def test_a_trace_is_read(tmp_path: Path) -> None:
    """What lies between a cell's end and the next one's arrival is the time its user thought."""
    lines = (
        HEAD,
        "100,ada,lab,pro,large,60,30",
        "150,ada,lab,pro,large,60,5",
        "20,bob,,,large,9,9",
    )
    found = read(tmp_path, "\n".join(lines))
    bob, ada = found.notebooks
    assert (bob.name, bob.opens, bob.account.tier) == ("bob (large)", 20.0, "")
    assert (ada.opens, ada.account.group) == (100.0, "lab")
    assert [(one.think, one.limit, one.run) for one in ada.cells] == [(0, 60, 30), (20, 60, 5)]
    assert found.seconds == 3600.0


def test_cells_that_came_while_the_one_before_ran_follow_at_once(tmp_path: Path) -> None:
    """A notebook runs its cells one after the other, however they came."""
    lines = (
        HEAD,
        GOOD,
        "10,ada,,free,large,60,30",
        "20,ada,,free,large,60,30",
        "99,ada,,free,large,6,5",
    )
    (one,) = read(tmp_path, "\n".join(lines)).notebooks
    assert [cell.think for cell in one.cells] == [0.0, 0.0, 0.0, 9.0]


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("x,ada,,free,large,60,30", "arrival_s", "'x' is no number"),
        ("nan,ada,,free,large,60,30", "arrival_s", "nan is not from 0"),
        ("-1,ada,,free,large,60,30", "arrival_s", "-1 is not from 0"),
        ("1e12,ada,,free,large,60,30", "arrival_s", "1e12 is not from 0"),
        ("0,,,free,large,60,30", "user", "empty"),
        (f"0,{'a' * 201},,free,large,60,30", "user", "longer than 200"),
        ("0,ada,,gold,large,60,30", "tier", "'gold' is unknown; there are anonymous, free"),
        ("0,ada,,free,,60,30", "size", "empty"),
        ("0,ada,,free,huge,60,30", "size", "'huge' is unknown; there are large"),
        ("0,ada,,free,large,0,30", "limit_s", "0 is not from more than 0"),
        ("0,ada,,free,large,inf,30", "limit_s", "inf is not from"),
        ("0,ada,,free,large,1e9,30", "limit_s", "1e9 is not from more than 0 to 86400"),
        ("0,ada,,free,large,60,", "run_s", "'' is no number"),
        ("0,ada,,free,large,60,-5", "run_s", "-5 is not from 0"),
        ("0,ada,,free,large,60", "not 7 columns", ""),
        ("0,ada,,free,large,60,30,1", "not 7 columns", ""),
        ("5,ada,lab,free,large,60,30", "group", "'lab', but '' on line 2 for the same"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column(
    tmp_path: Path, line: str, where: str, what: str
) -> None:
    """A bad field is refused with where it is, and nothing is guessed."""
    with pytest.raises(BadTrace) as refused:
        read(tmp_path, f"{HEAD}\n{GOOD}\n{line}\n", ("large",))
    assert f"line 3, {where}" in str(refused.value) or f"line 3: {where}" in str(refused.value)
    assert what in str(refused.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "line 1: the heading lacks arrival_s"),
        ("arrival_s,user\n", "line 1: the heading lacks group, tier, size, limit_s, run_s"),
        (f"{HEAD},colour\n", "line 1: unknown column 'colour'"),
        (f"{HEAD}\n", "no line below its heading"),
        (f'{HEAD}\n0,"ada,,free,large,60,30\n', "cannot be read"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str, what: str) -> None:
    """A heading is needed, with all columns and no others, and something below it."""
    with pytest.raises(BadTrace, match=what):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Neither a file that is missing nor one that is no text is an unexplained error."""
    with pytest.raises(BadTrace, match="cannot be read"):
        read_trace(tmp_path / "none.csv", TIERS, LONGEST)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadTrace, match="cannot be read"):
        read_trace(tmp_path / "bytes.csv", TIERS, LONGEST)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A made-up workload is the same after it went through a file, to a tenth of a second."""
    made = generate(Population(), 30, 12.0, 2, {"large": 2, "xlarge": 1})
    text = io.StringIO()
    write_trace(made, text)
    again = read(tmp_path, text.getvalue(), ("large", "xlarge"))
    assert len(again) == len(made) > 50
    before = {one.name: one for one in made.notebooks}
    for one in again.notebooks:
        other = before[one.name]
        assert (one.account, one.size) == (other.account, other.size)
        assert [c.limit for c in one.cells] == [c.limit for c in other.cells]
        assert [c.run for c in one.cells] == pytest.approx([c.run for c in other.cells], abs=0.051)
        thoughts = [c.think for c in other.cells[1:]]
        assert [c.think for c in one.cells[1:]] == pytest.approx(thoughts, abs=0.2)


def test_the_trace_that_is_shipped_is_what_the_generator_makes() -> None:
    """The sample is read without complaint, and it is what docs/simulator.md says."""
    sample = read_trace(sample_path(), TIERS, LONGEST)
    made = generate(Population(), 60, 24.0, 8, {"large": 4})
    assert (len(sample), sample.users) == (len(made), made.users)
    assert sample.work == pytest.approx(made.work, rel=1e-3)


def test_a_population_is_as_its_parameters_say() -> None:
    """Medians, tails, tiers and the time of the day come out as they were put in."""
    people = Population(run_longest=1e9, heavy_share=0.0)
    made = generate(people, 4000, 24.0, 1, {"large": 1})
    cells = [cell for one in made.notebooks for cell in one.cells]
    runs = sorted(cell.run for cell in cells)
    assert len(made.notebooks) == pytest.approx(0.85 * 4000, rel=0.05)
    assert len(cells) / len(made.notebooks) == pytest.approx(10, rel=0.05)
    assert quantile(runs, 0.5) == pytest.approx(60, rel=0.05)
    assert quantile(runs, 0.9) == pytest.approx(60 * math.exp(1.2816 * 2.2), rel=0.1)
    thoughts = sorted(min(cell.think, 7200) for cell in cells)
    assert quantile(thoughts, 0.5) == pytest.approx(120, rel=0.05)
    over = sum(cell.run > cell.limit for cell in cells) / len(cells)
    assert 0.005 < over < 0.02, "half of what is needed, rounded up to what people write"
    by_day = sum(11 <= one.opens / 3600 < 19 for one in made.notebooks)
    by_night = sum(not 7 <= one.opens / 3600 < 23 for one in made.notebooks)
    assert by_day > 3 * by_night
    tiers = {one.account.user: one.account.tier for one in made.notebooks}
    assert sum(tier == "free" for tier in tiers.values()) / len(tiers) == pytest.approx(
        0.7, abs=0.03
    )


def test_heavy_users_are_heavy() -> None:
    """So many open so many times as many notebooks."""
    made = generate(Population(heavy_share=0.5, heavy_factor=10.0), 400, 24.0, 1, {"large": 1})
    counts: dict[str, int] = {}
    for one in made.notebooks:
        counts[one.account.user] = counts.get(one.account.user, 0) + 1
    heavy = [count for count in counts.values() if count > 4]
    assert len(heavy) == pytest.approx(200, abs=35)
    assert sum(heavy) / len(made.notebooks) == pytest.approx(10 / 11, abs=0.05)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run_median", 0.0),
        ("cells", 0.5),
        ("night", 1.5),
        ("linger", -1.0),
        ("run_sigma", math.nan),
    ],
)
def test_an_impossible_population_is_refused(name: str, value: float) -> None:
    """What cannot be is named."""
    with pytest.raises(ValueError, match=name):
        Population(**{name: value})


def test_people_round_up() -> None:
    """A limit is one that somebody would write."""
    assert [rounded_up(one) for one in (0.1, 10, 11, 61, 3601)] == [10, 10, 30, 120, 7200]
    assert rounded_up(86_401) == 2 * 86_400
