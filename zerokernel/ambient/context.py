"""Context variables that the notebook or its modules made."""

from __future__ import annotations

import contextvars
import sys
from contextvars import ContextVar
from typing import Any

from zerokernel.ambient.origin import is_installed
from zerokernel.ambient.setting import GONE, Setting


class _Variables:
    """Tells the notebook's variables from those of libraries.

    The mutable state: the variables met so far, by identity, and whether they are a library's.
    """

    def __init__(self) -> None:
        self._met: dict[int, tuple[ContextVar[Any], bool]] = {}

    def start(self) -> None:
        """What is set now is nobody's of the notebook."""
        self._met = {id(one): (one, True) for one in contextvars.copy_context()}

    def read(self) -> dict[ContextVar[Any], Any]:
        return {
            one: value
            for one, value in contextvars.copy_context().items()
            if not self._is_librarys(one)
        }

    def write(self, changes: dict[ContextVar[Any], Any]) -> None:
        for one, value in changes.items():
            if value is not GONE:  # only the token of its `set` could take a value back
                self._met[id(one)] = (one, False)
                one.set(value)

    def _is_librarys(self, one: ContextVar[Any]) -> bool:
        met = self._met.get(id(one))
        if met is None:
            met = self._met[id(one)] = (one, _is_in_a_library(one))
        return met[1]


def _is_in_a_library(one: ContextVar[Any]) -> bool:
    return any(
        value is one
        for module in list(sys.modules.values())
        if module is not None and is_installed(module) and module.__name__ != "__main__"
        for value in list(getattr(module, "__dict__", {}).values())
        if type(value) is ContextVar
    )


variables = _Variables()

CONTEXT: tuple[Setting, ...] = (
    Setting("contextvars", variables.read, variables.write, keyed=True, followed=True, live=True),
)
