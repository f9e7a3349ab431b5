"""Shows what threads and tasks of a cell show after it, while no other cell runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from zerokernel.errors import ChannelClosed, ZeroKernelError
from zerokernel.messages import Output
from zerokernel.notebook.outputs import OutputRelay

if TYPE_CHECKING:
    from zerokernel.notebook.worker_link import WorkerLink

AT_ONCE = 100
"""So many messages are shown before the kernel's loop turns to something else."""


class LateOutputs:
    """Reads a worker's channel from the kernel's event loop, between cells.

    All on the thread that runs the cells: nobody else reads the channel meanwhile.
    """

    def __init__(self, shell: Any, comms: set[str]) -> None:
        self._relay = OutputRelay(shell, comms)
        self._loop: Any = getattr(getattr(shell, "kernel", None), "io_loop", None)
        self._link: WorkerLink | None = None
        self._descriptor = -1

    def watch(self, link: WorkerLink) -> None:
        """A cell is over: shows from now on what the worker says, as it comes."""
        if self._loop is None or self._link is link:
            return
        self.unwatch()
        self._link, self._descriptor = link, link.fileno()
        self._loop.add_handler(self._descriptor, self._on_ready, self._loop.READ)

    def unwatch(self) -> None:
        """Another cell begins, or the channel is about to be closed."""
        if self._link is not None:
            self._link = None
            with contextlib.suppress(RuntimeError):  # the loop ended before, with its kernel
                self._loop.remove_handler(self._descriptor)

    def take(self, link: WorkerLink, at_most: int = AT_ONCE) -> bool:
        """Shows what has arrived; False where the worker is gone."""
        try:
            for _ in range(at_most):
                received, _ = link.receive(0)
                if isinstance(received.message, Output):
                    self._relay.show(received.message, received.buffers)
        except TimeoutError:
            return True
        except (ChannelClosed, ZeroKernelError):
            return False
        return True

    def _on_ready(self, *_: Any) -> None:
        link = self._link
        if link is None:
            return
        if not self.take(link):
            self.unwatch()  # the next cell finds out by itself
        elif link.pending:
            self._loop.add_callback(self._on_ready)  # select does not see what was read already
