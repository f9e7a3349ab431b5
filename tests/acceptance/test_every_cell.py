"""`gpu_cells = "all"`: whatever is run, a person cannot tell it from a plain kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import Machine
from tests.differential.judge import outputs_of
from tests.kernels import Kernel, Run

ELSEWHERE = "%%gpu --cpu\nimport os; os.getpid()"


@pytest.fixture(scope="module")
def plain() -> Iterator[Kernel]:
    """An ipykernel that watches its file descriptors, as it does outside of pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST", raising=False)
        with Kernel() as kernel:
            yield kernel


@pytest.fixture(scope="module")
def every(shared_machine: Machine) -> Iterator[Kernel]:
    kernel = shared_machine.kernel(ZEROKERNEL_GPU_CELLS="all")
    yield kernel
    shared_machine.close_kernels()


def run_all(kernel: Kernel, cells: list[str], **how: Any) -> list[Run]:
    """Queues all cells; each one's outputs are those shown under its request, late ones too."""
    submitted = [kernel.submit(cell, **how) for cell in cells]
    return [kernel.collect(identity) for identity in reversed(submitted)][::-1]


def seen(run: Run) -> Any:
    """What a front end sees, without what differs between any two kernels."""
    reply = run.reply or {}
    names = ("status", "ename", "evalue", "payload", "user_expressions")
    return _cleaned([outputs_of(run), {name: reply.get(name) for name in names}])


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        value = re.sub(r"\x1b\[[0-9;]*m|In\[\d+\]", "", value)
        return re.sub(r"0x[0-9a-f]+|/[\w./-]*\d+\.py|\b\d+\.py|Task-\d+", "…", value)
    if isinstance(value, dict):
        dropped = ("execution_count", "image/png")
        return {key: _cleaned(one) for key, one in value.items() if key not in dropped}
    return [_cleaned(one) for one in value] if isinstance(value, list | tuple) else value


THREAD = """\
import threading
go, done = threading.Event(), threading.Event()
parent = get_ipython().get_parent()
def work():
    if {own}:
        get_ipython().set_thread_parent(parent)
    print("before", flush=True)
    go.wait(20)
    print(tell(), flush=True)
    done.set()
def tell():
    return "after"
thread = threading.Thread(target=work)
thread.start()
"""
TASK = """\
import asyncio
async def work():
    print("begun")
    for n in range(3):
        await asyncio.sleep(0)
    print("over")
task = asyncio.get_running_loop().create_task(work())
"""

