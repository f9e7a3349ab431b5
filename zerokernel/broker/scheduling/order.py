"""The order of the queue: one function."""

from __future__ import annotations

from typing import Any

from zerokernel.broker.scheduling.records import Request


def key(request: Request, now: float) -> tuple[Any, ...]:
    """Gives what waiting requests are sorted by, lowest first: first come, first served."""
    return (request.arrival,)
