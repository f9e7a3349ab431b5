"""Names of a shell's namespace that are the shell's own."""

from __future__ import annotations

import re

_SHELL = "_oh _ih _dh _sh"
_MODULE = "name doc package loader spec builtin builtins file cached session"
_NEVER = frozenset({*_SHELL.split(), *(f"__{name}__" for name in _MODULE.split())})
_HISTORY = frozenset(["In", "Out", "_", "__", "___", "_i", "_ii", "_iii"])
_NUMBERED = re.compile(r"_i?\d+\Z")


def stays(name: str) -> bool:
    """Whether a name never crosses: each side has its own."""
    return name in _NEVER


def is_history(name: str) -> bool:
    """Whether a name is of the notebook's history: it travels when read, and is not sent back.

    The kernel itself binds ``_``, ``Out[n]`` and the like when a cell is over.
    """
    return name in _HISTORY or _NUMBERED.match(name) is not None
