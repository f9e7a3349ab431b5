"""Notebook functions: rebuilt over the receiving side's namespace instead of a copy of it."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

from zerokernel.crossing.parts import Missing


def lives_in(function: types.FunctionType, namespace: dict[str, Any]) -> bool:
    """Whether a function's globals are the session's namespace."""
    return function.__globals__ is namespace


def global_names(code: types.CodeType) -> set[str]:
    """The names that a code object, and the code nested in it, may look up as globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return names


def recipe(function: types.FunctionType) -> tuple[Any, ...]:
    """What must be there before the function can be: code, name and (empty) cells."""
    return (function.__code__, function.__name__, function.__closure__)


def make_function(namespace: dict[str, Any], code: Any, name: str, closure: Any) -> Any:
    """An unfinished function over the receiver's namespace."""
    return types.FunctionType(code, namespace, name, None, closure)


def finish_state(function: types.FunctionType) -> tuple[Any, ...]:
    """All that is set once the function exists, so that recursive closures can refer to it."""
    cells = tuple((cell, cell_contents(cell)) for cell in function.__closure__ or ())
    return (
        cells,
        function.__defaults__,
        function.__kwdefaults__,
        function.__dict__,
        function.__annotations__,
        function.__qualname__,
        function.__module__,
        function.__doc__,
    )


def finish_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Fills the cells and sets the attributes."""
    cells, defaults, kwdefaults, attributes, annotations, qualname, module, doc = state
    for cell, contents in cells:
        if contents is not Missing:
            cell.cell_contents = contents
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
    """A cell that is still empty."""
    return types.CellType()


def fill_cell(cell: types.CellType, contents: Any) -> None:
    """Fills a cell that was met outside a function."""
    if contents is not Missing:
        cell.cell_contents = contents


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


def make_exception(kind: Any, args: tuple[Any, ...]) -> BaseException:
    """An exception by its ``args``, past an ``__init__`` that may want other arguments."""
    made: BaseException = kind.__new__(kind, *args)
    builtin = next(base for base in kind.__mro__ if not base.__flags__ & (1 << 9))
    try:
        builtin.__init__(made, *args)
    except Exception:
        BaseException.__init__(made, *args)
    return made


def exception_recipe(item: BaseException) -> Iterator[Any]:
    """What pickle leaves out of an exception."""
    yield item.__cause__
    yield item.__context__
    yield item.__suppress_context__
    yield dict(item.__dict__)


def finish_exception(item: BaseException, state: tuple[Any, ...]) -> None:
    """Sets cause, context and attributes of a new exception."""
    cause, context, suppress, attributes, custom = state
    if custom is not None and hasattr(item, "__setstate__"):
        item.__setstate__(custom)
    item.__dict__.update(attributes)
    item.__cause__ = cause
    item.__context__ = context
    item.__suppress_context__ = suppress
