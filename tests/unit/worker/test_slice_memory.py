"""What a worker takes of its slice's memory, and what it says when there is no more."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from zerokernel import emulation
from zerokernel.emulation.limit import limit
from zerokernel.messages import Bind
from zerokernel.worker import slice_memory

torch: Any = pytest.importorskip("torch")

MIB = 1 << 20


def bind(memory: int, simulated: bool = True, **environment: str) -> Bind:
    shown = {"ZEROKERNEL_SLICE_MEMORY": str(memory), **environment}
    return Bind("s", "l", shown, "half H200 (MIG 3g.71gb)", simulated, 60.0, 60.0, "r")


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Binds as the worker does; on the way out nothing of it is left."""

    def bound(order: Bind) -> None:
        for name, value in order.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ZEROKERNEL_SLICE_NAME", "")
        slice_memory.take(order)

    yield bound
    limit.set(math.inf)
    emulation.remove()


def out_of_memory(size: int) -> BaseException:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.zeros(size, dtype=torch.uint8, device="cuda")
    return caught.value


def test_an_emulated_device_has_what_its_slice_has(take: Any) -> None:
    """Beyond it torch's own error is raised, and what was refused counts for nothing."""
    take(bind(64 * MIB))
    emulation.emulate()
    held = torch.zeros(40 * MIB, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        assert "Tried to allocate 30.00 MiB" in str(out_of_memory(30 * MIB))
    assert torch.cuda.memory_allocated() == 40 * MIB
    assert torch.cuda.mem_get_info() == (24 * MIB, 64 * MIB)
    assert torch.cuda.memory_stats()["num_ooms"] == 3
    more = torch.ones(20 * MIB, dtype=torch.uint8, device="cuda")
    assert int(more.sum()) == 20 * MIB
    del held
    assert torch.zeros(44 * MIB, dtype=torch.uint8, device="cuda").is_cuda


def test_every_way_to_the_device_is_refused(take: Any) -> None:
    """Moving, computing, loading, sparse parts: each needs the memory that it needs."""
    take(bind(8 * MIB))
    emulation.emulate()
    large, half = torch.zeros(3 * MIB), torch.zeros(MIB, device="cuda")
    for way in (
        lambda: large.to("cuda"),
        lambda: large.cuda(),
        lambda: torch.nn.Linear(2000, 2000).to("cuda"),
        lambda: torch.cat([half, half, half]),
        lambda: half.double() + 1,
        lambda: torch.empty_like(large, device="cuda"),
        lambda: half.expand(3, MIB).clone(),
    ):
        with pytest.raises(torch.OutOfMemoryError):
            way()
    assert torch.cuda.memory_allocated() == 4 * MIB


def test_without_a_slice_nothing_is_refused() -> None:
    """A notebook has the memory that it has."""
    emulation.emulate(emulation.DeviceProfile(memory=MIB))
    try:
        assert torch.zeros(2 * MIB, device="cuda").is_cuda
    finally:
        emulation.remove()


def test_a_share_is_a_cap_of_torchs_allocator(take: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where torch is imported, and with its import where it is not yet."""
    capped: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", capped.append)
    share = bind(70 << 30, False, ZEROKERNEL_SLICE_FRACTION="0.4955")
    take(share)
    assert capped == [0.4955]
    waiting: list[Any] = []
    monkeypatch.setattr(slice_memory, "when_imported", lambda name, call: waiting.append(call))
    with monkeypatch.context() as before:
        before.delitem(sys.modules, "torch")
        take(share)
    waiting.pop()()
    assert capped == [0.4955] * 2
    take(bind(70 << 30, False))
    assert len(capped) == 2
    assert limit.memory == math.inf


def test_the_error_names_who_has_the_memory(take: Any) -> None:
    """Models, containers, optimizers and gradients; what is shared counts once."""
    take(bind(64 * MIB))
    emulation.emulate()
    model = torch.nn.Linear(1024, 1024, bias=False, device="cuda")  # 4 MiB
    model(torch.ones(1, 1024, device="cuda")).sum().backward()  # as much again
    batches = {"x": [torch.zeros(4 * MIB, dtype=torch.uint8, device="cuda")]}
    bag = SimpleNamespace(again=model.weight, more=torch.zeros(MIB, device="cuda"))
    names = {"_": batches, "model": model, "weight": model.weight, "batches": batches, "bag": bag}
    names |= {"here": torch.zeros(MIB), "function": test_the_error_names_who_has_the_memory}
    error = out_of_memory(60 * MIB)
    slice_memory.explain(error, names)
    slice_memory.explain(error, names)
    (note,) = error.__notes__
    assert "half H200 (MIG 3g.71gb) has 64.00 MiB" in note
    assert "still held: 16.00 MiB (model 8.00 MiB, batches 4.00 MiB, bag 4.00 MiB)" in note
    assert "--memory" in note
    assert isinstance(error, torch.OutOfMemoryError)


def test_what_no_name_has_is_said(take: Any) -> None:
    """Memory that earlier cells left, or frames hold, is told apart; long lists are cut."""
    take(bind(64 * MIB))
    emulation.emulate()
    many = {f"t{n}": torch.zeros((n + 1) * MIB, dtype=torch.uint8, device="cuda") for n in range(7)}
    forgotten = torch.zeros(2 * MIB, dtype=torch.uint8, device="cuda")
    error = out_of_memory(60 * MIB)
    slice_memory.explain(error, many)
    (note,) = error.__notes__
    assert "t6 7.00 MiB, t5 6.00 MiB" in note
    assert "2 other names 3.00 MiB, no name of this cell 2.00 MiB" in note
    assert forgotten.is_cuda


def test_a_refusal_when_nothing_is_held(take: Any) -> None:
    """The call alone needs more than there is."""
    take(bind(MIB))
    emulation.emulate()
    error = out_of_memory(2 * MIB)
    slice_memory.explain(error, {})
    assert "nothing of it is held any more" in error.__notes__[0]


def test_other_errors_stay_as_they_are() -> None:
    """Only torch's own class is explained."""
    for error in (None, MemoryError(), RuntimeError("out of memory")):
        slice_memory.explain(error, {})
        assert not getattr(error, "__notes__", None)
    assert os.environ.get("ZEROKERNEL_SLICE_FRACTION") is None
