from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leftovers
from tests.kernels import offer_kernelspec, unique
from tests.postgres import Postgres, serving


@pytest.fixture(scope="session", autouse=True)
def runtime_directory() -> Iterator[Path]:
    """A runtime directory of this test process's own; checks at the end that nothing is left.

    Each worker of pytest-xdist has its own, and so a broker of its own.
    """
    before = leftovers.shared_memory()
    # Not under pytest's base directory: the path of a socket may have 107 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="zk-"))
    mark = unique("run")
    variables = {"ZEROKERNEL_RUNTIME_DIRECTORY": str(directory), leftovers.MARK: mark}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield directory
        leftovers.end_broker(directory)
        leftovers.check_processes(mark)
        assert not leftovers.shared_memory() - before
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """The repository's kernelspec, found by Jupyter; its kernels import this checkout."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in offer_kernelspec(tmp_path_factory.mktemp("jupyter")).items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="session")
def postgres(runtime_directory: Path) -> Iterator[Postgres]:
    """A PostgreSQL server for the tests of this process; skips where none is installed."""
    yield from serving()


@pytest.fixture
def no_open_descriptors() -> Iterator[None]:
    """Checks that a test closes what it opens in this process."""
    before = leftovers.descriptors()
    yield
    if set(leftovers.descriptors()) - set(before):
        gc.collect()
    after = leftovers.descriptors()
    assert not {number: after[number] for number in set(after) - set(before)}


def pytest_configure(config: pytest.Config) -> None:
    """Lets kernels that tests start import this checkout, wherever pytest was called."""
    root = str(config.rootpath)
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, known)])
