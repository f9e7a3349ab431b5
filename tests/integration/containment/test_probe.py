"""What the probe says is true, for root and for a user without rights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.kernels import ROOT
from zerokernel.containment import NAMES, probe, processes

PROGRAM = """
import json
from dataclasses import asdict
from zerokernel.containment import ControlGroup, probe
print(json.dumps({"findings": [asdict(one) for one in probe()], "own": ControlGroup()._prefix}))
"""
NOBODY = 65534


def interpreter_for_nobody() -> str:
    """One that another user may run; the one of the tests can lie below a closed home."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for path in filter(None, (sys.executable, shutil.which("python3", path="/usr/bin"))):
        try:
            subprocess.run([path, "-c", check], check=True, user=NOBODY, group=NOBODY, cwd="/")
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("no Python 3.11 here that another user may run")


@pytest.fixture(scope="module")
def as_nobody() -> dict[str, Any]:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    told = subprocess.run(
        [interpreter_for_nobody(), "-B", "-c", PROGRAM],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        check=True,
        text=True,
    )
    answer = json.loads(told.stdout)
    return {"own": answer["own"], **{one["name"]: one for one in answer["findings"]}}


def test_probe_leaves_nothing() -> None:
    """Every mechanism is tried, in order, and neither a child nor a group is left."""
    before = processes.children(os.getpid())
    findings = probe()
    assert tuple(one.name for one in findings) == NAMES
    assert processes.children(os.getpid()) == before
    for one in findings:
        assert one.meaning
        assert bool(one.reason) == bool(one.remedy) == (not one.works)


def test_a_user_without_rights_has_no_control_groups(as_nobody: dict[str, Any]) -> None:
    """Where the folder of the own group is root's, the finding says so and names it."""
    found = as_nobody["control group"]
    assert not os.stat(os.path.dirname(as_nobody["own"])).st_mode & 0o002
    assert not found["works"]
    assert "Permission denied" in found["reason"]
    assert "Delegate=yes" in found["remedy"]


def test_a_user_without_rights_may_have_namespaces(as_nobody: dict[str, Any]) -> None:
    """The finding agrees with what the system's own tool can do for that user."""
    if (unshare := shutil.which("unshare")) is None:
        pytest.skip("no unshare here to compare with")
    arguments = [unshare, "--user", "--pid", "--mount", "--fork", "--map-root-user"]
    tool = subprocess.run(
        [*arguments, "--mount-proc", "true"],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
    )
    assert as_nobody["pid namespace"]["works"] == (tool.returncode == 0)


def test_a_walk_needs_no_rights(as_nobody: dict[str, Any]) -> None:
    """It works for everybody."""
    assert as_nobody["process walk"]["works"]
