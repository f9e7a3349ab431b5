"""`%%gpu --plan` in a real kernel: figures without a lease, and they come true."""

from __future__ import annotations


def _plan(run):
    (shown,) = run.outputs
    return shown["metadata"]["zerokernel"], shown["data"]["text/plain"]


def test_a_plan_runs_and_leases_nothing(kernel):
    """It lists what the cell reads; the cell's lines do not run."""
    kernel.run("import numpy\nlarge = numpy.ones(1 << 20); small = [1]")
    figures, text = _plan(kernel.run("%%gpu --plan\nlarge += 1; print(small)"))
    assert {one["name"] for one in figures["names"]} >= {"large", "small"}
    assert 8 << 20 <= figures["travels"] < 9 << 20
    assert "it would start at once" in text
    assert kernel.run("print(large[0])").text("stdout") == "1.0\n"
    receipt = kernel.run("%%gpu\nlarge += 1; print(small)").own()[-1]["metadata"]["zerokernel"]
    assert abs(receipt["sent_bytes"] - figures["travels"]) < 10_000
    assert kernel.run("print(large[0])").text("stdout") == "2.0\n"


def test_the_next_plan_knows_what_the_worker_has(kernel):
    """After the cell the same names cost next to nothing."""
    kernel.run("import numpy\nlarge = numpy.ones(1 << 20)")
    kernel.run("%%gpu --quiet\nlarge.sum()")
    figures, text = _plan(kernel.run("%%gpu --plan\nlarge.sum()"))
    assert figures["travels"] < 1000
    assert "is there" in text


def test_a_blocker_is_named_with_its_remedy(kernel):
    """What would be absent in the cell is known before it waits for a slice."""
    kernel.run("numbers = (n for n in range(3))")
    _, text = _plan(kernel.run("%%gpu --plan\nlist(numbers)"))
    assert "is a generator; turn it into a list" in text
