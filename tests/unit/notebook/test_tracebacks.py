"""What stands before a shell's way to show errors goes without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerokernel.notebook.tracebacks import Tracebacks


class Shell:
    def __init__(self) -> None:
        self.shown: list[Any] = []

    def showtraceback(self, exc_tuple: Any = None, tb_offset: int = 0) -> None:
        self.shown.append((exc_tuple, tb_offset))


def anothers(exc_tuple: Any = None) -> None:
    """What another extension shows errors with."""


@pytest.mark.parametrize("earlier", [None, anothers])
def test_the_shell_gets_back_what_it_had(earlier: Callable[..., None] | None) -> None:
    """Its method, or what another extension had put before that."""
    shell: Any = Shell()
    if earlier is not None:
        shell.showtraceback = earlier
    before = dict(vars(shell))
    Tracebacks(shell).remove()
    assert vars(shell) == before


def test_what_came_later_stays() -> None:
    """Another extension's is not taken away."""
    shell: Any = Shell()
    tracebacks = Tracebacks(shell)
    shell.showtraceback = anothers
    tracebacks.remove()
    assert shell.showtraceback is anothers


def test_errors_are_shown_as_asked() -> None:
    """The arguments are passed on."""
    shell: Any = Shell()
    Tracebacks(shell)
    told = ValueError, ValueError("x"), None
    shell.showtraceback(told, tb_offset=2)
    assert shell.shown == [(told, 2)]
