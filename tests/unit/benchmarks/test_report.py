import json
import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks' folder in front of the search path, as for a script of it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("report", "publish"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def report(scripts: None) -> ModuleType:
    import report

    return report


@pytest.fixture
def publish(scripts: None) -> ModuleType:
    import publish

    return publish


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        (list(map(float, range(1, 101))), 0.99, 99.0),
        (list(map(float, range(1, 301))), 0.99, 297.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 9.0], 0.0, 1.0),
        ([1.0, 9.0], 1.0, 9.0),
    ],
)
def test_percentile_is_a_nearest_rank(report, values, fraction, expected):
    """A percentile is a value that was measured, the smallest that covers the fraction."""
    assert report.percentile(values, fraction) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(2.5, "2.50 s"), (0.0401, "40.1 ms"), (3e-5, "30 µs"), (-0.0012, "-1.2 ms")],
)
def test_durations_are_said_in_their_unit(report, seconds, expected):
    """A time is printed in seconds, milliseconds or microseconds."""
    assert report.duration(seconds) == expected


def test_an_absolute_target_is_held_against_our_time(report):
    """A target in seconds ignores the peer; the boundary itself is met."""
    assert report.Row("x", 0.003, "peer", 0.001, target_seconds=0.003).met is True
    assert report.Row("x", 0.0031, "peer", 1.0, target_seconds=0.003).met is False


def test_a_relative_target_is_held_against_the_ratio(report):
    """A target in times compares with the yardstick of the same run."""
    assert report.Row("x", 0.15, "numpy.copy", 0.1, target_ratio=1.5).met is True
    assert report.Row("x", 0.16, "numpy.copy", 0.1, target_ratio=1.5).met is False


def test_no_target_is_neither_met_nor_missed(report):
    """A row without a target, or without the yardstick of it, claims nothing."""
    assert report.Row("x", 1.0).met is None
    assert report.Row("x", 1.0, target_ratio=2.0).met is None


def test_the_table_shows_a_missed_target(report):
    """A missed target cannot be overlooked in the table, and its columns are aligned."""
    text = report.table([report.Row("slow", 2.0, "peer", 1.0, target_ratio=1.5)])
    heading, rule, row = text.splitlines()
    assert len(heading) == len(rule) == len(row)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "slow",
        "2.00 s",
        "peer",
        "1.00 s",
        "2.00",
        "≤ 1.5 times",
        "NO",
    ]


def test_the_results_name_no_host_and_no_path(report, tmp_path):
    """The JSON says what machine it was by its parts, and can be read back."""
    rows = report.plain([report.Row("x", 1.0, "peer", 2.0, target_seconds=3.0)])
    path = report.write("name", "cpu", {"rows": rows}, tmp_path)
    assert path.name.startswith("name-")
    assert path.name.endswith("-cpu.json")
    text = path.read_text()
    document = json.loads(text)
    assert document["rows"][0]["met"] is True
    assert document["rows"][0]["ratio"] == 0.5
    assert document["machine"]["cores"] >= 1
    assert platform.node() not in document["machine"].values()
    assert str(ROOT) not in text


def test_the_page_shows_the_results_that_are_kept(publish):
    """docs/benchmarks.md is what the newest JSON files say, not written by hand."""
    page = publish.PAGE.read_text(encoding="utf-8")
    assert publish.published(page, publish.RESULTS) == page


def test_the_newest_result_of_each_kind_is_shown(report, publish, tmp_path):
    """An older result gives way to a newer one of the same kind, not to one of another kind."""
    for date, kind, what in (
        ("2026-01-02", "cpu", "newer"),
        ("2026-01-01", "cpu", "older"),
        ("2026-01-01", "gpu", "device"),
    ):
        rows = report.plain([report.Row(what, 1.0)])
        written = report.write("name", kind, {"slices": ["one"], "rows": rows}, tmp_path)
        written.rename(tmp_path / f"name-{date}-{kind}.json")
    page = publish.published("a\n<!-- name -->\nx\n<!-- /name -->\nb", tmp_path)
    assert page.startswith("a\n<!-- name -->\n")
    assert page.endswith("\n<!-- /name -->\nb")
    assert "| newer |" in page
    assert "| device |" in page
    assert "older" not in page


def test_a_benchmark_that_has_not_run_claims_nothing(publish, tmp_path):
    """Without a result the page says that there is none."""
    page = publish.published("<!-- name -->\n<!-- /name -->", tmp_path)
    assert page == "<!-- name -->\nIt has not run yet.\n<!-- /name -->"
