"""Gives a forked worker back the threads that the forkserver had to do without."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def restore(own: dict[str, str | None]) -> None:
    """Lets NumPy and torch compute with as many threads as a plain kernel would.

    Args:
        own: The user's values of OMP_NUM_THREADS and the like, None where unset.
    """
    for name, value in own.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    count = _wanted(own.get("OMP_NUM_THREADS"))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if "numpy" in sys.modules:
        _set_openblas_threads(_wanted(own.get("OPENBLAS_NUM_THREADS")))


def _wanted(value: str | None) -> int:
    available = len(os.sched_getaffinity(0))
    return int(value) if value is not None and value.isdigit() and int(value) else available


def _set_openblas_threads(count: int) -> None:
    """Reaches into each OpenBLAS that is loaded: it reads its variable only when loaded."""
    for path in _loaded_libraries("openblas"):
        library = ctypes.CDLL(path)
        for name in _SETTERS:
            if (setter := getattr(library, name, None)) is not None:
                setter(count)


_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def _loaded_libraries(part: str) -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = (line.split(maxsplit=5)[5] for line in lines if line.count("/") > 1)
    return {path for path in paths if part in Path(path).name and ".so" in path}
