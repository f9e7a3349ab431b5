"""Runs a notebook as a reader would, and prints what its cells say while they run.

The executed notebook and an HTML page of it are written to a folder. The exit status is 1
if a cell failed, and what had run until then is written all the same.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import zmq
from jupyter_client import KernelManager
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

# zerokernel marks what it shows itself, so that it can be told from the cell's own output.
OWN_OUTPUT = "zerokernel"


def main(arguments: list[str] | None = None) -> int:
    """Runs the notebook named on the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    notebook = nbformat.read(options.notebook, as_version=4)
    begun = time.monotonic()
    try:
        failure = execute(notebook, options.notebook.parent, options.kernel, options.timeout)
    except NoSuchKernel:
        print(f"There is no Jupyter kernel named {options.kernel!r} here.", file=sys.stderr)
        return 1
    for path in write(notebook, options.notebook.stem, options.output):
        print(f"wrote {path}")
    if failure:
        print(f"\n{options.notebook}: {failure}", file=sys.stderr)
        return 1
    print(f"{options.notebook}: every cell passed, {time.monotonic() - begun:.0f} s")
    return 0


def execute(notebook: Any, folder: Path, kernel: str, timeout: int) -> str | None:
    """Runs all cells and prints each one's outputs; returns what failed, or None."""
    client = NotebookClient(
        notebook,
        kernel_name=kernel,
        timeout=timeout,
        resources={"metadata": {"path": str(folder)}},
        config=_encrypted(),
        on_cell_executed=lambda cell, **_: _show(cell),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return f"{_failed_cell(notebook)} failed: {error.ename}: {error.evalue}"
    except CellTimeoutError as error:
        return f"{_failed_cell(notebook)} ran beyond {timeout} s: {error}"
    except DeadKernelError as error:
        return f"{_failed_cell(notebook)}: the kernel died: {error}"
    return None


def _encrypted() -> Config:
    """Encrypts the talk with the kernel where jupyter_client can; it warns where it does not."""
    if "transport_encryption" in KernelManager.class_trait_names() and zmq.has("curve"):
        return Config({"KernelManager": {"transport_encryption": "auto"}})
    return Config()


def write(notebook: Any, stem: str, folder: Path) -> list[Path]:
    """Writes the executed notebook and its HTML page; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    executed, page = folder / f"{stem}.ipynb", folder / f"{stem}.html"
    nbformat.write(notebook, executed)
    html, _ = HTMLExporter().from_notebook_node(notebook)
    page.write_text(html, encoding="utf-8")
    return [executed, page]


def describe(cell: Any) -> list[str]:
    """Gives a cell's outputs as lines of text, the receipt of a GPU cell marked by an arrow."""
    lines = []
    for output in cell.outputs:
        own = OWN_OUTPUT in output.get("metadata", {})
        text = _text(output).rstrip("\n")
        lines += [("=> " if own else "   ") + line for line in text.splitlines()]
    return lines


def _text(output: Any) -> str:
    if output.output_type == "stream":
        # A progress bar goes back to the start of its line; only its last state is shown.
        return re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return str(output.data.get("text/plain", ""))


def _show(cell: Any) -> None:
    print("\n".join([_title(cell), *describe(cell)]), flush=True)


def _title(cell: Any) -> str:
    return f"[{cell.execution_count}] {(cell.source.strip().splitlines() or [''])[0]}"


def _failed_cell(notebook: Any) -> str:
    """Names the last cell that was begun: execution ends at the first failure."""
    begun = [cell for cell in notebook.cells if cell.metadata.get("execution")]
    return f"cell {_title(begun[-1])}" if begun else "the first cell"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--kernel", default="zerokernel", help="name of the Jupyter kernel")
    parser.add_argument("--output", type=Path, default=Path("build"), help="folder to write to")
    parser.add_argument("--timeout", type=int, default=300, help="seconds a cell may take")
    return parser


if __name__ == "__main__":
    sys.exit(main())
