"""What a cell would send, name by name, without sending it."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from zerokernel.crossing.buffers import OF_FILE
from zerokernel.crossing.kernel_replica import KernelReplica
from zerokernel.crossing.mapped_files import Part
from zerokernel.crossing.pickling import Packer


@dataclass(frozen=True)
class Passage:
    """One name of the notebook that a cell needs.

    Attributes:
        name: As in the notebook.
        kind: The type of its object.
        travels: Bytes that would go over for it now; what two names share counts for the first.
        size: Bytes of all that it leads to; what two names share counts for the first.
        blocked: Why it cannot travel and what to do, "" where it can.
    """

    name: str
    kind: str
    travels: int
    size: int
    blocked: str = ""


@dataclass(frozen=True)
class Forecast:
    """All that a cell would send.

    Attributes:
        passages: In the order of the notebook's names.
        changes: Bytes of what changed here since the worker got it.
    """

    passages: tuple[Passage, ...]
    changes: int

    @property
    def travels(self) -> int:
        """Bytes that would go over."""
        return self.changes + sum(one.travels for one in self.passages)

    @property
    def size(self) -> int:
        """Bytes that the cell would find in its worker."""
        return sum(one.size for one in self.passages)


def forecast(replica: KernelReplica, names: Collection[str]) -> Forecast:
    """Rehearses a shipment; both sides stay as they are.

    Args:
        replica: The kernel's side of the crossing.
        names: What the cell reads.
    """
    draft, absent, tried = replica.rehearse(names)
    total = _written(draft.packer, draft.stream)
    going = [name for name in replica.namespace if name in tried]
    fit = [name for name in going if name not in absent]
    fresh = _sizes(replica, fit, replica.packer(known=True), _written)
    whole = _sizes(replica, fit, replica.packer(known=False), _found)
    passages = tuple(
        Passage(
            name,
            type(replica.namespace[name]).__name__,
            fresh.get(name, 0),
            whole.get(name, 0),
            absent.get(name, ""),
        )
        for name in going
    )
    return Forecast(passages, max(0, total - sum(fresh.values())))


def _sizes(
    replica: KernelReplica,
    names: list[str],
    packing: tuple[Packer, io.BytesIO],
    measure: Callable[[Packer, io.BytesIO], int],
) -> Mapping[str, int]:
    """How much each name adds to one stream."""
    packer, stream = packing
    sizes: dict[str, int] = {}
    before = 0
    for name in names:
        packer.dump(replica.namespace[name])
        now = measure(packer, stream)
        sizes[name], before = now - before, now
    return sizes


def _written(packer: Packer, stream: io.BytesIO) -> int:
    return stream.tell() + sum(view.nbytes for view in packer.buffers)


def _found(packer: Packer, stream: io.BytesIO) -> int:
    """What was written, and what the worker maps of files of which no bytes travel."""
    files = (Part.of(details).length for form, *details in packer.specs if form == OF_FILE)
    return _written(packer, stream) + sum(files)
