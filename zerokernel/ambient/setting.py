"""What a piece of state around the names is: how it is read, compared and written."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any


class Missing(enum.Enum):
    """Stands for what is not there: an enumeration, so that it crosses as itself."""

    GONE = "gone"


GONE = Missing.GONE


@dataclass(frozen=True)
class Setting:
    """One piece of ambient state.

    Attributes:
        name: Unique; what notes call it.
        read: Gives its value, ``GONE`` where it does not apply now. The value must not change
            afterwards, whatever is set.
        write: Sets a value that ``read`` gave in the other process. Of a ``keyed`` setting
            it gets only the keys that differ, with ``GONE`` for those that went.
        module: Read and written only where this is imported; "" stands for always.
        keyed: The value is a dict that is compared key by key.
        followed: Keyed, and an object among its values may change in place.
        exact: Keyed, and what the notebook does not have the worker must not have either.
        live: The value holds objects of the notebook, and travels with those.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    module: str = ""
    keyed: bool = False
    followed: bool = False
    exact: bool = False
    live: bool = False


def difference(setting: Setting | None, old: Any, new: Any) -> Any:
    """What turns ``old`` into ``new``: the new value, or of a keyed one what differs; else GONE."""
    if setting is not None and setting.followed:
        return _followed(old, new) or GONE
    if old is new:
        return GONE
    if type(old) is dict and type(new) is dict and _same_objects(old, new):
        return GONE
    if setting is not None and setting.keyed and isinstance(old, dict):
        return _changed(old, new) or GONE
    return GONE if same(old, new) else new


def _changed(old: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    changed = {key: value for key, value in new.items() if not same(old.get(key, GONE), value)}
    return changed | dict.fromkeys(old.keys() - new.keys(), GONE)


def _followed(old: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    """What differs, and what holds objects: these go along, so that changes in them are seen."""
    followed = {key: value for key, value in new.items() if not _is_atom(value)}
    return followed if _same_objects(old, new) else followed | _changed(old, new)


_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})


def _is_atom(value: Any) -> bool:
    if type(value) is tuple:
        return _ATOMS.issuperset(map(type, value)) or all(map(_is_atom, value))
    return type(value) in _ATOMS or isinstance(value, tuple(_ATOMS))


def _same_objects(old: dict[Any, Any], new: dict[Any, Any]) -> bool:
    """Whether two dicts hold the same objects in the same order, which is quickly seen."""
    alike = len(old) == len(new) and all(map(is_, old.values(), new.values()))
    return alike and list(old) == list(new)


def same(old: Any, new: Any) -> bool:
    """Whether two values are equal and of one type; what cannot be compared is not."""
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    try:
        return bool(old == new)
    except Exception:  # arrays, or a class's own comparison
        return False


def attributes(module: str, *names: str) -> Iterator[Setting]:
    """Settings that are plain attributes of an imported module."""

    def setting(attribute: str) -> Setting:
        return Setting(
            f"{module}.{attribute}",
            lambda: getattr(sys.modules[module], attribute, GONE),
            lambda value: setattr(sys.modules[module], attribute, value),
            module,
        )

    return map(setting, names)


def pair(
    module: str, name: str, read: Callable[[Any], Any], write: Callable[[Any, Any], Any]
) -> Setting:
    """A setting of a library: both functions get the imported module first."""
    return Setting(
        f"{module}.{name}",
        lambda: read(sys.modules[module]),
        lambda value: write(sys.modules[module], value),
        module,
    )
