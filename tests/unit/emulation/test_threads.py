"""The emulation in threads: new ones, those of pools, and those that were alive before."""

from __future__ import annotations

import _thread
import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.kernels import wait_until
from zerokernel import emulation
from zerokernel.emulation import mode


def device_of_a_sum() -> str:
    """Makes tensors and gives where their sum is."""
    return str((torch.ones(2, device="cuda") + torch.ones(2).to("cuda")).device)


@pytest.fixture
def emulated() -> Iterator[None]:
    emulation.emulate()
    yield
    emulation.remove()


class Asked(threading.Thread):
    """Calls functions from a queue, with a `run` of its own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.questions: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self.answers: queue.Queue[object] = queue.Queue()

    def run(self) -> None:
        while (question := self.questions.get()) is not None:
            try:
                self.answers.put(question())
            except Exception as error:
                self.answers.put(error)

    def ask(self, question: Callable[[], object]) -> object:
        self.questions.put(question)
        return self.answers.get(timeout=30)

    def end(self) -> None:
        self.questions.put(None)
        self.join(30)


@pytest.mark.usefixtures("emulated")
def test_a_thread_with_a_run_of_its_own() -> None:
    """A subclass of Thread that never calls `Thread.run` sees the devices."""
    thread = Asked()
    thread.start()
    assert thread.ask(device_of_a_sum) == "cuda:0"
    thread.end()


@pytest.mark.usefixtures("emulated")
def test_a_thread_without_a_thread_object() -> None:
    """`_thread.start_new_thread` is seen too."""
    answers: queue.Queue[str] = queue.Queue()
    _thread.start_new_thread(lambda: answers.put(device_of_a_sum()), ())
    assert answers.get(timeout=30) == "cuda:0"


def test_a_pool_from_before() -> None:
    """Work given to a pool whose threads are older than the emulation, and to one of asyncio."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: 1).result(30) == 1
        emulation.emulate()
        try:
            assert pool.submit(device_of_a_sum).result(30) == "cuda:0"
            assert asyncio.run(asyncio.to_thread(device_of_a_sum)) == "cuda:0"
        finally:
            emulation.remove()
        assert pool.submit(lambda: str((torch.ones(2) + 1).device)).result(30) == "cpu"
        assert pool.submit(torch._C._len_torch_function_stack).result(30) == 0


def test_getters_hold_in_a_thread_without_a_mode() -> None:
    """What a tensor says of its device does not depend on the thread."""
    thread = Asked()
    thread.start()
    emulation.emulate()
    try:
        tensor = torch.ones(2, device="cuda")
        assert str(thread.ask(lambda: tensor.device)) == "cuda:0"
        assert thread.ask(lambda: tensor.is_cuda) is True
        assert isinstance(thread.ask(lambda: tensor.numpy()), TypeError)
    finally:
        emulation.remove()
        thread.end()


def test_a_thread_from_before() -> None:
    """A thread that waits while the emulation begins has it when it goes on."""
    thread = Asked()
    thread.start()
    assert thread.ask(lambda: 1) == 1
    emulation.emulate()
    try:
        assert thread.ask(device_of_a_sum) == "cuda:0"
        assert thread.ask(sys.getprofile) is None
    finally:
        emulation.remove()
        thread.end()


@pytest.mark.usefixtures("emulated")
def test_each_thread_has_its_own_current_device() -> None:
    """`set_device` and `torch.autocast` in one thread do not show in another."""
    thread = Asked()
    thread.start()

    def halves() -> object:
        with torch.autocast("cuda"):
            return str((torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).dtype)

    product = torch.ones(2, 2, device="cuda")
    assert thread.ask(halves) == "torch.float16"
    with torch.autocast("cuda"):
        assert thread.ask(lambda: (product @ product).dtype) == torch.float32
    thread.end()


@pytest.mark.usefixtures("emulated")
def test_a_thread_that_ends_leaves_no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode is taken from the stack while the thread still runs Python, by itself."""
    taken: list[tuple[int, int]] = []
    unstack = mode._unstack

    def watched(one: mode.EmulationMode) -> None:
        unstack(one)
        taken.append((threading.get_ident(), torch._C._len_torch_function_stack()))

    monkeypatch.setattr(mode, "_unstack", watched)
    thread = threading.Thread(target=device_of_a_sum)
    thread.start()
    identity = thread.ident
    thread.join()
    wait_until(lambda: taken, "the thread's end")
    assert taken == [(identity, 0)]
