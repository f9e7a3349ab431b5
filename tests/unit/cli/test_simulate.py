"""`zerokernel simulate`, as it is called."""

from __future__ import annotations

import base64
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from zerokernel.cli import main
from zerokernel.simulation import FIRST_COME, HOLDING, OURS

TINY = ("simulate", "--users", "20", "--slices", "2", "--hours", "8")


def test_it_runs_as_a_process() -> None:
    """A small population is simulated under all three ways, and told as JSON."""
    command = [sys.executable, "-m", "zerokernel.cli", *TINY, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert list(found["ways"]) == [OURS, FIRST_COME, HOLDING]
    cells = found["workload"]["cells"]
    assert cells > 20
    for way in found["ways"].values():
        assert (way["finished"] + way["cut"] + way["refused"], way["cells"]) == (cells, cells)
        assert way["held"] >= way["used"] > 0
        assert 0 < way["jain"] <= 1


def test_tables_name_what_was_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    """The sample trace needs no option but the slices."""
    assert main(["simulate", "--trace", "sample", "--slices", "4"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("trace sample.csv: ")
    assert "486 cells" in text
    for word in (OURS, FIRST_COME, HOLDING, "GPU-hours held", "Jain", "rho p90", "tier pro"):
        assert word in text


def test_csv_has_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each figure of each way."""
    assert main([*TINY, "--csv", "--slices", "large=1,xlarge=1"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out.strip())))
    figures = {(row["way"], row["figure"], row["of"]): float(row["value"]) for row in rows}
    assert len(figures) == len(rows)
    assert figures[HOLDING, "held", "all"] > figures[OURS, "held", "all"]
    assert (OURS, "wait_s_p90", "tier free") in figures


def test_policy_and_seed_make_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    """What is set is what is simulated."""

    def figures(*options: str) -> object:
        assert main([*TINY, "--slices", "1", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)["ways"]

    plain = figures()
    assert figures() == plain
    assert figures("--policy", "longest_delay=0", "--policy", "tiers.pro=8") != plain
    assert figures("--seed", "2") != plain
    assert figures("--population", "run_median=10") != plain
    assert figures("--costs", "bind=20") != plain


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--users", "0"), "--users must be above 0 and at most 1,000,000, not 0"),
        (("--users", "99999999"), "--users must be above 0"),
        (("--hours", "nan"), "--hours must be above 0"),
        (("--hours", "-1"), "--hours must be above 0"),
        (("--slices", "0"), "--slices 0: 'large=0' is not a number of slices from 1"),
        (("--slices", "large=x"), "--slices large=x: 'large=x' is not"),
        (("--slices", "large=1,large=2"), "'large' is there twice"),
        (("--policy", "half_life"), "--policy wants KEY=VALUE, not 'half_life'"),
        (("--policy", "halflife=3"), "--policy halflife=3: there is no 'halflife'; there is park_"),
        (("--policy", "half_life=nan"), "--policy half_life=nan: it is a finite number of 0 or"),
        (("--policy", "half_life=-1"), "--policy half_life=-1: it is a finite number of 0 or more"),
        (("--policy", "half_life=0"), "--policy half_life=0: half_life must be above zero"),
        (("--policy", "half_life=soon"), "--policy half_life=soon: 'soon' is no number"),
        (("--policy", "strict_tiers=maybe"), "--policy strict_tiers=maybe: it is yes or no"),
        (("--policy", "leases_per_user=1.5"), "it is a whole number"),
        (("--policy", "tiers=3"), "an entry of tiers is named with a dot, tiers.NAME=NUMBER"),
        (("--policy", "half_life.x=3"), "half_life has no entries"),
        (("--population", "night=2"), "--population night=2: night is a share"),
        (("--costs", "bind=-1"), "--costs bind=-1: it is a finite number"),
        (("--trace", "none.csv"), "The trace 'none.csv' cannot be read"),
        (("--trace", "sample", "--seed", "3"), "--seed is about people who are made up"),
        (("--trace", "sample", "--slices", "tiny=4"), "line 2, size: 'large' is unknown"),
        (("--plot", "picture.txt"), "--plot picture.txt: the name must end with .png or .html"),
        (("--plot", "nowhere/at/all.png"), "--plot nowhere/at/all.png: there is no such folder"),
        (("--write-trace", "nowhere/at/all.csv"), "--write-trace nowhere/at/all.csv cannot be"),
        (("--users", "1", "--hours", "0.01"), "None of the users opens a notebook within 0.01 h"),
    ],
)
def test_bad_options_are_named(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], what: str
) -> None:
    """Exit status 1 and one sentence that names option and value, before anything is simulated."""
    assert main(["simulate", *options]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("zerokernel: ")
    assert what in told.err


def test_several_sizes_need_slices_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number of slices alone does not say of which size; what to write is said."""
    path = tmp_path / "mixed.csv"
    options = (*TINY, "--slices", "large=1,xlarge=1", "--write-trace", str(path))
    assert main(list(options)) == 0
    assert main(["simulate", "--trace", str(path), "--slices", "3"]) == 1
    assert "--slices large=N,xlarge=N" in capsys.readouterr().err


def test_pictures_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As an image, and as a page that needs nothing else and has the tables as text."""
    page = tmp_path / "all.html"
    assert main([*TINY, "--plot", str(page)]) == 0
    assert f"wrote {page}" in capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert "GPU-hours held" in text
    picture = base64.b64decode(text.partition("image/png;base64,")[2].partition('"')[0])
    assert picture.startswith(b"\x89PNG")
    assert len(set(picture)) > 100, "it is not empty"


def test_without_matplotlib_it_says_so_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is simulated for a picture that cannot be drawn."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*TINY, "--plot", "all.png"]) == 1
    assert "--plot needs matplotlib" in capsys.readouterr().err
