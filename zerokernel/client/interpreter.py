"""How a process of ours is started, so that it imports this very package."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

import zerokernel


def with_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives the environment for a new interpreter, which finds the package in it.

    An installed package needs nothing. One that is used from its source tree is added at
    the end of PYTHONPATH.
    """
    try:
        importlib.metadata.distribution("zerokernel")
    except importlib.metadata.PackageNotFoundError:
        root = str(Path(zerokernel.__file__).resolve().parent.parent)
        before = environment.get("PYTHONPATH", "")
        if root not in before.split(os.pathsep):
            path = os.pathsep.join(filter(None, (before, root)))
            return {**environment, "PYTHONPATH": path}
    return dict(environment)


def last_lines(log: Path, count: int = 15) -> str:
    """Gives the end of a log for an error message, "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-count:])
