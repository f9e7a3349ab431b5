"""Names that static analysis missed: asked of the kernel when the cell reads them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from zerokernel.errors import CannotTravel
from zerokernel.worker import interrupts

Fetch = Callable[[str], Any]
"""Gives the kernel's object of that name; raises KeyError where it has none."""


class FetchingBuiltins(dict[str, Any]):
    """The worker namespace's ``__builtins__``: reached by a name found nowhere else.

    The namespace stays an exact dict, as class bodies and ``in globals()`` need it.
    """

    def __init__(self, fetch: Fetch, absent: dict[str, str]) -> None:
        super().__init__(vars(builtins))
        self._fetch = fetch
        self._absent = absent

    def __missing__(self, name: str) -> Any:
        """Fetches the name. A KeyError becomes the cell's NameError.

        Raises:
            CannotTravel: The notebook has the name, but its object cannot travel.
        """
        if (reason := self._absent.get(name)) is not None:
            raise CannotTravel(reason)
        return self._fetch(name)


_OWN_FILES = (__file__, interrupts.__file__)


def hide_frames(error: BaseException | None) -> None:
    """Cuts a traceback off where it enters our own code: the cell's own line matters."""
    step = error.__traceback__ if error is not None else None
    while step is not None:
        after = step.tb_next
        if after is not None and after.tb_frame.f_code.co_filename in _OWN_FILES:
            step.tb_next = after = None
        step = after


def install(namespace: dict[str, Any], fetch: Fetch, closed: bool, absent: dict[str, str]) -> None:
    """Sets the namespace's builtins for one cell.

    A cell whose every name is known gets the plain ones: looking names up in an exact dict
    is many times faster.
    """
    if closed and not absent:
        namespace["__builtins__"] = builtins
    else:
        namespace["__builtins__"] = FetchingBuiltins(fetch, absent)
