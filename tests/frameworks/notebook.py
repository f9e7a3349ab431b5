"""A notebook as the people who use a framework have one: plain cells and `%%gpu` cells."""

from __future__ import annotations

import textwrap
from typing import Any

from tests.acceptance.cells import phases
from tests.kernels import Kernel, Run

ENVIRONMENT = {
    "ZEROKERNEL_DEVICES": "simulated",
    # Nothing may be asked of a model hub, and nothing drawn that a test would have to ignore.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # One thread of arithmetic: sums are equal bit for bit, and tests side by side do not wait.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

ON_DEVICE = """
import zerokernel
from zerokernel.emulation import DeviceProfile

zerokernel.emulate(DeviceProfile(count=2))
"""
"""From then on the notebook has devices, as one that was written for a machine with GPUs."""


class Notebook:
    """One kernel whose cells must all succeed."""

    def __init__(self, **environment: str) -> None:
        self._kernel = Kernel({**ENVIRONMENT, **environment})
        try:
            self._kernel.load_extension()
        except BaseException:
            self.close()
            raise
        self.receipt: dict[str, Any] = {}
        self._done: set[str] = set()

    def cell(self, code: str) -> str:
        """Runs a plain cell; gives what it printed."""
        run = self._kernel.run(textwrap.dedent(code))
        _check(run)
        return run.text("stdout").strip()

    def once(self, code: str) -> None:
        """Runs a plain cell, unless it has run in this notebook: what several tests need."""
        if code not in self._done:
            self.cell(code)
            self._done.add(code)

    def gpu(self, code: str) -> str:
        """Runs a `%%gpu` cell of which nothing stays behind; gives what it printed."""
        run = self._kernel.run(f"%%gpu\n{textwrap.dedent(code).lstrip()}")
        _check(run)
        self.receipt = phases(run)[-1]
        assert not self.receipt["worker_only"], self.receipt["worker_only"]
        assert not self.receipt["notes"], self.receipt["notes"]
        return run.text("stdout").strip()

    def restart_worker(self) -> None:
        """Ends the worker: the next `%%gpu` cell gets a fresh one."""
        self.cell("%gpu restart")

    def close(self) -> None:
        self._kernel.close()


def _check(run: Run) -> None:
    if run.status != "ok":
        error = run.error()
        raise AssertionError("\n".join(error["traceback"])[-6000:])
