"""A cell that shows without end: memory stays bounded, it ends, and says what was cut."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.cells import plain, worker_pid
from tests.acceptance.conftest import Machine
from tests.kernels import Kernel, Run

GROWTH = 150 << 20
"""Bytes by which kernel and worker may grow while a flood of gigabytes passes."""

SMALL = {"ZEROKERNEL_OUTPUT_BYTES": "80000", "ZEROKERNEL_OUTPUT_MESSAGES": "80"}

FLOODS = {
    "print": "line = 'x' * 9_999\nfor _ in range(100_000): print(line)",
    "one line": "print('x' * 10**9)",
    "child process": "import subprocess\nsubprocess.run('yes | head -c 1000000000', shell=True);",
    "descriptor": "import os\nfor _ in range(1000): os.write(2, b'x' * 1_000_000)",
}


class Watched:
    """The memory of some processes, as the most that was seen while a cell ran."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._processes = [psutil.Process(pid) for pid in (kernel.pid, worker_pid(kernel))]
        self._before = self._sizes()
        self.growth = [0, 0]

    def run(self, code: str) -> Run:
        cell = self._kernel.submit(code)
        self._kernel.watch(cell, self.look)
        return self._kernel.collect(cell)

    def look(self, run: Run) -> bool:
        """Measures. Gives whether the cell is over."""
        now = self._sizes()
        pairs = zip(self.growth, now, self._before, strict=True)
        self.growth = [max(most, size - before) for most, size, before in pairs]
        return run.done

    def _sizes(self) -> list[int]:
        return [process.memory_info().rss for process in self._processes]


def cut(run: Run) -> dict[str, Any]:
    """What the note at the end of the cell says."""
    (note,) = [o for o in run.own() if o["metadata"]["zerokernel"].get("phase") == "cut"]
    return note["metadata"]["zerokernel"]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_gigabyte_of_text_is_bounded(machine: Machine, flood: str) -> None:
    """No process grows; the first and the last text are shown and the rest is counted."""
    kernel = machine.kernel()
    watched = Watched(kernel)
    line = "" if flood != "one line" else "# the line itself is the cell's own memory\n"
    run = watched.run(f"%%gpu\n{line}{FLOODS[flood]}\nprint('the end')")
    assert run.status == "ok", run.reply
    # A descriptor's pipe is read beside Python's streams: which comes last is open there.
    assert run.text().endswith("the end\n") or flood in ("descriptor", "child process")
    assert "the end\n" in run.text()
    assert len(run.text()) <= 16 << 20
    assert cut(run)["printed_bytes"] >= 10**9
    assert cut(run)["printed_bytes"] - cut(run)["cut_bytes"] == len(run.text())
    in_kernel, in_worker = watched.growth
    assert in_kernel < GROWTH
    # One line of a gigabyte is an object of the cell's, beside which nothing grows.
    assert in_worker < GROWTH + (10**9 if line else 0)


def test_a_flood_of_displays_is_bounded(machine: Machine) -> None:
    """The first and the last displays are shown, in order, and the result is the last."""
    kernel = machine.kernel(ZEROKERNEL_OUTPUT_MESSAGES="800")
    run = kernel.run("%%gpu\nfor i in range(20_000): display(i)\n'result'")
    own = run.own()
    shown = [o["data"]["text/plain"] for o in run.outputs if o not in own and "data" in o]
    expected = [*map(str, range(700)), *map(str, range(19_901, 20_000)), "'result'"]
    assert shown == expected
    assert cut(run)["displays"] == 20_001
    assert cut(run)["cut_displays"] == 20_001 - 800
    assert plain(kernel, "print(_)") == "result"


def test_a_flood_of_updates_shows_the_last(machine: Machine) -> None:
    """Of very many updates few arrive, the last one among them, before the next output."""
    kernel = machine.kernel()
    code = "h = display('none', display_id=True)\nfor i in range(20_000): h.update(i)\n'over'"
    begun = time.monotonic()
    run = kernel.run(f"%%gpu --quiet\n{code}")
    took = time.monotonic() - begun
    updates = [o["data"]["text/plain"] for o in run.outputs if o["type"] == "update_display_data"]
    assert updates[-1] == "19999"
    assert len(updates) < 150 + 25 * took


WIDGETS = """%%gpu --quiet
import ipywidgets, pathlib, time
w = ipywidgets.IntProgress(max=10_000)
w
for i in range(5_000):
    w.value = i + 1
    if not w.value % 500:
        while not pathlib.Path(f'SEEN/{w.value}').exists(): time.sleep(0.005)
"""


