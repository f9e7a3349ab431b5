"""The worker's main: prepare the process, then run one cell after another."""

from __future__ import annotations

import os
from typing import Any

from zerokernel.ambient import begin
from zerokernel.containment import process_outside, wait_until_contained
from zerokernel.crossing.second_mapping import shown_again
from zerokernel.emulation.files import map_again_by
from zerokernel.messages import Hello, WorkerReady
from zerokernel.wire import Channel
from zerokernel.wire.unix import UnixChannel
from zerokernel.worker import threads
from zerokernel.worker.cell_loop import CellLoop
from zerokernel.worker.inbox import Inbox
from zerokernel.worker.interrupts import Interrupts
from zerokernel.worker.output import OutputCapture
from zerokernel.worker.shell import WorkerKernel
from zerokernel.worker.task import TaskRunner


class Child:
    """What a forked worker needs from its parent.

    Args:
        kernel: Built in the forkserver.
        own_threads: The user's values of the variables that the forkserver set to one thread.
        detection: The setting `change_detection`.
    """

    def __init__(
        self, kernel: WorkerKernel, own_threads: dict[str, str | None], detection: str
    ) -> None:
        self._kernel = kernel
        self._own_threads = own_threads
        self._detection = detection
        begin(in_worker=True)
        map_again_by(shown_again)

    def run(self, channel: Channel, control: UnixChannel, hello: Hello) -> None:
        """The worker's main. Never returns: it ends with the process."""
        os.setsid()
        threads.restore(self._own_threads)
        os.register_at_fork(after_in_child=channel.abandon)
        os.register_at_fork(after_in_child=control.abandon)
        interrupts = Interrupts()
        interrupts.install()
        inbox = Inbox(channel, control, interrupts)
        capture = OutputCapture(self._kernel.session)
        shell: Any = self._kernel.shell
        loop = CellLoop(shell.user_ns)
        runner = TaskRunner(
            self._kernel, channel, control, interrupts, inbox, capture, loop, self._detection
        )
        capture.start()
        inbox.start(runner.allocate)
        loop.start()
        if hello.process and isinstance(channel, UnixChannel):
            channel.offer_memory(process_outside())
        channel.send(WorkerReady(process_outside()))
        wait_until_contained()
        while True:
            runner.run_next()
