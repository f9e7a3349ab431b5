"""Cells behave the same however the bytes travel."""

from __future__ import annotations

import pytest

from tests.acceptance.cells import plain

SETTINGS = [
    pytest.param({}, id="reading-memory"),
    pytest.param({"ZEROKERNEL_EMULATE_PTRACE_DENIED": "1"}, id="shared-arena"),
    pytest.param({"ZEROKERNEL_CHANNEL": "tcp"}, id="tcp"),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_large_arrays_cross_and_come_back_in_place(own_machine, settings):
    """An array of 8 MiB is changed in place, twice, and its aliases see it."""
    kernel = own_machine.kernel(**settings)
    plain(kernel, "import numpy as np\na = np.arange(1 << 20, dtype=float); b = a; x = [1]")
    run = kernel.run(
        "%%gpu\na += 1; x.append(2); c = a[:10]\nprint(a.sum() == (1 << 20) * 524288.5)"
    )
    assert run.text("stdout") == "True\n", run
    assert plain(kernel, "print(b[0], x, c.base is a)") == "1.0 [1, 2] True"
    assert kernel.run("%%gpu\na += 1").status == "ok"
    assert plain(kernel, "print(b[0], b[-1], c[0])") == "2.0 1048577.0 2.0"
