"""The experiments, one function each; each runs in a process that has not touched CUDA yet.

The process model rests on what they show: workers are forked from a process that never touches
a device, are bound to one, frozen while parked, and killed when somebody else needs the slice.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from report import median
from target import Target

Figures = dict[str, tuple[float, str]]
"""What was measured → value and unit: "s", "GB/s", "MiB" or "x"."""

MIB = 1 << 20
TURNS = 200
SLACK = 16 * MIB
"""Memory is back at its baseline when it is this close: drivers keep a little."""


def initialise(on: Target, mib: int) -> Figures:
    """A cold process: driver, then context and first kernel."""
    started = time.perf_counter()
    on.initialise_driver()
    driver = time.perf_counter() - started
    import torch

    started = time.perf_counter()
    _first_kernel(on, torch)
    context = time.perf_counter() - started
    return {
        "cuInit in a fresh process": (driver, "s"),
        "context and first kernel after it": (context, "s"),
        "device initialisation, cold, in all": (driver + context, "s"),
    }


def fork(on: Target, mib: int) -> Figures:
    """A child of a process with torch imported and CUDA untouched."""
    torch = _forkable_torch()

    def child(pipe: Connection) -> None:
        pipe.send(time.monotonic())
        _first_kernel(on, torch)
        pipe.send(time.monotonic())

    started = time.monotonic()
    pid, pipe = _fork(child)
    alive, computed = pipe.recv() - started, pipe.recv() - started
    os.waitpid(pid, 0)
    return {"fork → child runs": (alive, "s"), "fork → first kernel done": (computed, "s")}


def frozen(on: Target, mib: int) -> Figures:
    """A process that is stopped while kernels of it are queued: do they run on?"""
    torch = _forkable_torch()
    stopped_for = 2.0

    def child(pipe: Connection) -> None:
        step = _matmul(on, torch, mib)
        one = _measured(on, lambda: [step() for _ in range(3)]) / 3
        # Fewer than the driver's queue holds (about a thousand), or queueing itself would block.
        count = max(1, min(500, int(1.0 / one)))
        alone = _measured(on, lambda: [step() for _ in range(count)])
        elapsed = on.device_seconds(lambda: [step() for _ in range(count)])
        pipe.send(alone)
        on.synchronize()
        pipe.send((elapsed(), time.monotonic()))

    pid, pipe = _fork(child)
    alone = pipe.recv()
    os.kill(pid, signal.SIGSTOP)
    held = on.used_memory()
    time.sleep(stopped_for)
    still_held = on.used_memory()
    resumed = time.monotonic()
    os.kill(pid, signal.SIGCONT)
    elapsed, done = pipe.recv()
    os.waitpid(pid, 0)
    return {
        "queue of kernels, alone": (alone, "s"),
        f"the same, its process stopped {stopped_for:g} s": (elapsed, "s"),
        "SIGCONT → queue done": (max(0.0, done - resumed), "s"),
        "memory held at the stop": (held / MIB, "MiB"),
        "memory held at its end": (still_held / MIB, "MiB"),
    }


def memory(on: Target, mib: int) -> Figures:
    """Memory back to its baseline after the process that holds it is killed."""
    torch = _forkable_torch()
    before = on.used_memory()

    def child(pipe: Connection) -> None:
        held = torch.ones(mib * MIB, dtype=torch.uint8, device=on.torch_device)
        on.synchronize()
        pipe.send(held.numel())
        signal.pause()

    pid, pipe = _fork(child)
    pipe.recv()
    used = on.used_memory() - before
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    reaped = time.monotonic() - started
    while (left := on.used_memory() - before) > SLACK and time.monotonic() - started < 20:
        time.sleep(0.001)
    return {
        f"memory of context and {mib} MiB": (used / MIB, "MiB"),
        "SIGKILL → process reaped": (reaped, "s"),
        "SIGKILL → memory back": (time.monotonic() - started, "s"),
        "left over then": (max(0, left) / MIB, "MiB"),
    }


def alternate(on: Target, mib: int) -> Figures:
    """Two processes on one device: in turns, and both at once."""
    torch = _forkable_torch()

    def child(pipe: Connection) -> None:
        step = _matmul(on, torch, min(mib, 4))
        while (count := pipe.recv()) > 0:
            for _ in range(count):
                step()
            on.synchronize()
            pipe.send(None)

    children = [_fork(child) for _ in range(2)]
    first, second = (pipe for _, pipe in children)
    one = max(_turn([pipe], 10) / 10 for pipe in (first, second, first, second))
    burst = max(1, min(20_000, int(0.5 / one)))
    found: Figures = {
        "a turn, one process": (median([_turn([first], 1) for _ in range(TURNS)]), "s"),
        "a turn, two processes by turns": (
            median([_turn([pipe], 1) for _ in range(TURNS // 2) for pipe in (first, second)]),
            "s",
        ),
        "a burst, one process": (_turn([first], burst), "s"),
        "a burst each, two at once": (_turn([first, second], burst), "s"),
    }
    for pid, pipe in children:
        pipe.send(0)
        os.waitpid(pid, 0)
    return found


def copies(on: Target, mib: int) -> Figures:
    """Host to device and back, from pageable and from pinned memory."""
    import torch

    pageable = torch.randint(0, 255, (mib * MIB,), dtype=torch.uint8)
    started = time.perf_counter()
    pinned = on.pinned(pageable)
    pinning = time.perf_counter() - started
    device = torch.empty_like(pageable, device=on.torch_device)

    def rate(target: Any, source: Any) -> tuple[float, str]:
        target.copy_(source, non_blocking=True)
        on.synchronize()
        times = [_measured(on, lambda: target.copy_(source, non_blocking=True)) for _ in range(7)]
        return mib * MIB / median(times) / 1e9, "GB/s"

    return {
        f"pinning {mib} MiB": (pinning, "s"),
        "host → device, pageable": rate(device, pageable),
        "host → device, pinned": rate(device, pinned),
        "device → host, pageable": rate(pageable, device),
        "device → host, pinned": rate(pinned, device),
        "device → device (bytes read)": rate(torch.empty_like(device), device),
    }


def placement(on: Target, mib: int) -> Figures:
    """What the crossing does with storages: there, home, and the labels that find changes."""
    import torch

    from zerokernel.crossing.cuda_memory import CudaMemory

    memory = CudaMemory(on.torch_device, lambda size: on.pinned(torch.empty(size).byte()))
    data = torch.randint(0, 255, (mib * MIB,), dtype=torch.uint8).numpy()
    small = data[: 40 << 10]
    storage = memory.place(data, 0)

    def place() -> None:
        memory.place(data, 0)
        memory.settle()

    def place_small() -> None:
        for _ in range(1000):
            memory.place(small, 0)
        memory.settle()

    def rate(work: Callable[[], object]) -> tuple[float, str]:
        work()
        return mib * MIB / median([_measured(on, work) for _ in range(5)]) / 1e9, "GB/s"

    return {
        "a storage, host → device": rate(place),
        "a storage, device → host": rate(lambda: memory.read(storage, 0, len(data))),
        "labels on the device": rate(lambda: memory.labels(storage)),
        "1,000 storages of 40 KiB, host → device": (_measured(on, place_small), "s"),
        "label of a storage of 40 KiB": (
            _measured(on, lambda: memory.labels(memory.place(small, 0))),
            "s",
        ),
    }


ALL: dict[str, Callable[[Target, int], Figures]] = {
    function.__name__: function
    for function in (initialise, fork, frozen, memory, alternate, copies, placement)
}


def _first_kernel(on: Target, torch: Any) -> None:
    assert torch.ones(2, device=on.torch_device).sum().item() == 2
    on.synchronize()


def _matmul(on: Target, torch: Any, mib: int) -> Callable[[], object]:
    """Gives a step of work: a product of two float32 matrices of at most that many MiB."""
    side = min(8192, int((mib * MIB / 4) ** 0.5))
    left = torch.rand(side, side, device=on.torch_device)
    out = torch.empty_like(left)
    torch.mm(left, left, out=out)
    on.synchronize()
    return lambda: torch.mm(left, left, out=out)


def _measured(on: Target, work: Callable[[], object]) -> float:
    on.synchronize()
    started = time.perf_counter()
    work()
    on.synchronize()
    return time.perf_counter() - started


def _turn(pipes: list[Connection], count: int) -> float:
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send(count)
    for pipe in pipes:
        pipe.recv()
    return time.perf_counter() - started


def _forkable_torch() -> Any:
    """Imports torch as the forkserver does: one thread, CUDA untouched."""
    import torch

    torch.set_num_threads(1)
    return torch


def _fork(work: Callable[[Connection], None]) -> tuple[int, Connection]:
    """Runs work in a forked child; a child that fails ends its pipe, and `recv` raises."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _end_with_parent()
            ours.close()
            work(theirs)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    theirs.close()
    return pid, ours


def _end_with_parent() -> None:
    """Has this process killed when its parent ends, even while it is stopped."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
