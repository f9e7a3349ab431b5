"""Whether the kernels of sessions still live, known the moment that they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from zerokernel.client.address import process_namespace


class KernelWatch:
    """Watches one process for each session, where it can be seen from here.

    Args:
        ended: Called in the event loop's thread with the session whose kernel ended.
    """

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._namespace = process_namespace()
        self._descriptors: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._descriptors)

    def watch(self, session: str, process: int, namespace: str) -> None:
        """Begins to watch a session's kernel, or another one in its place."""
        self.forget(session)
        if process <= 0 or namespace != self._namespace:
            return
        with contextlib.suppress(OSError):  # it is over; its connection will say so, too
            descriptor = os.pidfd_open(process)
            self._descriptors[session] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._on_end, session)

    def forget(self, session: str) -> None:
        """Watches the session's kernel no more."""
        descriptor = self._descriptors.pop(session, -1)
        if descriptor >= 0:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Watches nobody any more."""
        for session in list(self._descriptors):
            self.forget(session)

    def _on_end(self, session: str) -> None:
        self.forget(session)
        self._ended(session)
