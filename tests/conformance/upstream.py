"""ipykernel's own tests, aimed at our kernel.

They come from the sdist of exactly the ipykernel that is installed, fetched once by pip into
``build/conformance``. Each file runs in a pytest of its own, with none of our configuration:
the kernel that Jupyter knows as "python3", and the kernel class of IPython's configuration,
are zerokernel's.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "conformance"
KERNEL_CLASS = "zerokernel.notebook.kernel.ZeroKernel"

CONFIGURATION = """\
[pytest]
addopts = --import-mode=importlib
filterwarnings =
    default
markers =
    flaky: may be run again, by a plugin that we do not use
"""

CONFTEST = """\
import pytest
from tests.utils import new_kernel

def pytest_addoption(parser):
    parser.addoption("--cov", action="store_true", help="asked for by the tests of subshells")

@pytest.fixture
def kc():
    with new_kernel() as client:
        yield client
"""


class NoIndex(Exception):
    """The sdist is not here, and there is no package index to fetch it from."""


def sdist() -> Path:
    """The unpacked sdist of the installed ipykernel.

    Raises:
        NoIndex: It cannot be fetched.
    """
    version = importlib.metadata.version("ipykernel")
    unpacked = CACHE / f"ipykernel-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / "lock"):
        if not unpacked.exists():
            _fetch(f"ipykernel=={version}", unpacked)
    return unpacked


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Several test processes may want the sdist at the same time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(requirement: str, target: Path) -> None:
    folder = CACHE / "download"
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
        *("--no-deps", "--no-binary", "ipykernel", "--dest", str(folder), requirement),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if done.returncode:
        raise NoIndex(f"{requirement} cannot be fetched: {done.stderr.strip()[-300:]}")
    [archive] = folder.iterdir()
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / target.name).rename(target)
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Verdict:
    """What came of one file: the tests' names by outcome, and what pytest printed."""

    passed: frozenset[str]
    skipped: frozenset[str]
    failed: frozenset[str]
    printed: str


class Suite:
    """A copy of some of the tests, and a Jupyter where our kernel is "python3"."""

    def __init__(self, directory: Path, source: Path, *, gpu_cells: str) -> None:
        self._directory = directory
        # Not conftest.py: it needs plugins, for tests of ipykernel's own classes.
        shutil.copytree(
            source / "tests", directory / "tests", ignore=shutil.ignore_patterns("conftest.py")
        )
        (directory / "pytest.ini").write_text(CONFIGURATION)
        (directory / "conftest.py").write_text(CONFTEST)
        jupyter = directory / "jupyter" / "kernels" / "python3"
        shutil.copytree(ROOT / "kernelspec", jupyter)
        profile = directory / "ipython" / "profile_default"
        profile.mkdir(parents=True)
        (profile / "ipython_kernel_config.json").write_text(
            json.dumps({"IPKernelApp": {"kernel_class": KERNEL_CLASS}})
        )
        self._environment = {
            **os.environ,
            "JUPYTER_PATH": str(directory / "jupyter"),
            "IPYTHONDIR": str(directory / "ipython"),
            "PYTHONPATH": str(ROOT),
            "ZEROKERNEL_GPU_CELLS": gpu_cells,
            "ZEROKERNEL_DEVICES": "simulated",
        }

    def run(self, file: str, *chosen: str, deselected: Iterator[str] | list[str] = ()) -> Verdict:
        """Runs the tests of one file, or those that are chosen, without the deselected."""
        report = self._directory / f"{file}.xml"
        tests = [f"tests/{file}::{name}" for name in chosen] or [f"tests/{file}"]
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("--timeout", "60", "--junitxml", str(report), *tests),
            *(part for name in deselected for part in ("--deselect", f"tests/{file}::{name}")),
        ]
        done = subprocess.run(
            command, cwd=self._directory, env=self._environment, capture_output=True, text=True
        )
        return _verdict(report, done.stdout + done.stderr)


def _verdict(report: Path, printed: str) -> Verdict:
    outcomes: dict[str, set[str]] = {"passed": set(), "skipped": set(), "failed": set()}
    for case in ElementTree.parse(report).iter("testcase"):
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "passed"
        if outcome == "passed" and "skipped" in tags:
            outcome = "skipped"
        outcomes[outcome].add(case.get("name", ""))
    return Verdict(
        *(frozenset(outcomes[name]) for name in ("passed", "skipped", "failed")), printed
    )
