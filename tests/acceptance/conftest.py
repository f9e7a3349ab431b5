from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel, unique, wait_until
from tests.leftovers import end_broker
from zerokernel import memory


class Machine:
    """A machine with one simulated slice: kernels on it share one broker."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="zk-"))
        self._kernels: list[Kernel] = []

    def kernel(self, **settings: str) -> Kernel:
        """Starts a kernel with the extension loaded."""
        environment = {
            "ZEROKERNEL_RUNTIME_DIRECTORY": str(self.directory),
            "ZEROKERNEL_DEVICES": "simulated",
            "ZEROKERNEL_SIMULATED_SLICES": "1",
            **settings,
        }
        kernel = Kernel(environment)
        self._kernels.append(kernel)
        kernel.load_extension()
        return kernel

    def close_kernels(self) -> None:
        while self._kernels:
            self._kernels.pop().close()

    def close(self) -> None:
        self.close_kernels()
        end_broker(self.directory)
        shutil.rmtree(self.directory)


@pytest.fixture(scope="session")
def shared_machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture
def machine(shared_machine: Machine) -> Iterator[Machine]:
    """A machine whose kernels end with the test; its broker stays for the next one."""
    yield shared_machine
    shared_machine.close_kernels()


@pytest.fixture
def own_machine() -> Iterator[Machine]:
    """A machine for one test alone, for tests that kill the broker."""
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture
def kernel(machine: Machine) -> Kernel:
    return machine.kernel()


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], None]:
    """Call it to let cells go on that run ``WAIT % gate.path``."""

    def open_gate() -> None:
        open_gate.path.touch()  # type: ignore[attr-defined]

    open_gate.path = tmp_path / "gate"  # type: ignore[attr-defined]
    return open_gate


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of our own below this process's, which nobody but the test uses."""
    made = (_new_group(*mount) for mount in memory._mounts(Path("/proc")))
    folder = next((one for one in made if one is not None), None)
    if folder is None:
        pytest.skip("no control group for memory may be made here")
    yield folder
    wait_until(lambda: not (folder / "cgroup.procs").read_text(), "the group's last end")
    folder.rmdir()


def _new_group(version: int, root: str, mount: Path) -> Path | None:
    """A group with a limit of one gibibyte, None where none may be made."""
    inside = memory._groups(Path("/proc")).get(version, "/").removeprefix(root.rstrip("/"))
    folder = mount / inside.strip("/") / unique("zerokernel-test")
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / memory._VERSIONS[version].limit).write_text(str(1 << 30))
    except OSError:
        folder.rmdir()
        return None
    return folder