PROGRAMS: dict[str, list[str]] = {
    "a thread writes to the cell that runs": [THREAD.format(own=False), "go.set(); done.wait(9)"],
    "or to the one that it was given": [THREAD.format(own=True), "1", "go.set(); done.wait(9)"],
    "a task outlives its cell": [TASK, "await task"],
    "a task is awaited": [TASK + "await task; 5"],
    "the loop runs": ["import asyncio\nasyncio.get_running_loop().is_running()"],
    "so no other can": [
        "import asyncio\nasync def f(): pass\nc = f()\ntry:\n    asyncio.run(c)\n"
        "except RuntimeError as e:\n    print(e)\nc.close()"
    ],
    "context variables stay set": [
        "import contextvars\nv = contextvars.ContextVar('v', default=0)",
        "v.set(1);",
        "v.get()",
        "import asyncio\nv.set(2); await asyncio.sleep(0)",
        "v.get()",
    ],
    "descriptors and subprocesses": [
        "import os, subprocess, sys\nos.system('echo one');",
        "subprocess.run('echo two', shell=True);",
        "subprocess.run('echo three >&2', shell=True);",
        "!echo four",
        "sys.stdout._is_master_process(), sys.stdout.fileno() > 0",
    ],
    "children print": [
        "import multiprocessing\np = multiprocessing.get_context('fork').Process("
        "target=print, args=('child',))\np.start(); p.join()"
    ],
    "import paths": ["import sys\n'' in sys.path"],
    "faulthandler": ["import faulthandler\nfaulthandler.enable(); faulthandler.is_enabled()"],
    "payloads": [
        "get_ipython().set_next_input('x = 1')",
        "len?",
        "%pdoc len",
        "%load -r 1 nothing",
    ],
    "leaving": ["quit(True)"],
    "capturing": ["%%capture got\nprint(1); 2", "got.stdout, got.outputs"],
    "cell magics": ["%%bash\necho b", "%%writefile /dev/null\nx", "%%no_such_magic\n1"],
    "errors": ["raise SystemExit(3)", "1/0", "x = = 1", "return 1", "%no_such_magic"],
    "results": [
        "1 + 1",
        "_ + 1",
        "2;",
        "None",
        "class A:\n    def __repr__(self): return 1/0\nA()",
    ],
    "the shell": ["ip = get_ipython()", "ip is get_ipython()", "ip.user_ns is globals()"],
    "figures": [
        "import matplotlib\nimport matplotlib.pyplot as plt\nmatplotlib.get_backend()",
        "plt.plot([1, 2]);",
        "fig, ax = plt.subplots()\nfig",
    ],
    "nothing": ["", "   ", "# a comment"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_a_plain_kernel(plain: Kernel, every: Kernel, program: str) -> None:
    """Outputs, errors, results and replies are those of a plain kernel, under each request."""
    cells = PROGRAMS[program]
    ours, theirs = (run_all(kernel, cells) for kernel in (every, plain))
    for cell, one, other in zip(cells, ours, theirs, strict=True):
        assert seen(one) == seen(other), cell


def test_cells_run_in_a_worker(every: Kernel) -> None:
    """They do, with `%%gpu` or not; `%%gpu --cpu` runs in the notebook, and nothing is shown."""
    cells = ["import os; os.getpid()", "%%gpu --quiet\nimport os; os.getpid()", ELSEWHERE]
    runs = run_all(every, cells)
    first, second, here = [run.outputs[-1]["data"]["text/plain"] for run in runs]
    assert first == second != here == str(every.pid)
    assert [run.own() for run in runs] == [[], [], []]


@pytest.mark.parametrize("how", [{"silent": True}, {"store_history": False}])
def test_requests_that_want_less(plain: Kernel, every: Kernel, how: dict[str, Any]) -> None:
    """A silent request shows no result, one without history counts nothing, but both run."""
    cell = "quiet = get_ipython().execution_count\nprint('p')\n40 + 2"
    expressions = {"value": "quiet > 0"}
    one, other = (k.run(cell, user_expressions=expressions, **how) for k in (every, plain))
    assert seen(one) == seen(other)
    before = [k.run("0").reply["execution_count"] for k in (every, plain)]  # type: ignore[index]
    every.run("1", **how)
    plain.run("1", **how)
    after = [k.run("0").reply["execution_count"] for k in (every, plain)]  # type: ignore[index]
    assert after == [count + 1 for count in before]


def test_expressions_see_what_the_cell_made(every: Kernel) -> None:
    """user_expressions are evaluated after the cell has come home."""
    run = every.run("made = [1, 2]", user_expressions={"m": "made + [3]", "bad": "no_such"})
    assert run.reply is not None
    found = run.reply["user_expressions"]
    assert found["m"]["data"]["text/plain"] == "[1, 2, 3]"
    assert (found["bad"]["status"], found["bad"]["ename"]) == ("error", "NameError")


def test_what_is_imported_there_is_completed_and_explained_here(every: Kernel) -> None:
    """Completion and inspection know names whose module only the worker's cell imported."""
    every.run("import colorsys as only_there\ndef made_there(a):\n    'Says what it does.'")
    found = every.client.complete("only_there.rgb_to", 17, reply=True, timeout=30)
    assert "rgb_to_hls" in str(found["content"]["matches"])
    shown = every.client.inspect("made_there", 10, reply=True, timeout=30)["content"]
    assert shown["found"]
    assert "Says what it does." in shown["data"]["text/plain"]


def test_an_error_aborts_what_is_queued(every: Kernel) -> None:
    """Cells that were queued behind one that fails are aborted, as a front end asks."""
    failed, queued = run_all(every, ["1/0", "2"], stop_on_error=True)
    assert (failed.status, queued.status) == ("error", "aborted")
    assert every.run("3").status == "ok"


def test_a_person_who_cannot_be_asked(plain: Kernel, every: Kernel) -> None:
    """input() raises in the cell where the front end takes no input."""
    one, other = (kernel.run("input('?')") for kernel in (every, plain))
    for run in (one, other):
        assert run.error()["ename"] == "StdinNotImplementedError"
    assert one.error()["evalue"] == other.error()["evalue"]


def test_an_answer_and_the_end_of_the_input(every: Kernel) -> None:
    """What is typed reaches the cell; the end of the input is an EOFError there."""
    for typed, shown in (("blue", "'blue'"), ("\x04", "'end'")):
        cell = "try:\n    answer = input('colour? ')\nexcept EOFError:\n    answer = 'end'\nanswer"
        identity = every.submit(cell.replace("\nanswer", "\nrepr(answer)"), allow_stdin=True)
        asked = every.client.get_stdin_msg(timeout=30)
        assert asked["content"]["prompt"] == "colour? "
        every.client.input(typed)
        every.collect(identity)
        assert every.run("answer").outputs[0]["data"]["text/plain"] == shown


def test_stop_ends_a_question(every: Kernel) -> None:
    """The stop button ends an input() with KeyboardInterrupt in the cell."""
    identity = every.submit("input('colour? ')", allow_stdin=True)
    every.client.get_stdin_msg(timeout=30)
    every.interrupt()
    assert every.collect(identity).error()["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("cell", "raised"),
    [
        (
            "import asyncio\n"
            "show = lambda: print('!', flush=True)\n"
            "shown = asyncio.get_running_loop().call_later(0.01, show)  # while the cell waits\n"
            "await asyncio.sleep(60)",
            "CancelledError",
        ),
        ("import time\nprint('!', flush=True)\ntime.sleep(60)", "KeyboardInterrupt"),
    ],
)
def test_stop_ends_a_cell(every: Kernel, cell: str, raised: str) -> None:
    """It raises where the cell waits, what ipykernel raises there, and the next cell runs."""
    identity = every.submit(cell)
    every.watch(identity, lambda run: "!" in run.text())
    every.interrupt()
    assert every.collect(identity).error()["ename"] == raised
    assert every.run("5").outputs[0]["data"]["text/plain"] == "5"


def test_what_a_cell_leaves_running_goes_on(every: Kernel) -> None:
    """A thread and a task go on after their cell for a while, and what they print is shown."""
    cell = (
        "import asyncio, threading\ndef later():\n    show('thread')\n"
        "def show(word):\n    print(word, flush=True)\n"
        "async def task():\n    await asyncio.sleep(0.2)\n    show('task')\n"
        "kept = asyncio.get_running_loop().create_task(task())\n"
        "timer = threading.Timer(0.3, later)\ntimer.start()"
    )
    identity = every.submit(cell)
    every.watch(identity, lambda run: run.reply is not None)
    run = every._runs[identity]
    while not {"thread", "task"} <= set(run.text().split()):
        every._read(0.2)
    assert every.collect(identity).status == "ok"


def test_line_magics_about_the_notebook_stay_there(every: Kernel) -> None:
    """`%gpu why` and the history are the notebook's; so is switching the mode off and on."""
    every.run("marker_of_this_test = 1")
    assert "Cell In[" in every.run("%gpu why").text()
    assert "marker_of_this_test" in every.run("%history -l 3").text()
    every.run("%config GpuMagics.gpu_cells = 'marked'")
    here = every.run("import os; os.getpid()").outputs[-1]["data"]["text/plain"]
    every.run("%config GpuMagics.gpu_cells = 'all'")
    there = every.run("import os; os.getpid()").outputs[-1]["data"]["text/plain"]
    assert here == str(every.pid) != there


def test_a_subshell_says_where_its_cells_run(every: Kernel) -> None:
    """They run in the notebook's own process, and the first of them says so."""
    subshell = every.open_subshell()
    texts = [every.run("import os; print(os.getpid())", subshell=subshell) for _ in range(2)]
    assert [run.text().strip() for run in texts] == [str(every.pid)] * 2
    assert [len(run.own()) for run in texts] == [1, 0]
    assert "notebook's own process" in texts[0].own()[0]["data"]["text/plain"]
