"""What programs do with a device, beside the same on the CPU of a plain process."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import pytest
import torch

from tests.operations import TABLE
from tests.operations.operation import (
    AS_ON_CPU,
    Operation,
    devices,
    equal,
    namespace,
    observed,
    run,
)
from zerokernel import emulation
from zerokernel.emulation.install import install


@pytest.fixture(scope="module", autouse=True)
def emulated() -> Iterator[None]:
    """Two devices; copies are put off as in a kernel whose torch comes after the extension."""
    install(emulation.DeviceProfile(count=2), from_the_start=True)
    yield
    emulation.remove()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Each operation finds the generators, the default device and the settings of a fresh start."""
    torch.manual_seed(0)
    yield
    torch.set_default_device(None)
    assert torch._C._len_torch_function_stack() == 1


def test_the_table_is_long_and_without_doubles() -> None:
    """There are at least 200 operations, and none of them twice."""
    names = [operation.name for operation in TABLE]
    assert len(names) >= 200
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("operation", TABLE, ids=lambda one: one.name[:70])
def test_an_operation_behaves_as_on_a_device(operation: Operation) -> None:
    """Values are those of the CPU, tensors are where they should be, errors are torch's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says what is in beta
        if operation.error is not None:
            check_refused(operation)
            return
        result = run(operation, namespace("cuda"))
        expected = operation.value
        if expected is AS_ON_CPU:
            with emulation.suspended():
                torch.manual_seed(0)
                expected = observed(run(operation, namespace("cpu")))
    found = devices(result)
    places = operation.device
    assert found == (list(places) if isinstance(places, tuple) else [places] * len(found))
    if expected is not None:
        assert equal(_plain(observed(result)), _plain(expected), operation.tolerance)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def check_refused(operation: Operation) -> None:
    """The code raises what the entry says, and its preparation does not."""
    assert operation.error is not None
    kind, message = operation.error
    names = namespace("cuda")
    with pytest.raises(Exception, match=re.escape(message)) as caught:
        run(operation, names)
    assert kind in [one.__name__ for one in type(caught.value).__mro__]
