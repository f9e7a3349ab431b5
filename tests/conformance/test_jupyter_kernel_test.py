"""jupyter_kernel_test passes where every cell goes to a worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import test_kernel_conformance as marked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The repository's kernelspec, in an environment that says so."""
    path = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(ROOT / "kernelspec", path / "kernels" / "zerokernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(path))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("ZEROKERNEL_GPU_CELLS", "all")
        patch.setenv("ZEROKERNEL_DEVICES", "simulated")
        yield


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
