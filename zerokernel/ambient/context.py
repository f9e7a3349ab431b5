"""Context variables that the notebook or its modules made."""

from __future__ import annotations

import contextvars
import sys
from contextvars import ContextVar
from typing import Any

from zerokernel.ambient.local_modules import local_modules
from zerokernel.ambient.setting import GONE, Setting


class _Variables:
    """Tells the notebook's variables from those of libraries, when they are first set.

    The mutable state: the variables met so far, by identity, and whether they are its.
    """

    def __init__(self) -> None:
        self._met: dict[int, tuple[ContextVar[Any], bool]] = {}

    def read(self) -> dict[ContextVar[Any], Any]:
        values = contextvars.copy_context()
        met = self._met
        for one in values:
            if id(one) not in met:
                met[id(one)] = (one, _is_notebooks(one))
        return {one: value for one, value in values.items() if met[id(one)][1]}

    def write(self, changes: dict[ContextVar[Any], Any]) -> None:
        for one, value in changes.items():
            if value is not GONE:  # only the token of its `set` could take a value back
                self._met[id(one)] = (one, True)
                one.set(value)


def _is_notebooks(one: ContextVar[Any]) -> bool:
    """Whether a name of the notebook, or of a module of the user's own, stands for it."""
    places = [sys.modules.get("__main__"), *local_modules]
    return any(
        value is one
        for module in places
        if module is not None
        for value in list(vars(module).values())
        if type(value) is ContextVar
    )


variables = _Variables()

CONTEXT: tuple[Setting, ...] = (
    Setting("contextvars", variables.read, variables.write, keyed=True, followed=True, live=True),
)
