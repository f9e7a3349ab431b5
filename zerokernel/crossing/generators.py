"""torch's random generators: on the CPU, on an emulated device, on a real one.

A generator of a real device is of another kind than all others: of its state the other side can
take over the seed alone, and goes on from there in its own way.
"""

from __future__ import annotations

import sys
from typing import Any

State = tuple[str, int, bytes]
"""The kind, the seed that it was given, and its state."""

_REAL, _HOST = "device", "host"


def reduce(item: Any) -> Any:
    """How a generator is pickled: those of torch itself by name, others by their state."""
    torch: Any = sys.modules["torch"]
    if item is torch.default_generator:
        return (_default, (None,))
    index = item.device.index if item.device.type == "cuda" else None
    if index is not None and _is_default(item, index):
        return (_default, (index,))
    return (_made, (index, take(item)))


def take(item: Any) -> State:
    """What is to be known of a generator to go on with it."""
    import torch

    with torch._C.DisableTorchFunction():
        kind = _REAL if type(item) is torch._C.Generator and item.device.type != "cpu" else _HOST
        return kind, item.initial_seed(), item.get_state().numpy().tobytes()


def put(item: Any, state: State) -> None:
    """Has a generator go on where another one was."""
    import torch

    kind, seed, held = state
    with torch._C.DisableTorchFunction():
        if take(item)[0] == kind:
            item.manual_seed(seed)
            item.set_state(torch.frombuffer(bytearray(held), dtype=torch.uint8))
        elif item.initial_seed() != seed:
            item.manual_seed(seed)


def _is_default(item: Any, index: int) -> bool:
    return any(one is item for one in sys.modules["torch"].cuda.default_generators[index:][:1])


def _default(index: int | None) -> Any:
    import torch

    if index is None:
        return torch.default_generator
    known: Any = torch.cuda.default_generators
    return known[index] if index < len(known) else torch.default_generator


def _made(index: int | None, state: State) -> Any:
    made = _new(index)
    put(made, state)
    return made


def _new(index: int | None) -> Any:
    """A generator on a device, real or emulated; on the CPU where there is none."""
    import torch

    if index is None or not torch.cuda.is_available():
        return torch._C.Generator()
    return torch.Generator(f"cuda:{index}")
