"""Bad input gets a clear error, loses nothing, and shows no traceback of ours."""

from __future__ import annotations

import stat

import pytest

from tests.acceptance.cells import plain
from tests.kernels import Kernel, Run


def _refused(kernel: Kernel, code: str, name: str, *words: str) -> Run:
    """Runs a cell that must fail so, and checks that the notebook is as it was."""
    plain(kernel, "x = [1]")
    run = kernel.run(code)
    assert run.status == "error", run
    assert run.reply["ename"] == name
    shown = run.text("stderr") + "".join(
        "\n".join(o["traceback"]) + o["evalue"] for o in run.outputs if o["type"] == "error"
    )
    for word in words:
        assert word in shown
    assert "/zerokernel/" not in shown, "a traceback of ours"
    assert plain(kernel, "print(x)") == "[1]"
    assert kernel.run("%%gpu --quiet\nx.append(2)").status == "ok"
    return run


@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        ("--duraton 5", "BadOption", ["--duration"]),
        ("--duration", "BadDuration", ["--duration"]),
        ("--quiet=maybe", "BadOption", []),
        ("nonsense", "BadOption", ["nonsense"]),
        ("-d 0", "BadDuration", ["0"]),
        ("-d -5", "BadDuration", []),
        ("-d nan", "BadDuration", ["nan"]),
        ("-d inf", "BadDuration", []),
        ("-d nosuchname", "BadDuration", ["nosuchname"]),
        ('-d "1/0"', "BadDuration", ["ZeroDivisionError"]),
        ("--size gigantic", "UnknownSize", ["gigantic", "simulated"]),
    ],
)
def test_a_bad_line_is_refused(kernel, line, name, words):
    """Each malformed line of `%%gpu` is named, and says what would be right."""
    _refused(kernel, f"%%gpu {line}\nx.append('never')", name, *words)


def test_an_empty_cell_is_refused(kernel):
    """`%%gpu` above nothing says so."""
    _refused(kernel, "%%gpu\n", "UsageError", "%%gpu")


def test_an_unknown_command_is_refused(kernel):
    """`%gpu` says which commands there are."""
    _refused(kernel, "%gpu restrat", "BadOption", "restart")


def test_an_object_that_cannot_travel_is_named_when_read(kernel):
    """The message has the path inside the object; other names of the cell travelled."""
    plain(kernel, "import threading\nmodel = {'cfg': {'lock': threading.Lock()}}\ny = [5]")
    plain(kernel, "held = model['cfg']['lock'].acquire()")
    words = ("model", "cfg", "lock")
    run = _refused(kernel, "%%gpu\ny.append(6)\nprint(model)", "CannotTravel", *words)
    assert "print(model)" in "".join(run.error()["traceback"])
    assert plain(kernel, "print(y, model['cfg']['lock'].locked())") == "[5, 6] True"


def test_an_object_that_cannot_travel_is_no_matter_when_unread(kernel):
    """A name that the cell mentions but never reads does not disturb it."""
    plain(kernel, "import threading\nlock = threading.Lock()\nheld = lock.acquire()\ny = [5]")
    run = kernel.run("%%gpu\nif not y:\n    print(lock)\ny.append(6)")
    assert run.status == "ok", run
    assert plain(kernel, "print(y)") == "[5, 6]"


def test_a_broker_that_cannot_start_is_told(own_machine):
    """The error says why, and `--cpu` runs the cell all the same."""
    own_machine.directory.chmod(0o755)
    kernel = own_machine.kernel()
    plain(kernel, "x = [1]")
    error = kernel.run("%%gpu\nx.append(2)").error()
    assert error["ename"] == "BrokerUnavailable"
    assert "chmod 700" in error["evalue"]
    assert stat.S_IMODE(own_machine.directory.stat().st_mode) == 0o755
    assert kernel.run("%%gpu --cpu\nx.append(3)").status == "ok"
    assert plain(kernel, "print(x)") == "[1, 3]"
    own_machine.directory.chmod(0o700)
    assert kernel.run("%%gpu\nx.append(4)").status == "ok"
