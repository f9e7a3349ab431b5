"""The notebooks that a reader opens first run from beginning to end, as `make demo` runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.kernels import offer_kernelspec
from tests.leftovers import end_broker

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUNNER = ROOT / "notebooks" / "run.py"
SECONDS = 300
SLOW = {("03-models-on-cuda", "python3")}
"""With its libraries and two trainings it takes half a minute."""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where the runner finds this checkout and its kernelspec, and a broker of its own."""
    directory = Path(tempfile.mkdtemp(prefix="zk-"))  # short: it holds sockets
    yield {
        **os.environ,
        **offer_kernelspec(tmp_path / "jupyter"),
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


def need_its_libraries(notebook: Path) -> None:
    """Skips a test where something that a notebook imports is not installed."""
    for library in ("torch", "transformers", "diffusers"):
        if re.search(rf"\b(import|from) {library}\b", notebook.read_text()):
            pytest.importorskip(library)


def _pairs() -> list[Any]:
    """Each notebook with each kernel; one that takes long is slow with the first."""
    return [
        pytest.param(
            *(notebook, kernel),
            marks=pytest.mark.slow if (notebook.stem, kernel) in SLOW else (),
            id=f"{notebook.stem}-{kernel}",
        )
        for notebook in NOTEBOOKS
        for kernel in ("python3", "zerokernel")
    ]


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize(("notebook", "kernel"), _pairs())
def test_a_notebook_passes(notebook, kernel, environment, tmp_path):
    """Every cell passes under either kernel, and each `%%gpu` cell leaves a receipt."""
    need_its_libraries(notebook)
    done = run(notebook, kernel, tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = nbformat.read(str(tmp_path / notebook.name), as_version=4)
    receipts = check_outputs(executed)
    assert done.stdout.count("=> ran ") == receipts
    assert (tmp_path / f"{notebook.stem}.html").stat().st_size > 10_000


def check_outputs(executed: nbformat.NotebookNode) -> int:
    """Checks that no cell failed and each GPU cell has its receipt; returns how many there are."""
    receipts = 0
    for cell in executed.cells:
        assert not [one for one in cell.get("outputs", []) if one.output_type == "error"], cell
        if "%%gpu" not in "".join(cell.source.splitlines()[:2]) or cell.cell_type != "code":
            continue
        own = [output.metadata["zerokernel"] for output in cell.outputs if _is_own(output)]
        phases = [one["phase"] for one in own]
        # Without its worker a cell has no receipt, and the line is there if it was slow enough.
        lost = cell.source.startswith("%%expect WorkerKilled")
        assert phases == ["receipt"] or (lost and phases in ([], ["failed"])), cell.outputs
        if not lost:
            assert own[0]["ran"] > 0
            receipts += 1
    return receipts


def tagged(notebook: Path, output: Path, tag: bool) -> Path:
    """A notebook of two cells that reads nothing: the second raises, tagged or not."""
    cells = [
        nbformat.v4.new_code_cell("%load_ext zerokernel"),
        nbformat.v4.new_code_cell("%%gpu\nkept = 1\nint('remote')"),
        nbformat.v4.new_code_cell("print('after', kept)"),
    ]
    if tag:
        cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), str(output / notebook))
    return output / notebook


RUNNERS = {
    "nbconvert": (
        "jupyter nbconvert --execute --to notebook {notebook}"
        " --ExecutePreprocessor.kernel_name={kernel} --output {output}"
    ),
    "papermill": "papermill --kernel {kernel} --no-progress-bar {notebook} {output}",
    "jupyter execute": "jupyter execute --kernel_name={kernel} --output={output} {notebook}",
}


def run_by(runner: str, notebook: Path, kernel: str, output: Path, environment: dict[str, str]):
    words = {"notebook": str(notebook), "kernel": kernel, "output": str(output)}
    program, *arguments = [word.format(**words) for word in RUNNERS[runner].split()]
    bin_directory = Path(sys.executable).parent
    return subprocess.run(
        [str(bin_directory / program), *arguments],
        env={**environment, "PATH": f"{bin_directory}{os.pathsep}{environment['PATH']}"},
        cwd=notebook.parent,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def _matrix() -> list[Any]:
    """Each runner once in the normal run, with a notebook and kernel; the rest is slow."""
    normal = {
        ("nbconvert", "02-outputs-and-errors", "python3"),
        ("papermill", "02-outputs-and-errors", "zerokernel"),
        ("jupyter execute", "02-outputs-and-errors", "zerokernel"),
    }
    return [
        pytest.param(
            *(runner, notebook, kernel),
            marks=() if (runner, notebook.stem, kernel) in normal else pytest.mark.slow,
            id=f"{runner}-{notebook.stem}-{kernel}",
        )
        for runner in RUNNERS
        for notebook in NOTEBOOKS
        for kernel in ("python3", "zerokernel")
    ]


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize(("runner", "notebook", "kernel"), _matrix())
def test_every_runner_passes_every_notebook(runner, notebook, kernel, environment, tmp_path):
    """nbconvert, papermill and jupyter execute end with 0 and write what the cells showed."""
    need_its_libraries(notebook)
    copy = shutil.copy(notebook, tmp_path)
    output = tmp_path / "executed.ipynb"
    done = run_by(runner, Path(copy), kernel, output, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert check_outputs(nbformat.read(str(output), as_version=4))


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("tag", [False, True], ids=["untagged", "tagged"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_exit_codes_of_every_runner(runner, tag, environment, tmp_path):
    """A GPU cell that raises fails the run with the remote traceback, unless it is tagged.

    papermill runs on past a tagged cell, and counts its error all the same.
    """
    notebook = tagged(Path("two.ipynb"), tmp_path, tag)
    done = run_by(runner, notebook, "python3", tmp_path / "executed.ipynb", environment)
    said = done.stdout + done.stderr
    if tag:
        assert done.returncode == (1 if runner == "papermill" else 0), said
        executed = nbformat.read(str(tmp_path / "executed.ipynb"), as_version=4)
        assert executed.cells[-1].outputs[0].text == "after 1\n"
        return
    assert done.returncode != 0
    plain = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert "ValueError: invalid literal for int() with base 10: 'remote'" in plain
    assert "----> 2 int('remote')" in plain


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
