"""What analysis answers with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellNames:
    """The names of one cell, from its text alone.

    ``read``, ``bound`` and ``deleted`` err on the large side: a name that is only read on some
    path is in ``read``.
    """

    read: frozenset[str]
    """Global names that the cell may read before it has bound them, built-in ones included.
    A deleted name counts as read, because whether it existed must be known where the cell runs."""
    bound: frozenset[str]
    """Names that the cell may bind in the notebook's namespace."""
    deleted: frozenset[str]
    """Names that the cell may delete from it."""
    closed: bool
    """False where the cell may reach names that its text does not show."""
    whole_namespace: bool
    """The cell takes hold of the namespace as such (``globals()``, ``%run -i``): send it all."""
    mentioned: frozenset[str]
    """Identifiers inside string literals. Candidates only: most are plain prose."""
    open_reasons: frozenset[str] = frozenset()
    """What made ``closed`` False, as the cell names it: ``eval``, ``%run``."""
    whole_reasons: frozenset[str] = frozenset()
    """What made ``whole_namespace`` True, as the cell names it: ``globals``, ``user_ns``."""


@dataclass(frozen=True)
class Captures:
    """What must travel for a cell to run elsewhere."""

    names: tuple[str, ...]
    """Sorted names of the namespace that the cell, or a notebook function it uses, may read."""
    closed: bool
    """False where the cell or one of those functions may reach further names."""
    cell: CellNames
    missing: frozenset[str]
    """Names that the cell reads and that neither the namespace nor the built-ins have."""
    whole_namespace: bool = False
    """The cell, or a notebook function that it uses, takes hold of the namespace as such."""
