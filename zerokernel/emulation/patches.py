"""The table of everything that is replaced in torch and elsewhere, and its way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_ABSENT = object()


@dataclass(frozen=True)
class Patch:
    """One attribute of an object (a module or a class) and what stands there meanwhile."""

    owner: Any
    name: str
    replacement: Any


def _own(owner: Any, name: str) -> Any:
    # Of a class what it has itself: what it inherits comes back by deleting.
    return vars(owner).get(name, _ABSENT)


class PatchTable:
    """Patches that stand together. The mutable state: what stood there before each."""

    def __init__(self, patches: Iterable[Patch]) -> None:
        self.patches = tuple(patches)
        self._before: list[Any] = []

    def install(self) -> None:
        """Puts every replacement in place; what was there is kept."""
        for patch in self.patches:
            self._before.append(_own(patch.owner, patch.name))
            setattr(patch.owner, patch.name, patch.replacement)

    def add(self, patch: Patch) -> None:
        """Puts one more replacement in place, to be removed with the others."""
        self._before.append(_own(patch.owner, patch.name))
        self.patches = (*self.patches, patch)
        setattr(patch.owner, patch.name, patch.replacement)

    def remove(self) -> None:
        """Puts back what was there, in the opposite order.

        What somebody else has put there since stays: it is theirs to take back.
        """
        for patch in reversed(self.patches[: len(self._before)]):
            before = self._before.pop()
            if _own(patch.owner, patch.name) is not patch.replacement:
                continue
            if before is _ABSENT:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, before)
