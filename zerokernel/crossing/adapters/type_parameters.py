"""Type variables and aliases of the notebook: those of a module go by name, these by value."""

from __future__ import annotations

import gc
import keyword
import sys
import types
import typing
from typing import Any

from cloudpickle.cloudpickle import _lookup_module_and_qualname

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import ATOM
from zerokernel.errors import CannotTravel

_IN_C = sys.version_info >= (3, 12)
_VALUE = "__zerokernel_value__"
_VARIANCE = ("covariant", "contravariant", "infer_variance")


def _by_name(item: Any) -> Any:
    found = _lookup_module_and_qualname(item, name=item.__name__)
    return None if found is None else (getattr, found)


def _parameter(item: Any, in_worker: bool) -> Any:
    """A TypeVar, ParamSpec or TypeVarTuple."""
    if (named := _by_name(item)) is not None:
        return named
    if not _IN_C:
        return (make_with_attributes, (type(item), dict(vars(item))))
    arguments = (item.__name__, *getattr(item, "__constraints__", ()))
    return (make, (type(item), item.__module__, arguments, _settings(item)))


def _settings(item: Any) -> dict[str, Any]:
    """What a parameter was made with beside its name, as far as its kind has it."""
    chosen = {name: True for name in _VARIANCE if getattr(item, f"__{name}__", False)}
    if (bound := _evaluated(item, "__bound__")) is not None:
        chosen["bound"] = bound
    if hasattr(item, "has_default") and item.has_default():
        chosen["default"] = _evaluated(item, "__default__")
    return chosen


def _evaluated(item: Any, name: str) -> Any:
    """What is evaluated when it is first asked for, which may be too early now."""
    try:
        return getattr(item, name, None)
    except Exception as error:
        raise CannotTravel(
            f"has a {name} that cannot be evaluated yet ({type(error).__name__}: {error}); "
            "define what it names before the cell"
        ) from error


def make(kind: Any, module: str, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    """A parameter or an alias; it takes its module from who calls its type."""
    names = {"__name__": module, "kind": kind, "arguments": arguments, "settings": settings}
    return eval("kind(*arguments, **settings)", names)


def make_with_attributes(kind: Any, attributes: dict[str, Any]) -> Any:
    """A parameter as Python has them up to 3.11, where attributes are all that it has."""
    made = object.__new__(kind)
    vars(made).update(attributes)
    return made


def _alias(item: Any, in_worker: bool) -> Any:
    """What a ``type`` statement makes. One without parameters may be named in its own value."""
    if (named := _by_name(item)) is not None:
        return named
    name, value = item.__name__, _evaluated(item, "__value__")
    if not item.__type_params__ and name.isidentifier() and not keyword.iskeyword(name):
        return (make_alias, (name, item.__module__), value, None, None, set_value)
    if _names(value, item, set()):
        raise CannotTravel(
            "is an alias with parameters that is named in its own value; define it in the cell"
        )
    settings = {"type_params": item.__type_params__}
    return (make, (type(item), item.__module__, (name, value), settings))


def make_alias(name: str, module: str) -> Any:
    """An alias that has no value yet."""
    names: dict[str, Any] = {"__name__": module}
    exec(f"type {name} = {_VALUE}", names)
    return names[name]


def set_value(alias: Any, value: Any) -> None:
    """Puts the value where an alias of `make_alias` looks for it when it is asked."""
    found = [f for f in gc.get_referents(alias) if isinstance(f, types.FunctionType)]
    found[0].__globals__[_VALUE] = value


def _names(value: Any, alias: Any, seen: set[int]) -> bool:
    """Whether an alias is somewhere in a type."""
    if value is alias:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    parts = [*getattr(value, "__args__", ()), getattr(value, "__origin__", None)]
    return any(_names(part, alias, seen) for part in parts)


def _part(name: str) -> Adapter:
    """The ``args`` or ``kwargs`` of a ParamSpec."""

    def reduce(item: Any, in_worker: bool) -> Any:
        return (getattr, (item.__origin__, name))

    return Adapter(reduce, plan=ATOM)


_PARAMETER = Adapter(_parameter, plan=ATOM)
_KINDS = {
    "TypeVar": _PARAMETER,
    "ParamSpec": _PARAMETER,
    "TypeVarTuple": _PARAMETER,
    "TypeAliasType": Adapter(_alias, plan=ATOM),
    "ParamSpecArgs": _part("args"),
    "ParamSpecKwargs": _part("kwargs"),
}
ADAPTERS: dict[str, Adapter] = {f"{typing.__name__}.{name}": one for name, one in _KINDS.items()}
