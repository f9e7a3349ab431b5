from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import ROOT
from zerokernel.containment import NAMES, group_prefix, probe


class Holder:
    """A process that forks a tree under one mechanism; see holder.py."""

    def __init__(self, mechanism: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.containment.holder", mechanism],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self.groups = group_prefix(self.process.pid)

    def tell(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the holder ended at {command!r}"
        return dict(json.loads(line))

    def left_groups(self) -> list[Path]:
        if not self.groups:
            return []
        begin = Path(self.groups)
        return [one for one in begin.parent.iterdir() if one.name.startswith(begin.name)]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


@pytest.fixture(params=NAMES)
def mechanism(request: pytest.FixtureRequest) -> str:
    """Each mechanism that works here."""
    (finding,) = probe([request.param])
    if not finding.works:
        pytest.skip(f"{finding.name}: {finding.reason}")
    return finding.name


@pytest.fixture
def holder(mechanism: str) -> Iterator[Holder]:
    running = Holder(mechanism)
    yield running
    running.close()
    assert running.left_groups() == []
