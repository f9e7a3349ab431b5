"""Tracebacks without the emulation: on a real device its frames would not be there."""

from __future__ import annotations

import os
from types import TracebackType

_HERE = os.path.dirname(__file__) + os.sep


def hide_frames(error: BaseException | None) -> None:
    """Takes the emulation's own frames out of an error, of what caused it, and of its context."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _without_ours(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _without_ours(first: TracebackType | None) -> TracebackType | None:
    """The traceback without our frames; itself where it has none, or nothing else."""
    kept = []
    step = first
    while step is not None:
        if not step.tb_frame.f_code.co_filename.startswith(_HERE):
            kept.append(step)
        step = step.tb_next
    if not kept:
        return first
    for one, after in zip(kept, [*kept[1:], None], strict=True):
        if one.tb_next is not after:
            one.tb_next = after
    return kept[0]
