import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kernels import Kernel
from zerokernel.broker.devices import choose_devices
from zerokernel.broker.scheduling import Slice
from zerokernel.client import find_broker
from zerokernel.client.rest import shut_down
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
def kernel(slices: list[Slice], tmp_path: Path) -> Iterator[Kernel]:
    """A kernel with the extension, on a broker of its own that offers the real devices."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("this build of torch has no CUDA")
    environment = {"ZEROKERNEL_RUNTIME_DIRECTORY": str(tmp_path), "ZEROKERNEL_DEVICES": "nvidia"}
    try:
        with Kernel(environment) as one:
            one.load_extension()
            yield one
    finally:
        _end_broker(environment)


def _end_broker(environment: dict[str, str]) -> None:
    address = find_broker(load(environment))
    if address is not None:
        process = psutil.Process(address.pid)
        shut_down(address)
        process.wait(30)
