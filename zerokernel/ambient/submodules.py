"""Submodules that a cell or a function of the notebook mentions, as in `PIL.Image.open`.

A package travels by its name, which imports the package alone; what one process has imported
below it must be there in the other.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeGuard

_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+(.+)", re.MULTILINE)
_CHAIN = re.compile(r"[^\W\d]\w*(?:\s*\.\s*[^\W\d]\w*)+")


def mentioned(source: str, namespace: Mapping[str, Any], names: Iterable[str] = ()) -> list[str]:
    """Imported submodules that a cell mentions, or a function among the named objects."""
    found: dict[str, None] = {}
    for chain in _CHAIN.findall(source):
        head, *rest = re.split(r"\s*\.\s*", chain)
        value = namespace.get(head)
        found |= dict.fromkeys(_down(value.__name__ if _is_module(value) else head, rest))
    for name in names:
        value = namespace.get(name)
        if isinstance(value, FunctionType) and value.__globals__ is namespace:
            found |= dict.fromkeys(_in_code(value.__code__, namespace))
    return list(found)


def imported(source: str) -> list[str]:
    """Submodules that the import statements of a cell named and that are imported now."""
    return mentioned("\n".join(_IMPORT.findall(source)), {})


def import_all(names: Iterable[str], *, below_imported: bool = False) -> list[str]:
    """Imports what is not imported here yet; gives a sentence for each that fails.

    Args:
        names: Of submodules.
        below_imported: Only those of packages that are imported.
    """
    notes = []
    for name in names:
        wanted = not below_imported or name.partition(".")[0] in sys.modules
        if wanted and name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception as error:
                notes.append(f"`{name}` could not be imported ({type(error).__name__}: {error})")
    return notes


def _down(package: str, parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        package = f"{package}.{part}"
        if package not in sys.modules:
            return
        yield package


def _in_code(code: CodeType, namespace: Mapping[str, Any]) -> Iterator[str]:
    """A function's names stand in no order: each may be a part of each package among them."""
    words = set(code.co_names)
    packages = (value for word in words if _is_module(value := namespace.get(word)))
    todo = [package.__name__ for package in packages]
    for package in todo:
        below = [name for word in words if (name := f"{package}.{word}") in sys.modules]
        todo += below
        yield from below


def _is_module(value: Any) -> TypeGuard[ModuleType]:
    return isinstance(value, ModuleType) and hasattr(value, "__path__")
