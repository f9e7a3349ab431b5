"""The notebooks that a reader opens first run from beginning to end, as `make demo` runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.leftovers import end_broker

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUNNER = ROOT / "notebooks" / "run.py"
SECONDS = 300


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where the runner finds this checkout and its kernelspec, and a broker of its own."""
    shutil.copytree(ROOT / "kernelspec", tmp_path / "jupyter" / "kernels" / "zerokernel")
    directory = Path(tempfile.mkdtemp(prefix="zk-"))  # short: it holds sockets
    yield {
        **os.environ,
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
        "PYTHONPATH": str(ROOT),
        "ZEROKERNEL_RUNTIME_DIRECTORY": str(directory),
        # Beside other tests, threads of so small a network only wait for each other.
        "OMP_NUM_THREADS": "1",
    }
    end_broker(directory)
    shutil.rmtree(directory)


def run(notebook: Path, kernel: str, output: Path, environment: dict[str, str]):
    command = [sys.executable, str(RUNNER), str(notebook), "--kernel", kernel]
    return subprocess.run(
        [*command, "--output", str(output)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("kernel", ["python3", "zerokernel"])
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_passes(notebook, kernel, environment, tmp_path):
    """Every cell passes under either kernel, and each `%%gpu` cell leaves a receipt."""
    done = run(notebook, kernel, tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = nbformat.read(str(tmp_path / notebook.name), as_version=4)
    cells = [cell for cell in executed.cells if cell.source.startswith("%%gpu")]
    assert cells
    for cell in cells:
        own = [output.metadata["zerokernel"] for output in cell.outputs if _is_own(output)]
        assert [one["phase"] for one in own] == ["receipt"], cell.outputs
        assert own[0]["ran"] > 0
    assert done.stdout.count("=> ran ") == len(cells)
    assert (tmp_path / f"{notebook.stem}.html").stat().st_size > 10_000


def _is_own(output: nbformat.NotebookNode) -> bool:
    return "zerokernel" in output.get("metadata", {})


def test_a_failing_cell_fails_the_runner(environment, tmp_path):
    """The exit status is 1, the cell is named, and what had run until then is written."""
    sources = [
        "%load_ext zerokernel",
        "%%gpu\nprint('before')",
        "%%gpu\n1 / 0",
        "print('never')",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = tmp_path / "failing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), str(notebook))
    done = run(notebook, "python3", tmp_path / "out", environment)
    assert done.returncode == 1
    assert "cell [3] %%gpu failed: ZeroDivisionError: division by zero" in done.stderr
    assert "before" in done.stdout
    assert "never" not in done.stdout
    written = json.loads((tmp_path / "out" / "failing.ipynb").read_text())
    assert written["cells"][1]["outputs"]
    assert not written["cells"][3]["outputs"]


def test_a_kernel_that_is_not_there_is_named(environment, tmp_path):
    """Without the kernel the runner says which one is missing, without a traceback."""
    done = run(NOTEBOOKS[0], "no-such-kernel", tmp_path, environment)
    assert done.returncode == 1
    assert done.stderr.strip() == "There is no Jupyter kernel named 'no-such-kernel' here."


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(notebook):
    """What a reader sees first was not computed on somebody else's machine."""
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
