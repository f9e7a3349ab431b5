"""Cells that ask the person, debuggers, and widgets on either side."""

from __future__ import annotations

import queue
import time

import pytest

from tests.acceptance.cells import plain
from tests.kernels import PATIENCE, Kernel, Run

FAILS = "%%gpu\ndef bad(a):\n    local = a * 2\n    return 1 / 0\nbad(21)"
STOP = "stop"
WORDS = ("status", "ename", "evalue")


def talk(kernel: Kernel, code: str, *answers: str) -> tuple[Run, list[str]]:
    """Runs a cell and answers what it asks; STOP presses the stop button instead."""
    left = list(answers)
    asked: list[str] = []
    cell = kernel.submit(code, allow_stdin=True)
    end = time.monotonic() + PATIENCE
    while not kernel._runs[cell].done:
        assert time.monotonic() < end, f"asked {asked}, then nothing: {kernel._runs[cell]}"
        kernel._read(0.05)
        try:
            question = kernel.client.get_stdin_msg(timeout=0.01)
        except queue.Empty:
            continue
        asked.append(question["content"]["prompt"])
        assert left, f"asked for more than expected: {asked}"
        answer = left.pop(0)
        if answer == STOP:
            kernel.interrupt()
        else:
            kernel.client.input(answer)
    assert not left
    return kernel._runs.pop(cell), asked


def comms(run: Run) -> list[tuple[str, dict[str, object]]]:
    return [
        (o["type"], (o.get("data") or {}).get("state", {}))
        for o in run.outputs
        if o["type"].startswith("comm_")
    ]


def test_input_and_getpass_ask_the_person(kernel):
    """The answers reach the cell."""
    code = "%%gpu\nimport getpass\nname = input('who? '); word = getpass.getpass('word? ')"
    run, asked = talk(kernel, code, "Ada", "secret")
    assert (run.status, asked) == ("ok", ["who? ", "word? "])
    assert plain(kernel, "print(name, word)") == "Ada secret"


def test_a_question_can_be_interrupted(kernel):
    """The stop button raises KeyboardInterrupt in the cell, at the question, and only there."""
    code = "%%gpu\ntry:\n    input('wait')\nexcept KeyboardInterrupt:\n    came = 'interrupted'"
    run, _ = talk(kernel, code, STOP)
    assert run.status == "ok", run
    assert plain(kernel, "print(came)") == "interrupted"


def test_breakpoint_stops_where_somebody_can_answer(kernel):
    """A debugger's commands see and change the cell's names; without anybody it goes on."""
    code = "%%gpu\nx = 1\nbreakpoint()\ny = x"
    run, asked = talk(kernel, code, "x = 5", "c")
    assert (run.status, asked) == ("ok", ["ipdb> ", "ipdb> "])
    assert plain(kernel, "print(y)") == "5"
    assert kernel.run(code).status == "ok"
    assert plain(kernel, "print(y)") == "1"


@pytest.mark.parametrize("answer", ["q", STOP])
def test_a_debugger_that_is_left_ends_the_cell_and_not_the_worker(kernel, answer):
    """Quitting ends it as it does a plain cell, and so does interrupting."""
    code = "import pdb\ndef f():\n    pdb.set_trace()\n    return 2\nf()"
    expected, _ = talk(kernel, code, answer)
    run, _ = talk(kernel, f"%%gpu\n{code}", answer)
    assert [run.reply.get(k) for k in WORDS] == [expected.reply.get(k) for k in WORDS]
    assert ("--KeyboardInterrupt--" in run.text()) == (answer is STOP)
    assert kernel.run("%%gpu\nz = 1").status == "ok"


def test_debug_after_a_failed_cell_sees_its_frames(kernel):
    """`%debug` runs in the worker, says so, and shows the locals of the cell's functions."""
    assert kernel.run(FAILS).status == "error"
    run, _ = talk(kernel, "%debug", "p local", "q")
    assert run.status == "ok", run
    assert "It takes a lease" in run.text()
    assert "42" in run.text().splitlines()


def test_debug_says_when_the_frames_are_gone(kernel):
    """After the end of the worker it names what to do; a plain cell's error is IPython's matter."""
    assert kernel.run(FAILS).status == "error"
    assert kernel.run("%gpu restart").status == "ok"
    assert "Run the cell again" in kernel.run("%debug").text()
    assert kernel.run("here = 7; 1 / 0").status == "error"
    for _ in range(2):
        run, _ = talk(kernel, "%debug", "p here", "q")
        assert "7" in run.text().splitlines()


@pytest.mark.parametrize("line", ["from tqdm.notebook import tqdm", "from tqdm.auto import tqdm"])
def test_progress_bars_of_widgets_end_full(kernel, line):
    """They are shown, move while the cell runs, and the bar itself comes home."""
    run = kernel.run(f"%%gpu --quiet\n{line}\nbar = tqdm(range(3))\nfor i in bar: pass")
    assert run.status == "ok", run
    values = [state["value"] for kind, state in comms(run) if "value" in state]
    assert 3.0 in values
    assert "100%" in values
    assert plain(kernel, "print(bar.n, bar.container is not None)") == "3 True"


def test_a_widget_of_the_notebook_is_changed_by_a_cell(kernel):
    """The front end is told once, observers are called, and the notebook's object has the value."""
    plain(
        kernel,
        "import ipywidgets as w; seen = []; s = w.IntSlider(3); box = w.HBox([s])\n"
        "s.observe(lambda change: seen.append(change['new']), 'value')",
    )
    run = kernel.run("%%gpu --quiet\ns.value = 7")
    assert comms(run) == [("comm_msg", {"value": 7})]
    assert plain(kernel, "print(s.value, seen, box.children[0] is s)") == "7 [7] True"
    run = kernel.run("s.value = 8; print(seen)")
    assert comms(run) == [("comm_msg", {"value": 8})]
    assert plain(kernel, "print(seen)") == "[7, 8]"
    assert kernel.run("%%gpu\nprint(s.value)").text("stdout") == "8\n"


def test_a_widget_of_a_cell_lives_on_in_the_notebook(kernel):
    """It is one model in the front end, which plain cells and later cells change."""
    run = kernel.run("%%gpu --quiet\nimport ipywidgets as w\nt = w.IntText(5); display(t)")
    opened = [o["comm_id"] for o in run.outputs if o["type"] == "comm_open"]
    run = kernel.run("t.value = 9")
    assert comms(run) == [("comm_msg", {"value": 9})]
    assert run.outputs[0]["comm_id"] in opened
    run = kernel.run("%%gpu --quiet\nt.value += 1")
    assert comms(run) == [("comm_msg", {"value": 10})]
    assert plain(kernel, "print(t.value)") == "10"
