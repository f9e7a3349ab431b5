"""What the notebook itself changes while a cell runs elsewhere: by threads, in a subshell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.acceptance.cells import phases, plain, started, until
from tests.kernels import Kernel

_OBJECTS = """
import numpy as np
class Config: pass
n, gone, row, table, config = 0, 1, [1], {"a": 1}, Config()
config.rate = 1
weights, tail = np.zeros(100_000), np.zeros(3)
alias, other = row, [0]
"""
_HERE = """
n = 10
del gone
row.append("here")
table["here"] = 2
config.rate = 2
weights[0] = 2
tail[1] = 2
new = "here"
"""
_THERE = """
n = 20
gone = 20
row.append("there")
table["there"] = 3
config.rate = 3
weights[0] = 3
tail[0] = 3
new = "there"
other.append("there")
fresh = row
"""
_LOOK = (
    "(n, 'gone' in globals(), row, alias is row, table, config.rate,"
    " weights[:2].tolist(), tail.tolist(), new, other)"
)
_KEPT = (
    "(10, False, [1, 'here'], True, {'a': 1, 'here': 2}, 2,"
    " [2.0, 0.0], [0.0, 2.0, 0.0], 'here', [0, 'there'])"
)
_TOLD = ("`n`", "`gone`", "`new`", "a list ", "a dict ", "a Config ", "a ndarray ")

_THREAD = """
import pathlib, threading, time
begun, done = pathlib.Path({begun!r}), pathlib.Path({done!r})
def change():
    global n, gone, new
    while not begun.exists():
        time.sleep(0.005)
{changes}
    done.touch()
thread = threading.Thread(target=change)
thread.start()
"""
_WHILE_IT_CHANGES = """
begun.touch()
while not done.exists():
    time.sleep(0.005)
"""
_GROWING = """
import itertools, threading, time
log, rows, stop = {}, [[0] for _ in range(3_000)], threading.Event()
def grow():
    global count
    for number in itertools.count():
        if stop.is_set():
            return
        log[number] = [number]
        rows[number % 3_000].append(number)
        count = number
        time.sleep(0.0002)
thread = threading.Thread(target=grow)
thread.start()
"""

_MANY = """
import pathlib, threading, time
begun, done = pathlib.Path({begun!r}), pathlib.Path({done!r})
rows = [[number] for number in range(2_000)]

def change():
    while not begun.exists():
        time.sleep(0.01)
    rows[5].append("changed")
    done.touch()

thread = threading.Thread(target=change)
thread.start()
"""
_MANY_CELL = """%%gpu --quiet
first = rows[0]
begun.touch()
while not done.exists():
    time.sleep(0.01)
