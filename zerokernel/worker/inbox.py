"""What arrives at the worker, sorted to who waits for it."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable

from zerokernel.errors import ChannelClosed, MalformedMessage
from zerokernel.messages import (
    Bind,
    CommMessage,
    ExtendLimit,
    FetchedName,
    InputReply,
    Interrupt,
    InterruptSeen,
    Message,
    NextCell,
    RunCell,
    Stage,
)
from zerokernel.wire import Channel, Received
from zerokernel.wire.channel import Allocate
from zerokernel.worker.interrupts import Interrupts

KERNEL_LOST_STATUS = 86
"""Exit status of a worker whose kernel's end of the channel closed."""

ACKNOWLEDGE_SECONDS = 60.0
"""By then the kernel has long ended a worker that did not react."""


class Inbox:
    """Reads from kernel and supervisor, each in a thread of its own.

    Attributes:
        orders: Stage and RunCell of the kernel, in order.
        binds: What the supervisor grants.
        replies: Answers to what the running cell asked.
        extended: Called with the lease and limit of a task that got more time.
        comm: Called, in the reading thread, with what the front end says on a comm.
        next_cell: Set once the kernel asks for the lease of another cell.
    """

    def __init__(self, channel: Channel, control: Channel, interrupts: Interrupts) -> None:
        self.orders: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.binds: queue.SimpleQueue[Bind] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.comm: Callable[[Received], None] = lambda received: None
        self.next_cell = threading.Event()
        self.extended: Callable[[ExtendLimit], None] = lambda order: None
        self._channel = channel
        self._control = control
        self._interrupts = interrupts

    def start(self, allocate: Allocate) -> None:
        """Starts the two reading threads."""
        for target, arguments in ((self._read_kernel, (allocate,)), (self._read_supervisor, ())):
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def _read_kernel(self, allocate: Allocate) -> None:
        try:
            while True:
                self._sort(self._channel.receive(None, allocate))
        except (ChannelClosed, MalformedMessage):
            os._exit(KERNEL_LOST_STATUS)  # the kernel is gone: nothing here can come home
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def _sort(self, received: Received) -> None:
        message: Message = received.message
        if isinstance(message, (RunCell, Stage)):
            self.orders.put(received)
        elif isinstance(message, (FetchedName, InputReply)):
            self.replies.put(received)
        elif isinstance(message, CommMessage):
            self.comm(received)
        elif isinstance(message, NextCell):
            self.next_cell.set()
        elif isinstance(message, Interrupt):
            self._interrupts.interrupt()
            # In a thread: this one must go on reading, for the cell may wait for an answer.
            threading.Thread(target=self._acknowledge, daemon=True).start()

    def _acknowledge(self) -> None:
        """Tells the kernel that Python saw its interrupt; silence means one long call."""
        if self._interrupts.seen.wait(ACKNOWLEDGE_SECONDS):
            with contextlib.suppress(ChannelClosed, OSError):
                self._channel.send(InterruptSeen())

    def _read_supervisor(self) -> None:
        try:
            while True:
                message = self._control.receive().message
                if isinstance(message, Bind):
                    self.binds.put(message)
                elif isinstance(message, ExtendLimit):
                    self.extended(message)
        except ChannelClosed:
            os._exit(1)
