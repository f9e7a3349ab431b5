import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel
from tests.leftovers import end_broker
from zerokernel.broker.devices import choose_devices
from zerokernel.broker.scheduling import Slice
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def slices() -> list[Slice]:
    """The slices of the real devices here; skips the test where there are none."""
    settings = load({**os.environ, "ZEROKERNEL_DEVICES": "nvidia"})
    try:
        found = choose_devices(settings, os.environ.get("CUDA_VISIBLE_DEVICES")).discover()
    except ZeroKernelError as error:
        pytest.skip(f"no NVIDIA device: {error}")
    if not found:
        pytest.skip("no NVIDIA device is visible")
    return found


@pytest.fixture
def kernel(slices: list[Slice]) -> Iterator[Kernel]:
    """A kernel with the extension, on a broker of its own that offers the real devices.

    Its plain cells have no device.
    """
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("this build of torch has no CUDA")
    yield from _kernel(emulates=False)


@pytest.fixture
def emulating(slices: list[Slice]) -> Iterator[Kernel]:
    """The same, and the notebook has an emulated device."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("this build of torch has no CUDA")
    yield from _kernel(emulates=True)


def _kernel(*, emulates: bool) -> Iterator[Kernel]:
    directory = Path(tempfile.mkdtemp(prefix="zk-"))  # short: it holds sockets
    settings = {
        "ZEROKERNEL_RUNTIME_DIRECTORY": str(directory),
        "ZEROKERNEL_DEVICES": "nvidia",
        "ZEROKERNEL_EMULATE_CUDA": str(emulates),
    }
    with Kernel(settings) as one:
        one.load_extension()
        yield one
    end_broker(directory)
    shutil.rmtree(directory)
