"""What a way to hold a process tree together must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Main = Callable[[], None]
"""Runs in the forked child. It need not return; the child ends with it."""


class Tree(Protocol):
    """A forked worker, and all that comes of it."""

    @property
    def process(self) -> int:
        """The worker's process id.

        It is a child of the process that forked it, which waits for it and gets its status.
        """

    @property
    def roots(self) -> tuple[int, ...]:
        """Children of that process that belong to the tree: the worker, and what holds it."""

    @property
    def frozen(self) -> bool:
        """Whether ``freeze`` was asked for, and not ``thaw`` after it."""

    def freeze(self) -> None:
        """Takes the processor away from all of it."""

    def thaw(self) -> None:
        """Gives it back."""

    def kill(self) -> None:
        """Kills all of it, frozen or not. Not after the worker was waited for."""

    def clear(self) -> None:
        """After the worker was waited for: kills what is left and gives back what held it."""


class Containment(Protocol):
    """A way to fork workers whose trees can be frozen and killed whole.

    The process that forks is single-threaded and adopts orphans (`processes.adopt_orphans`).
    """

    @property
    def name(self) -> str:
        """As settings, log and doctor call it."""

    def fork(self, main: Main) -> Tree:
        """Forks a worker.

        ``main`` may begin before it is contained: it calls `inside.wait_until_contained`
        before it runs anything that a user wrote.

        Raises:
            OSError: It cannot be forked or not be contained; nothing of it is left.
        """
