"""Errors of plain cells are shown without the frames of the emulated device."""

from __future__ import annotations

import sys
from typing import Any

from zerokernel.emulation.frames import hide_frames


class Tracebacks:
    """Stands before a shell's way to show an error.

    Args:
        shell: The notebook's.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._before = vars(shell).get("showtraceback")
        self._show = shell.showtraceback
        shell.showtraceback = self._show_without_ours

    def remove(self) -> None:
        """Gives the shell back what it had, unless somebody stands before it by now."""
        if vars(self._shell).get("showtraceback") != self._show_without_ours:
            return
        if self._before is None:
            del self._shell.showtraceback
        else:
            self._shell.showtraceback = self._before

    def _show_without_ours(self, exc_tuple: Any = None, *arguments: Any, **options: Any) -> Any:
        hide_frames(exc_tuple[1] if exc_tuple else sys.exc_info()[1])
        return self._show(exc_tuple, *arguments, **options)