"""


def _change_in_a_thread(kernel: Kernel, directory: Path) -> None:
    """Starts a thread that changes the objects once the next cell runs."""
    changes = "\n".join(f"    {line}" for line in _HERE.split("\n"))
    files = {name: str(directory / name) for name in ("begun", "done")}
    plain(kernel, _THREAD.format(changes=changes, **files))


def test_what_a_thread_changes_is_kept_and_told(kernel: Kernel, tmp_path: Path) -> None:
    """Nothing that both changed is overwritten, each of it is named, and the rest comes home."""
    plain(kernel, _OBJECTS)
    _change_in_a_thread(kernel, tmp_path)
    run = kernel.run("%%gpu\n" + _THERE + _WHILE_IT_CHANGES)
    assert run.status == "ok", run
    plain(kernel, "thread.join()")
    conflicts = phases(run)[-1]["conflicts"]
    assert [words for words in _TOLD if not any(words in one for one in conflicts)] == []
    assert len(conflicts) == len(_TOLD) + 1  # two arrays
    assert plain(kernel, f"print({_LOOK})") == _KEPT
    assert plain(kernel, "print(fresh is row)") == "True"
    assert kernel.run(f"%%gpu --quiet\nprint({_LOOK})").text("stdout").strip() == _KEPT


def test_what_a_subshell_changes_is_kept_and_told_under_quiet(
    kernel: Kernel, gate: Callable[[], None]
) -> None:
    """A cell of a subshell that runs meanwhile does as a thread does; `--quiet` hides it not."""
    plain(kernel, _OBJECTS)
    subshell = kernel.open_subshell()
    cell = kernel.submit("%%gpu --quiet\n" + _THERE + until(gate.path))  # type: ignore[attr-defined]
    kernel.watch(cell, started)
    beside = kernel.run(_HERE, subshell=subshell)
    assert beside.status == "ok", beside
    gate()
    run = kernel.collect(cell)
    assert run.status == "ok", run
    [told] = phases(run)
    assert told["phase"] == "conflict"
    assert [words for words in _TOLD if not any(words in one for one in told["conflicts"])] == []
    assert plain(kernel, f"print({_LOOK})") == _KEPT
    again = kernel.run(f"%%gpu --quiet\nprint({_LOOK})")
    assert (again.text("stdout").strip(), again.own()) == (_KEPT, [])


def test_a_thread_that_only_reads_is_no_conflict(kernel: Kernel, tmp_path: Path) -> None:
    """And what it alone changes is not either: all of it is there afterwards."""
    plain(kernel, _OBJECTS)
    plain(kernel, "mine = [0]")
    changes = "    kept = (n, list(row), dict(table))\n    mine.append(1)"
    files = {name: str(tmp_path / name) for name in ("begun", "done")}
    plain(kernel, _THREAD.format(changes=changes, **files).replace("global", "# global"))
    run = kernel.run("%%gpu\nlen(mine)\n" + _THERE + _WHILE_IT_CHANGES)
    assert run.status == "ok", run
    assert phases(run)[-1]["conflicts"] == []
    assert plain(kernel, "print(n, row, mine)") == "20 [1, 'there'] [0, 1]"
    assert kernel.run("%%gpu\nprint(mine)").text("stdout").strip() == "[0, 1]"


def test_a_thread_changes_a_captured_list_while_the_cell_runs(
    kernel: Kernel, tmp_path: Path
) -> None:
    """The next cell sees the change, however many objects travelled with the first."""
    files = {name: str(tmp_path / name) for name in ("begun", "done")}
    plain(kernel, _MANY.format(**files))
    run = kernel.run(_MANY_CELL)
    assert run.status == "ok", run
    plain(kernel, "thread.join()")
    assert plain(kernel, "print(rows[5])") == "[5, 'changed']"
    assert kernel.run("%%gpu --quiet\nprint(rows[5])").text("stdout").strip() == "[5, 'changed']"


def test_a_thread_that_changes_things_all_the_time(kernel: Kernel) -> None:
    """Cells run beside it as plain ones would: none fails, and no entry of the thread's is lost."""
    plain(kernel, _GROWING)
    for number in range(8):
        cell = f"%%gpu --quiet\nsize = len(log), sum(map(len, rows)); seen = {number}"
        run = kernel.run(cell)
        assert run.status == "ok", (number, run)
        assert plain(kernel, "print(seen, size[0] <= len(log))") == f"{number} True"
    plain(kernel, "stop.set(); thread.join()")
    whole = "log == {n: [n] for n in range(len(log))}, sum(map(len, rows)) - 3_000 == len(log)"
    assert plain(kernel, f"print({whole}, count == len(log) - 1)") == "True True True"


def test_plain_cells_of_a_subshell_run_beside_one_that_fetches(kernel: Kernel) -> None:
    """What is tidied up after each cell is left alone while another one still needs it."""
    plain(kernel, "many = {f'v{n}': [n] * 3 for n in range(300)}; globals().update(many)")
    subshell = kernel.open_subshell()
    # Names that no reading of the cell finds: each is asked for while it runs.
    cell = kernel.submit(
        "%%gpu --quiet\nprint('started', flush=True)\nimport time\ntotal = 0\n"
        "for n in range(300):\n    total += sum(eval('v' + str(n)))\n    time.sleep(0.002)\n"
    )
    kernel.watch(cell, started)
    beside = [kernel.submit(f"w = [{n}]; del w", subshell=subshell) for n in range(40)]
    assert [kernel.collect(one).status for one in beside] == ["ok"] * 40
    assert kernel.collect(cell).status == "ok"
    assert plain(kernel, "print(total == 3 * sum(range(300)))") == "True"


def test_only_threads_that_run_a_persons_code_are_waited_for(kernel: Kernel) -> None:
    """Those that each kernel has do not count, a person's own and a subshell's do."""
    plain(kernel, "from zerokernel.crossing.undisturbed import others_may_run\nimport threading")
    assert kernel.run("%%gpu --quiet\nx = 1").status == "ok"
    names = "[one.name for one in threading.enumerate()]"
    assert plain(kernel, f"print(others_may_run() and {names})") == "False"
    plain(kernel, "go = threading.Event(); thread = threading.Thread(target=go.wait)")
    assert plain(kernel, "thread.start(); print(others_may_run())") == "True"
    assert plain(kernel, "go.set(); thread.join(); print(others_may_run())") == "False"
    kernel.open_subshell()
    assert plain(kernel, "print(others_may_run())") == "True"
