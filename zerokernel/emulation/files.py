"""Copies of tensors that show a mapped file: the file is mapped once more instead.

Which memory shows a file is for others to tell, above this package; where nobody does, such a
tensor is copied like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MapAgain = Callable[[int, int], Any]
"""Gives another storage that shows what is at an address (so many bytes); None if it cannot."""


class _Mapping:
    """The mutable state: who maps files again."""

    again: MapAgain | None = None


def map_again_by(function: MapAgain | None) -> None:
    """Has tensors of mapped files that move to another device show the file there too."""
    _Mapping.again = function


def shown_again(address: int, size: int) -> Any:
    """A storage with the bytes at an address of a mapped file, without a copy; else None."""
    return None if _Mapping.again is None else _Mapping.again(address, size)
