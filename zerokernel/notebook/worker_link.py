"""The notebook's end of the channel to its worker."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Sequence
from typing import Any

from zerokernel import memory
from zerokernel.ambient import Changes, Surroundings
from zerokernel.ambient.submodules import import_all
from zerokernel.crossing import KernelReplica, Shipment, allocate
from zerokernel.errors import MalformedMessage, ResultsTooLarge
from zerokernel.messages import (
    CellFinished,
    CellStarted,
    FetchedName,
    Hello,
    Message,
    RunCell,
    SessionOpened,
    Stage,
    WorkerReady,
)
from zerokernel.notebook.staging_budget import StagingBudget
from zerokernel.settings import Settings
from zerokernel.wire import Channel, Received, connect

PAYLOAD_COPIES = 3
"""Objects that a payload describes take about so many times its size, beside itself."""


class WorkerLink:
    """Carries shipments to the worker and what comes back.

    Attributes:
        process: The worker's process id.
        fresh: Nothing was staged yet on this worker.
        left_running: The last cell left something running, which may hold its lease.
        known_files: Cells whose source the worker has, with their numbers.
        surroundings: The state around the names, as both sides agreed on it last.
    """

    def __init__(self, channel: Channel, process: int, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self.process = process
        self._staging = StagingBudget(settings.runtime_directory / "staging")
        self._owners: dict[int, Sequence[Any]] = {}
        self.fresh = True
        self.left_running = False
        self.known_files: dict[str, int] = {}
        self.surroundings = Surroundings(in_worker=False)

    @staticmethod
    def open(opened: SessionOpened, settings: Settings) -> WorkerLink:
        """Connects to the supervisor, which forks a worker at the other end.

        Raises:
            OSError, ZeroKernelError: The supervisor does not answer or cannot fork.
        """
        channel = connect(
            opened.address,
            Hello("kernel", opened.session, os.getpid()),
            bytes.fromhex(opened.secret),
            timeout=settings.worker_start_seconds,
            read_memory=not settings.emulate_ptrace_denied,
        )
        try:
            # Both ends know by then whether they can read each other's memory.
            ready = channel.receive(settings.worker_start_seconds).message
        except BaseException:
            channel.close()
            raise
        if not isinstance(ready, WorkerReady):
            channel.close()
            raise MalformedMessage("The worker's first message is not WorkerReady.")
        return WorkerLink(channel, ready.process, settings)

    @property
    def output_limits(self) -> dict[str, int]:
        """How much a cell may show, by the names of the settings."""
        names = ("output_bytes", "output_messages", "output_display_bytes")
        return {name: getattr(self._settings, name) for name in names}

    def may_stage(self, size: int) -> bool:
        """Whether captures of so many bytes may be sent before the slice is granted.

        A parked worker reads nothing until it thaws. Another would keep them while the cell
        waits, and with it those of all notebooks that wait.
        """
        if not self.fresh:
            return False
        budget = self._settings.staging_bytes
        if not budget and size <= memory.SMALL_BYTES:
            return True
        with contextlib.suppress(OSError):  # then nobody knows what others have taken
            return self._staging.take(size, budget or memory.room().size // 4)
        return False

    def fileno(self) -> int:
        """Descriptor to select on."""
        return self._channel.fileno()

    @property
    def pending(self) -> bool:
        """Whether a message waits that select cannot see."""
        return self._channel.pending

    def stage(self, shipment: Shipment) -> int:
        """Sends captures as bytes, which the worker keeps until its slice is bound.

        Returns:
            How many bytes travelled.
        """
        self.fresh = False
        return self._send(Stage(tuple(shipment.specs)), shipment)

    def run(self, cell: RunCell, news: Changes, submodules: list[str]) -> None:
        """Has the worker run the cell on what was staged, in this process's surroundings."""
        self._channel.send(cell, [pickle.dumps((news.plain, news.ran, submodules))])
        self.surroundings.sent()

    def take_over_surroundings(self, extra: dict[str, Any]) -> list[str]:
        """Writes what the cell changed around the names into this process; gives notes.

        Args:
            extra: What came home beside names and changes; what is not ours stays in it.
        """
        notes = list(extra.pop("notes", ()))
        plain, ran = extra.pop("surroundings", None) or ({}, {})
        notes += import_all(extra.pop("submodules", ()), below_imported=True)
        live = {label: extra.pop(label) for label in extra.keys() - {"result", "error"}}
        self.surroundings.committed()
        return [*notes, *self.surroundings.enter(plain, ran), *self.surroundings.enter_live(live)]

    def answer_fetch(self, name: str, replica: KernelReplica) -> int:
        """Answers a name that the cell reads and that was not captured.

        Returns:
            How many bytes travelled.
        """
        try:
            shipment = replica.fetch(name)
        except KeyError:
            self._channel.send(FetchedName(name, found=False))
            return 0
        reason = shipment.absent.get(name, "")
        size = self._send(FetchedName(name, True, reason, tuple(shipment.specs)), shipment)
        replica.settle()
        return size

    def send(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        """Sends a message, from any thread."""
        self._channel.send(message, buffers)

    def receive(self, timeout: float) -> tuple[Received, Sequence[Any]]:
        """The next message, and for results the objects that own their buffers."""
        received = self._channel.receive(timeout, self._allocate)
        if isinstance(received.message, CellStarted):
            self._staging.give_back()
        return received, self._owners.pop(id(received.message), ())

    def close(self) -> None:
        """Closes the channel, which ends the worker."""
        self._staging.give_back()
        self._channel.close()

    def _send(self, message: Message, shipment: Shipment) -> int:
        self._channel.send(message, [shipment.payload, *shipment.buffers])
        return shipment.byte_count

    def _allocate(self, message: Message, sizes: list[int]) -> list[memoryview]:
        need = sum(sizes) + PAYLOAD_COPIES * sizes[0]
        if not memory.has_room(need):
            raise _too_large(need)
        try:
            return self._take_memory(message, sizes)
        except MemoryError as error:  # a limit that nobody tells
            raise _too_large(need) from error

    def _take_memory(self, message: Message, sizes: list[int]) -> list[memoryview]:
        head = memoryview(bytearray(sizes[0]))
        if not isinstance(message, CellFinished):
            return [head, *(memoryview(bytearray(size)) for size in sizes[1:])]
        owners, views = allocate(message.specs)
        self._owners[id(message)] = owners
        return [head, *views]


def _too_large(need: int) -> ResultsTooLarge:
    left = memory.room()
    return ResultsTooLarge(
        f"What the cell made or changed needs {need / 1e9:.1f} GB in the notebook, which can take "
        f"{left.size / 1e9:.1f} GB more: the limit is that of {left.limit}. Nothing was changed. "
        "Bring less home: reduce it in the cell, save it to a file there, or `del` at the cell's "
        "end what the notebook does not need."
    )
