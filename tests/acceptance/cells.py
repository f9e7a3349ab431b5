"""Pieces of cells and of their answers that the acceptance tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kernels import Kernel, Run


def until(path: Path) -> str:
    """Code that says "started" and then waits for a file, so that a test decides its end."""
    return (
        "import pathlib, time\n"
        "print('started', flush=True)\n"
        f"while not pathlib.Path({str(path)!r}).exists(): time.sleep(0.005)\n"
    )


def started(run: Run) -> bool:
    return "started" in run.text()


def phases(run: Run) -> list[dict[str, Any]]:
    """What the status line said, in order."""
    return [output["metadata"]["zerokernel"] for output in run.own()]


def plain(kernel: Kernel, code: str) -> str:
    """The standard output of a plain cell that must succeed."""
    run = kernel.run(code)
    assert run.status == "ok", run
    return run.text("stdout").strip()


def worker_pid(kernel: Kernel) -> int:
    """The worker's process id outside of it: it can be in a PID namespace of its own."""
    run = kernel.run(
        "%%gpu --quiet\nfrom zerokernel.containment import process_outside\n"
        "print(process_outside())\ndel process_outside"
    )
    assert run.status == "ok", run
    return int(run.text("stdout"))
