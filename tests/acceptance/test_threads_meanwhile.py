"""What the notebook's own threads change while a cell runs elsewhere."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.cells import plain
from tests.kernels import Kernel

_NOTEBOOK = """
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
_CELL = """%%gpu --quiet
first = rows[0]
begun.touch()
while not done.exists():
    time.sleep(0.01)
"""


def test_a_thread_changes_a_captured_list_while_the_cell_runs(
    kernel: Kernel, tmp_path: Path
) -> None:
    """The next cell sees the change, however many objects travelled with the first."""
    files = {name: str(tmp_path / name) for name in ("begun", "done")}
    plain(kernel, _NOTEBOOK.format(**files))
    run = kernel.run(_CELL)
    assert run.status == "ok", run
    plain(kernel, "thread.join()")
    assert plain(kernel, "print(rows[5])") == "[5, 'changed']"
    assert kernel.run("%%gpu --quiet\nprint(rows[5])").text("stdout").strip() == "[5, 'changed']"
