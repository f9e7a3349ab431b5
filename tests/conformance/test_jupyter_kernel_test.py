"""jupyter_kernel_test passes where every cell goes to a worker."""

from __future__ import annotations

import pytest

from tests.acceptance import test_kernel_conformance as marked


@pytest.fixture(scope="module", autouse=True)
def _every_cell(kernelspec: pytest.MonkeyPatch) -> None:
    """Kernels that start are told so by their environment."""
    kernelspec.setenv("ZEROKERNEL_GPU_CELLS", "all")
    kernelspec.setenv("ZEROKERNEL_DEVICES", "simulated")


class TestConformanceOfEveryCell(marked.TestConformance):
    """The public suite, each of whose cells runs on a slice."""

    def test_cells_run_elsewhere(self) -> None:
        """The mode is on: a cell's process is not that of the kernel."""
        reply = self.kc.execute_interactive(
            "import os; there = os.getpid()",
            user_expressions={"apart": "there != __import__('os').getpid()"},
            timeout=60,
        )
        assert reply["content"]["user_expressions"]["apart"]["data"]["text/plain"] == "True"
