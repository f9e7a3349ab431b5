"""A cell's output comes live; zerokernel's own can be told from it and switched off."""

from __future__ import annotations

import pytest

from tests.acceptance.cells import phases, plain, started, until
from tests.kernels import Run


def _updated(run: Run) -> bool:
    own = [o for o in run.outputs if o not in run.own()]
    return any(o["type"] == "update_display_data" for o in own)


def test_output_is_live(kernel, gate):
    """What a cell prints arrives while it still runs."""
    cell = kernel.submit("%%gpu\n" + until(gate.path) + "print('over')")
    run = kernel.watch(cell, started)
    assert not run.done
    assert "over" not in run.text()
    gate()
    assert kernel.collect(cell).text("stdout") == "started\nover\n"


def test_a_display_update_is_live(kernel, gate):
    """So are displays and their updates."""
    code = "h = display('first', display_id='here'); h.update('second')\n"
    cell = kernel.submit("%%gpu\n" + code + until(gate.path))
    run = kernel.watch(cell, _updated)
    assert not run.done
    gate()
    assert kernel.collect(cell).status == "ok"


def test_the_status_line_ends_in_a_receipt(kernel):
    """One display, updated in place; its figures are in the metadata, its words in text."""
    run = kernel.run("%%gpu\nx = bytes(100_000)")
    own = run.own()
    assert [o["type"] for o in own] == ["display_data"] + ["update_display_data"] * (len(own) - 1)
    assert len({o["transient"]["display_id"] for o in own}) == 1
    receipt = phases(run)[-1]
    assert receipt["phase"] == "receipt"
    assert receipt["slice"] == "simulated 1"
    assert receipt["returned_bytes"] >= 100_000
    assert "simulated 1" in own[-1]["data"]["text/plain"]
    assert "simulated 1" in own[-1]["data"]["text/html"]


@pytest.mark.parametrize(
    ("before", "line"), [("", "%%gpu --quiet"), ("%config GpuMagics.status_line = False", "%%gpu")]
)
def test_the_status_line_can_be_switched_off(kernel, before, line):
    """For a cell by option, for a notebook by configuration."""
    assert kernel.run(before or "pass").status == "ok"
    run = kernel.run(f"{line}\nprint('only this')")
    assert {o["type"] for o in run.outputs} == {"stream"}
    assert run.status == "ok"


def test_capture_captures_the_cell(kernel):
    """`%%capture` above `%%gpu` takes all its output, and the cell's names stay."""
    run = kernel.run("%%capture got\n%%gpu\nprint('quiet')\ndisplay('shown')\nz = 5")
    assert run.status == "ok"
    assert run.outputs == []
    shown = "[o.data['text/plain'] for o in got.outputs if 'zerokernel' not in o.metadata]"
    assert plain(kernel, f"print(repr(got.stdout), {shown}, z)") == "'quiet\\n' [\"'shown'\"] 5"


def test_cpu_runs_the_cell_in_place(kernel):
    """`--cpu` is a plain cell: the kernel's process, its result, its error, no receipt."""
    run = kernel.run("%%gpu --cpu\nimport os\npid = os.getpid()\n[pid]")
    assert [o["type"] for o in run.outputs] == ["execute_result"]
    assert plain(kernel, "print(pid == os.getpid(), Out)").startswith("True {1: [")
    run = kernel.run("%%gpu --cpu\nhalf = 1\n1 / 0")
    assert run.error()["ename"] == "ZeroDivisionError"
    assert plain(kernel, "print(half)") == "1"


def test_the_overview_names_broker_slice_and_worker(kernel):
    """`%gpu` shows the slice and this notebook's worker."""
    assert kernel.run("%%gpu --quiet\npass").status == "ok"
    run = kernel.run("%gpu")
    (shown,) = run.own()
    assert "simulated 1" in shown["data"]["text/plain"]
    assert "this notebook" in shown["data"]["text/plain"]


def test_help_is_shown(kernel):
    """`%%gpu?` explains every option."""
    run = kernel.run("%%gpu?")
    (page,) = run.reply["payload"]
    for option in ("--duration", "--size", "--cpu", "--quiet"):
        assert option in page["data"]["text/plain"]
