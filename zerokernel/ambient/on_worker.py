"""The user's own functions that prepare a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[[], object])

# The mutable state: what is registered, and in a worker what ran there.
_functions: list[Any] = []
_ran: list[Any] = []


def on_worker(function: F) -> F:
    """Has a function run once in each worker, before the next `%%gpu` cell; a decorator.

    A session gets a fresh worker at its first cell, and whenever the one before was ended.
    What the function sets there (thread counts, a library's caches) stays there: nothing of
    it crosses to the notebook. Run the cell that registers it again, and the new function
    takes the place of the one of that name. Where it raises, the cell runs nevertheless, and
    its receipt has a note.

    Args:
        function: Called without arguments; its result is ignored.

    Returns:
        The function itself.
    """
    _functions[:] = [one for one in _functions if _name(one) != _name(function)]
    _functions.append(function)
    return function


def registered() -> tuple[Any, ...]:
    """The functions, in the order in which they run."""
    return tuple(_functions)


def take_over(functions: tuple[Any, ...]) -> None:
    """Takes over what the other process has registered."""
    _functions[:] = functions


def run_new() -> list[str]:
    """Runs those that did not run in this process yet; gives a note for each that raised."""
    notes = []
    for function in _functions:
        if any(one is function for one in _ran):
            continue
        _ran.append(function)
        try:
            function()
        except Exception as error:
            notes.append(
                f"`{_name(function)[1]}`, which is to prepare each worker, raised "
                f"{type(error).__name__}: {error}"
            )
    return notes


def _name(function: Any) -> tuple[str, str]:
    name = getattr(function, "__qualname__", None) or repr(function)
    return getattr(function, "__module__", ""), name
