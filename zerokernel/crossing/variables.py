"""Context variables: one on each side for each that crosses, for as long as the processes live.

Their values cross with the state around the names.
"""

from __future__ import annotations

import importlib
import sys
import uuid
from contextvars import Context, ContextVar
from typing import Any

# The mutable state: what was met, by identity (they cannot be referred to weakly) and by name.
_recipes: dict[int, tuple[ContextVar[Any], tuple[Any, ...]]] = {}
_made: dict[str, ContextVar[Any]] = {}


def reduce_variable(_packer: Any, variable: ContextVar[Any]) -> Any:
    """A module's variable by its name there, any other by a name that both sides know."""
    known = _recipes.get(id(variable))
    if known is None:
        known = _recipes[id(variable)] = (variable, _recipe(variable))
    return known[1]


def _recipe(variable: ContextVar[Any]) -> tuple[Any, ...]:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable and module.__name__ != "__main__":
                return (_of_module, (name, attribute))
    identity = uuid.uuid4().hex
    _made[identity] = variable
    return (_make, (identity, variable.name, *_default(variable)))


def _default(variable: ContextVar[Any]) -> tuple[Any, ...]:
    try:
        return (Context().run(variable.get),)
    except LookupError:
        return ()


def _of_module(module: str, attribute: str) -> Any:
    return getattr(importlib.import_module(module), attribute)


def _make(identity: str, name: str, *default: Any) -> ContextVar[Any]:
    variable = _made.get(identity)
    if variable is None:
        variable = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _made[identity] = variable
        _recipes[id(variable)] = (variable, (_make, (identity, name, *default)))
    return variable