def test_a_flood_of_widget_messages_passes(machine: Machine, tmp_path: Path) -> None:
    """A widget's messages are never dropped; the cell waits for them, nothing grows.

    No more are under way than ZeroMQ keeps: where a busy machine does not get round to sending,
    its socket drops what is beyond 1000 messages, also a plain cell's.
    """
    kernel = machine.kernel()
    watched = Watched(kernel)
    cell = kernel.submit(WIDGETS.replace("SEEN", str(tmp_path)))
    for last in range(500, 5001, 500):
        kernel.watch(cell, lambda run, last=last: watched.look(run) or values(run)[-1:] == [last])
        (tmp_path / str(last)).touch()
    assert values(kernel.collect(cell)) == [*range(1, 5001)]
    assert max(watched.growth) < GROWTH


def values(run: Run) -> list[int]:
    """What a widget's value was, one message after the other."""
    return [
        o["data"]["state"]["value"]
        for o in run.outputs
        if o["type"] == "comm_msg" and "value" in o["data"].get("state", {})
    ]


@pytest.mark.parametrize(
    "flood",
    [
        "while True: print('x' * 99)",
        "import subprocess\nsubprocess.run(['yes'])",
        "while True: display('x')",
        "h = display('x', display_id=True)\nwhile True: h.update('y')",
        "import sys\nwhile True: print('x' * 10_000_000, file=sys.stderr, flush=True)",
    ],
)
def test_an_interrupt_ends_a_flood(machine: Machine, flood: str) -> None:
    """The stop button works within a second or so; what was done is kept."""
    kernel = machine.kernel(**SMALL)
    cell = kernel.submit(f"%%gpu\ndone = 'before'\n{flood}")
    kernel.watch(cell, lambda run: len(run.outputs) > 20 or "x" * 99 in run.text())
    kernel.interrupt()
    begun = time.monotonic()
    run = kernel.collect(cell)
    took = time.monotonic() - begun
    assert run.error()["ename"] == "KeyboardInterrupt"
    assert run.outputs[-1]["type"] == "error" or run.own()[-1] == run.outputs[-1]
    assert took < 5  # a second where the machine is not busy with other tests
    assert plain(kernel, "print(done)") == "before"


def test_a_child_that_never_stops_writing_does_not_keep_the_cell(machine: Machine) -> None:
    """A background process that goes on printing after the cell leaves the next one alone."""
    kernel = machine.kernel(**SMALL)
    start = "import subprocess\nchild = subprocess.Popen(['yes'])\nchild.pid"
    run = kernel.run(f"%%gpu\n{start}")
    assert run.status == "ok"
    run = kernel.run("%%gpu\nchild.kill(); child.wait()\n'ended'")
    assert run.status == "ok"
    assert [o for o in run.outputs if o["type"] == "execute_result"]
    assert kernel.run("%%gpu\nprint('quiet')").text().endswith("quiet\n")


def test_text_displays_and_errors_keep_their_order_when_cut(machine: Machine) -> None:
    """A cell that fails after a flood shows the last text and then its traceback, once."""
    kernel = machine.kernel(**SMALL)
    code = (
        "for i in range(20_000):\n    print(f'line {i}')\n"
        "    if i % 5000 == 0: display(f'plot {i}')\n1 / 0"
    )
    run = kernel.run(f"%%gpu\n{code}")
    assert run.error()["ename"] == "ZeroDivisionError"
    own = run.own()
    order = [
        o["text"] if o["type"] == "stream" else o["data"]["text/plain"]
        for o in run.outputs
        if o not in own and o["type"] in ("stream", "display_data")
    ]
    plots = [position for position, text in enumerate(order) if "plot" in text]
    assert len(plots) == 4
    for position in plots[1:]:
        number = int(order[position].strip("'").split()[1])
        assert order[position - 1].endswith(f"line {number}\n"), "the line before its plot"
    assert order[-1].endswith("line 19999\n")
    kinds = [o["type"] for o in run.outputs if o not in own]
    assert kinds[-1] == "error"
    assert cut(run)["printed_bytes"] == sum(len(f"line {i}\n") for i in range(20_000))


def test_a_quiet_cell_still_says_what_was_cut(machine: Machine) -> None:
    """Switching the status line off does not make a cut silent."""
    kernel = machine.kernel(**SMALL)
    run = kernel.run("%%gpu --quiet\nprint('x' * 1_000_000)")
    assert cut(run)["printed_bytes"] == 1_000_001
    assert "printed 1.0 MB" in run.own()[-1]["data"]["text/plain"]
