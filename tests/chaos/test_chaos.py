"""The chaos run, short; `make chaos` is the long one. And proof that its audit finds faults."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.audit import Entry, examine
from tests.chaos.killer import Kill
from tests.chaos.population import Kind
from tests.chaos.seat import Answer
from tests.kernels import ROOT, Kernel

SEED = 20261122
SHORT = ("--kills", "25", "--cells", "24", "--kernels", "10", "--slices", "2", "--pause", "1")


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_is_left() -> None:
    """25 SIGKILLs of anything under 10 notebooks on 2 slices: not one fault is found.

    The run is a process of its own: it moves into a control group, and every process that
    it starts can be told from those of other tests.
    """
    command = [sys.executable, "-m", "tests.chaos", "--seed", str(SEED), *SHORT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    assert "faults: 0" in done.stdout


def test_a_cell_knows_its_slice_and_its_lease() -> None:
    """Their ids are in the worker's environment, the lease's anew in each cell, and stay there."""
    code = "%%gpu\nimport os\nprint(os.environ['ZEROKERNEL_SLICE'], os.environ['ZEROKERNEL_LEASE'])"
    with Kernel({"ZEROKERNEL_DEVICES": "simulated"}) as kernel:
        kernel.load_extension()
        (place, first), (_, second) = (kernel.run(code).text("stdout").split() for _ in range(2))
        assert place.startswith("simulated-")
        assert first != second
        left = kernel.run("print([n for n in os.environ if n.endswith(('_SLICE', '_LEASE'))])")
        assert left.text("stdout") == "[]\n"


def seen(event: str, at: float, **changed: Any) -> dict[str, Any]:
    """A line of the witness's log."""
    line = {"cell": 1, "lease": "l1", "slice": "s1", "process": 7, "event": event, "at": at}
    return line | changed


ANSWER = Answer(1, "ok", 9.0, 12.0, ran=2.0)
LINES = [seen("begin", 10.0), seen("beat", 11.0), seen("end", 12.0)]
BOOKS = [Entry("l1", 2000, False, "finished", False)]
KILLED = Kill(11.0, Kind.SUPERVISOR, 5)


def found(
    answer: Answer = ANSWER,
    lines: list[dict[str, Any]] = LINES,
    books: list[Entry] = BOOKS,
    kills: tuple[Kill, ...] = (),
    violations: tuple[dict[str, Any], ...] = (),
) -> str:
    return "\n".join(examine([answer], lines, violations, books, kills))


def test_a_run_without_fault_passes() -> None:
    """A cell that ended well, charged what its receipt says, to the rounding."""
    assert not found()
    assert not found(books=[replace(BOOKS[0], charged=2002)])


def test_a_lost_cell_passes_within_its_bounds() -> None:
    """Charged for what was seen and a heartbeat at most, or not at all where it is refunded."""
    lost = replace(ANSWER, fate="error", error="WorkerKilled: it was killed", ran=None)
    cut = LINES[:2]
    for charged, cause in ((1000, "killed"), (2000, "recovered"), (0, "supervisor lost")):
        assert not found(lost, cut, [Entry("l1", charged, False, cause, False)])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"violations": ({"slice": "s1"},)}, "two workers on one slice"),
        ({"lines": [*LINES, seen("begin", 11.5, cell=2, lease="l2")]}, "two cells at once"),
        ({"lines": [*LINES, seen("begin", 12.5)]}, "began 2 times"),
        ({"lines": LINES[:2]}, "its end was seen 0 times"),
        ({"answer": replace(ANSWER, faults=("[1] is not []",))}, "is not []"),
        ({"answer": replace(ANSWER, fate="hung")}, "hung"),
        ({"answer": replace(ANSWER, fate="error", error="KeyError: 1")}, "failed with KeyError"),
        ({"books": []}, "not in the books"),
        ({"books": BOOKS * 2}, "2 times"),
        ({"books": [replace(BOOKS[0], open=True)]}, "still open"),
        ({"books": [replace(BOOKS[0], reserved=5)]}, "still open"),
        ({"books": [replace(BOOKS[0], charged=2010)]}, "other than its receipt"),
        ({"books": [replace(BOOKS[0], charged=2010)], "kills": (KILLED,)}, "other than"),
        ({"books": [replace(BOOKS[0], cause="recovered", charged=0)]}, "other than"),
        ({"books": [replace(BOOKS[0], cause="supervisor lost")]}, "should have been refunded"),
        ({"books": [*BOOKS, replace(BOOKS[0], lease="l9")]}, "nobody saw"),
        (
            {"books": [replace(BOOKS[0], cause="killed", charged=4200)], "kills": (KILLED,)},
            "more than the 2.000 s",
        ),
    ],
)
def test_every_kind_of_fault_is_found(changed: dict[str, Any], said: str) -> None:
    """Each is named by itself."""
    assert said in found(**changed)
