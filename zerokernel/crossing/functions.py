"""Notebook functions: rebuilt over the receiving side's namespace instead of a copy of it."""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import types
from typing import Any

from cloudpickle.cloudpickle import _should_pickle_by_reference

from zerokernel.crossing.parts import Missing


def lives_in(function: types.FunctionType, namespace: dict[str, Any]) -> bool:
    """Whether a function's globals are the session's namespace."""
    return function.__globals__ is namespace


def is_importable(function: types.FunctionType) -> bool:
    """Whether a function is found under its name in a module of the other side."""
    return bool(_should_pickle_by_reference(function))


@functools.lru_cache(4096)
def global_names(code: types.CodeType) -> frozenset[str]:
    """The names that a code object, and the code nested in it, may look up as globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return frozenset(names)


class World:
    """Stands for globals that are neither the notebook's nor a module's, while they travel.

    Only what the functions that travel look up in them travels with them.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = {key: names[key] for key in _IDENTITY if key in names}
        own = names.get("__builtins__")
        if isinstance(own, dict) and own is not vars(builtins):
            self.names["__builtins__"] = own


_IDENTITY = ("__name__", "__package__", "__file__", "__path__")


def make_world(names: dict[str, Any]) -> dict[str, Any]:
    """The globals that a `World` stands for."""
    return {"__builtins__": builtins, **names}


def module_of(function: types.FunctionType) -> str | None:
    """The name of the module whose dict are a function's globals; None where there is none."""
    names = function.__globals__
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return name if module is not None and vars(module) is names else None


def find_globals(namespace: dict[str, Any], world: Any) -> dict[str, Any]:
    """The receiver's globals for a function: of the notebook (None), of a module, or a dict."""
    if world is None:
        return namespace
    return vars(importlib.import_module(world)) if isinstance(world, str) else world


def travels_by_name(item: Any) -> bool:
    """Whether an object is so light that it may travel before the functions that look it up."""
    if isinstance(item, types.ModuleType):
        return sys.modules.get(item.__name__) is item
    if isinstance(item, type | types.FunctionType):
        return bool(_should_pickle_by_reference(item))
    return type(item) in (int, float, bool, str, type(None), types.BuiltinFunctionType)


def recipe(function: types.FunctionType, world: Any) -> tuple[Any, ...]:
    """What must be there before the function can be: code, name, cells and globals."""
    return (function.__code__, function.__name__, function.__closure__, world)


def make_function(namespace: dict[str, Any], code: Any, name: str, closure: Any, world: Any) -> Any:
    """An unfinished function over the receiver's globals."""
    return types.FunctionType(code, find_globals(namespace, world), name, None, closure)


def finish_state(function: types.FunctionType, looked_up: dict[str, Any]) -> tuple[Any, ...]:
    """All that is set once the function exists, so that recursive functions can be."""
    return (
        looked_up,
        function.__defaults__,
        function.__kwdefaults__,
        function.__dict__,
        function.__annotations__,
        function.__qualname__,
        function.__module__,
        function.__doc__,
    )


def finish_function(function: types.FunctionType, state: tuple[Any, ...], *, bind: bool) -> None:
    """Sets the attributes; with ``bind`` also the globals that came with the function."""
    looked_up, defaults, kwdefaults, attributes, annotations, qualname, module, doc = state
    if bind:
        function.__globals__.update(looked_up)
    function.__defaults__ = defaults
    function.__kwdefaults__ = kwdefaults
    function.__dict__ = attributes
    function.__annotations__ = annotations
    function.__qualname__ = qualname
    function.__module__ = module
    function.__doc__ = doc


def cell_contents(cell: types.CellType) -> Any:
    """What a cell holds, or the mark that it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return Missing


def make_cell() -> types.CellType:
    """A cell that is still empty: what it holds may refer to it."""
    return types.CellType()


def fill_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    """Fills a cell that `make_cell` made; pickle would leave out a None that is not wrapped."""
    if contents[0] is not Missing:
        cell.cell_contents = contents[0]


def is_cached(item: Any) -> bool:
    """Whether an object is a function under ``functools.lru_cache``."""
    return isinstance(item, functools._lru_cache_wrapper)


def cached_recipe(item: Any) -> tuple[Any, ...]:
    """Parameters of the cache and the function under it."""
    parameters = item.cache_parameters()
    return (parameters["maxsize"], parameters["typed"], item.__wrapped__)


def make_cached(maxsize: int | None, typed: bool, wrapped: Any) -> Any:
    """The same function under an empty cache."""
    return functools.lru_cache(maxsize, typed)(wrapped)
