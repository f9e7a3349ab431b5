"""The worker's main: prepare the process, then run one cell after another."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

from zerokernel.errors import ChannelClosed, MalformedMessage
from zerokernel.messages import (
    Bind,
    FetchedName,
    Hello,
    InputReply,
    Interrupt,
    Message,
    RunCell,
    Stage,
    WorkerReady,
)
from zerokernel.wire import Channel, Received
from zerokernel.wire.unix import UnixChannel
from zerokernel.worker import process, threads
from zerokernel.worker.interrupts import Interrupts
from zerokernel.worker.output import OutputCapture
from zerokernel.worker.shell import WorkerKernel
from zerokernel.worker.supervisor import KERNEL_LOST_STATUS
from zerokernel.worker.task import TaskRunner


class Child:
    """What a forked worker needs from its parent.

    Args:
        kernel: Built in the forkserver.
        own_threads: The user's values of the variables that the forkserver set to one thread.
    """

    def __init__(self, kernel: WorkerKernel, own_threads: dict[str, str | None]) -> None:
        self._kernel = kernel
        self._own_threads = own_threads

    def run(self, channel: Channel, control: UnixChannel, hello: Hello) -> None:
        """The worker's main. Never returns: it ends with the process."""
        process.die_with_parent(os.getppid())
        os.setsid()
        process.adopt_orphans()
        threads.restore(self._own_threads)
        os.register_at_fork(after_in_child=channel.abandon)
        os.register_at_fork(after_in_child=control.abandon)
        interrupts = Interrupts()
        interrupts.install()
        inbox = Inbox(channel, control, interrupts)
        capture = OutputCapture(self._kernel.session)
        runner = TaskRunner(self._kernel, channel, control, interrupts, inbox, capture)
        capture.start()
        inbox.start(runner.allocate)
        if hello.process and isinstance(channel, UnixChannel):
            channel.offer_memory()
        channel.send(WorkerReady(os.getpid()))
        while True:
            runner.run_next()


class Inbox:
    """Sorts what arrives from kernel and supervisor to who waits for it.

    Attributes:
        orders: Stage and RunCell of the kernel, in order.
        binds: What the supervisor grants.
        replies: Answers to what the running cell asked.
    """

    def __init__(self, channel: Channel, control: Channel, interrupts: Interrupts) -> None:
        self.orders: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.binds: queue.SimpleQueue[Bind] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._channel = channel
        self._control = control
        self._interrupts = interrupts

    def start(self, allocate: Any) -> None:
        """Starts the two reading threads."""
        for target, arguments in ((self._read_kernel, (allocate,)), (self._read_supervisor, ())):
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def _read_kernel(self, allocate: Any) -> None:
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
        elif isinstance(message, Interrupt):
            self._interrupts.interrupt()

    def _read_supervisor(self) -> None:
        try:
            while True:
                message = self._control.receive().message
                if isinstance(message, Bind):
                    self.binds.put(message)
        except ChannelClosed:
            os._exit(1)
