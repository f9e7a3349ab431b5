"""The memory of the worker's slice: what may be taken of it, and who took it when it is out."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import sys
from collections.abc import Iterator, Mapping
from types import (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any

from zerokernel.ambient.on_import import when_imported
from zerokernel.emulation.limit import limit
from zerokernel.messages import Bind

MEMORY = "ZEROKERNEL_SLICE_MEMORY"
FRACTION = "ZEROKERNEL_SLICE_FRACTION"
NAME = "ZEROKERNEL_SLICE_NAME"

_MOST_OBJECTS = 500_000
"""So many are looked at to find who has the memory."""

_MOST_NAMES = 5
_MARK = "zerokernel: "

_SKIPPED = (
    *(ModuleType, type, FrameType, GeneratorType),
    *(FunctionType, BuiltinFunctionType, MethodType),
    *(str, bytes, int, float, complex),
)


def take(bind: Bind) -> None:
    """Keeps this process to its slice, where the device itself does not.

    A share of a GPU is a cap of torch's allocator; a simulated slice has what it claims.
    """
    os.environ[NAME] = bind.slice
    memory = int(os.environ.get(MEMORY, "0"))
    limit.set(memory if bind.simulated and memory else math.inf)
    if not bind.simulated and FRACTION in bind.environment:
        if "torch" in sys.modules:
            _cap()
        else:
            when_imported("torch", _cap)


def _cap() -> None:
    sys.modules["torch"].cuda.set_per_process_memory_fraction(float(os.environ[FRACTION]))


def held() -> int:
    """Gives the bytes on the device that this process's tensors have now."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.memory_allocated())


# --- out of memory --------------------------------------------------------------------------


def explain(error: BaseException | None, namespace: Mapping[str, Any]) -> None:
    """Adds to torch's OutOfMemoryError what the slice has, and which names hold how much of it.

    Other errors, and one that was explained before, stay as they are.
    """
    torch: Any = sys.modules.get("torch")
    if error is None or torch is None or not isinstance(error, torch.OutOfMemoryError):
        return
    if any(_MARK in note for note in getattr(error, "__notes__", ())):
        return
    with contextlib.suppress(Exception):  # whatever is in there, the error is to be seen
        error.add_note(_account(torch, namespace))
        torch.cuda.empty_cache()  # what only the allocator keeps is free for the next cell


def _account(torch: Any, namespace: Mapping[str, Any]) -> str:
    held = holders(torch, namespace)
    allocated = int(torch.cuda.memory_allocated())
    total = int(os.environ.get(MEMORY, "0")) or int(torch.cuda.mem_get_info()[1])
    parts = [f"{name} {_gb(size)}" for name, size in held[:_MOST_NAMES]]
    if rest := held[_MOST_NAMES:]:
        parts.append(f"{len(rest)} other names {_gb(sum(size for _, size in rest))}")
    unnamed = allocated - sum(size for _, size in held)
    if unnamed > 0:
        parts.append(f"no name of this cell {_gb(unnamed)}")
    has = f"{_MARK}{os.environ.get(NAME, 'the slice')} has {_gb(total)}"
    larger = "ask for a larger slice: %%gpu --memory; %gpu lists what there is."
    if not parts:
        return f"{has}; nothing of it is held any more. This call alone needs more: {larger}"
    held_now = f"still held: {_gb(allocated)} ({', '.join(parts)})"
    return f"{has}; {held_now}. Delete what is not needed any more, or {larger}"


def holders(torch: Any, namespace: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Gives the names that lead to tensors on the device, with their bytes, most first.

    What several names lead to counts for the first of them.
    """
    seen: set[int] = {id(namespace)}
    storages: set[int] = set()
    found: dict[str, int] = {}
    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        for tensor in _tensors(torch, value, seen):
            found[name] = found.get(name, 0) + _bytes(tensor, storages)
    return sorted(((n, s) for n, s in found.items() if s), key=lambda pair: -pair[1])


def _tensors(torch: Any, root: Any, seen: set[int]) -> Iterator[Any]:
    """Gives the tensors that an object leads to."""
    waiting = [root]
    while waiting and len(seen) < _MOST_OBJECTS:
        one = waiting.pop()
        if isinstance(one, _SKIPPED) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            yield one
            if one.is_leaf and one.grad is not None:
                waiting.append(one.grad)
        waiting += gc.get_referents(one)


def _bytes(tensor: Any, storages: set[int]) -> int:
    """Gives the bytes on the device that no tensor before shared."""
    try:
        storage = tensor.untyped_storage() if tensor.is_cuda else None
    except (NotImplementedError, RuntimeError):  # a sparse one is made of others
        return 0
    if storage is None or storage._cdata in storages:
        return 0
    storages.add(storage._cdata)
    return int(storage.nbytes())


def _gb(count: float) -> str:
    """Says a number of bytes as torch's own message does."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.2f} GiB"
    return f"{count / (1 << 20):.2f} MiB" if count >= 1 << 20 else f"{count / (1 << 10):.1f} KiB"
