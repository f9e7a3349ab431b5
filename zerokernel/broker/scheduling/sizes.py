"""Which size a request means: its name, the memory that it needs, the capability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zerokernel.broker.scheduling.records import Slice
from zerokernel.messages import RequestLease


def offers(slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """Gives for each size the slice that promises least, smallest size first."""
    least: dict[str, Slice] = {}
    for one in slices:
        known = least.get(one.size)
        if known is None or _promise(one) < _promise(known):
            least[one.size] = one
    return tuple(sorted(least.values(), key=lambda one: (one.memory, one.size)))


def _promise(one: Slice) -> tuple[int, tuple[int, int]]:
    return one.memory, one.capability


def choose(message: RequestLease, there: Sequence[Slice]) -> str:
    """Gives the smallest size that has all that is asked for, "" where none has.

    Args:
        message: What is asked: a size by its name or any, at least so much memory, at least
            that capability.
        there: What `offers` gives.
    """
    return next((one.size for one in there if _fits(message, one)), "")


def _fits(message: RequestLease, one: Slice) -> bool:
    return (
        message.size in ("", one.size)
        and message.memory <= one.memory
        and message.capability <= one.capability
    )


def impossible(message: RequestLease, there: Sequence[Slice]) -> str:
    """Says what cannot be had, and what can."""
    offered = "; ".join(describe(one) for one in there) or "nothing at all"
    return f"There is no slice {_wish(message)} here. There is: {offered}."


def _wish(message: RequestLease) -> str:
    parts = [f"of size {message.size!r}"] if message.size else []
    parts += [f"with {message.memory / 1e9:g} GB of memory"] if message.memory else []
    parts += [f"of capability {in_words(message.capability)}"] if any(message.capability) else []
    return " and ".join(parts) or "of any size"


def describe(one: Slice) -> str:
    """Names a size as what it is: "'large' (MIG 3g.71gb, 70 GB, capability 9.0)"."""
    what = f"{one.kind}, {in_gigabytes(one.memory)}, capability {in_words(one.capability)}"
    return f"{one.size!r} ({what})"


def in_words(capability: tuple[int, ...]) -> str:
    """Gives "9.0" for (9, 0)."""
    return ".".join(map(str, capability))


def in_gigabytes(memory: int) -> str:
    """Gives bytes as devices are named: rounded up, for of 80 GB a driver reports 79.6."""
    return f"{-(-memory // (1 << 30))} GB"
