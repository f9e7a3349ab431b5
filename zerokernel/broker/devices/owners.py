"""Whose a process on a device is."""

from __future__ import annotations

from collections.abc import Callable

import psutil

Owner = Callable[[int, frozenset[int]], str | None]
"""Takes a process id and our own processes; gives "" for ours, else who it is; None: not known."""


def owner_of(process: int, roots: frozenset[int]) -> str | None:
    """Tells whether a process is one of ours, or came of one.

    None where it cannot be seen: it has just ended, or belongs to another container.
    """
    try:
        found = psutil.Process(process)
        if process in roots or any(one.pid in roots for one in found.parents()):
            return ""
        return f"process {process} ({found.name()}) of user {found.username()}"
    except psutil.Error:
        return None
