"""Modules of the user's own: which code of them is loaded, and what was set in them since.

Installed modules are alike in both processes and are left alone. Of the user's own, an
attribute that was set or changed in place after the module ran is one of the differences that
cross: `config.DEBUG = True` in a cell holds in the other process as well.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import is_
from types import CodeType, FunctionType, ModuleType
from typing import Any

from zerokernel.ambient import on_import
from zerokernel.ambient.origin import is_users
from zerokernel.ambient.setting import GONE

DEEP = 500
"""So many references below an attribute are looked at for changes in place."""

FIRST, ANEW, AGAIN = "first", "anew", "again"

Key = tuple[str, str, str]
"""Module, class in it ("" for the module itself) and attribute."""

_ATOMS = (int, float, complex, bool, str, bytes, type(None))


@dataclass
class _Loaded:
    """A module that ran: when, with which code, and what it holds since."""

    module: ModuleType
    code: CodeType | None
    ran: int
    how: str
    held: dict[Key, tuple[Any, list[Any]]] = field(default_factory=dict)
    touched: dict[Key, tuple[int, bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """A module ran: first, anew (it had been taken out of `sys.modules`) or again (a reload)."""

    code: CodeType | None
    how: str


@dataclass(frozen=True)
class Set:
    """An attribute was set, or its value changed ``in_place``."""

    value: Any
    in_place: bool


class LocalModules:
    """Watches the user's own modules of this process.

    The mutable state: a clock that counts looks, the modules and what is known of each, and
    what is to be set in modules that are not imported here yet.
    """

    def __init__(self) -> None:
        self.clock = 1
        self._loaded: dict[str, _Loaded] = {}
        self._gone: dict[str, int] = {}
        self._waiting: dict[str, dict[Key, Set]] = {}

    def start(self) -> None:
        """Watches from now on. Of what is imported already, plain values count as set."""
        for name, module in list(sys.modules.items()):
            if isinstance(module, ModuleType) and is_users(name, getattr(module, "__file__", None)):
                loaded = self._note(module, _code_of(module), FIRST)
                atoms = [key for key, (value, _) in loaded.held.items() if type(value) in _ATOMS]
                loaded.touched = dict.fromkeys(atoms, (self.clock, False))
        on_import.watch(self._on_run)

    def _on_run(self, module: ModuleType, code: CodeType) -> None:
        name = module.__name__
        known = self._loaded.get(name)
        self.clock += 1
        if known is not None:
            how = AGAIN if known.module is module else ANEW
        else:
            how = ANEW if name in self._gone else FIRST
        self._note(module, code, how)
        self._apply_sets(name, self._waiting.pop(name, {}), in_place=False)

    def _note(self, module: ModuleType, code: CodeType | None, how: str) -> _Loaded:
        name = module.__name__
        loaded = _Loaded(module, code, self.clock, how)
        loaded.held = {key: (value, _below(value)) for key, value in _attributes(module)}
        self._loaded[name] = loaded
        self._gone.pop(name, None)
        return loaded

    def look(self) -> int:
        """Finds what was set since the last look; gives the time of this one."""
        self.clock += 1
        for name, loaded in list(self._loaded.items()):
            if sys.modules.get(name) is not loaded.module:
                del self._loaded[name]
                self._gone[name] = self.clock
                continue
            now = dict(_attributes(loaded.module))
            held = loaded.held
            for key in held.keys() - now.keys():
                del held[key]
                loaded.touched[key] = (self.clock, False)
            for key, value in now.items():
                before = held.get(key)
                below = _below(value)
                if before is None or before[0] is not value:
                    loaded.touched[key] = (self.clock, False)
                elif len(before[1]) != len(below) or not all(map(is_, before[1], below)):
                    loaded.touched[key] = (self.clock, True)
                else:
                    continue
                held[key] = (value, below)
        return self.clock

    def changes(self, since: int, *, whole: bool) -> dict[str, Any]:
        """What happened after ``since``: labels with what `apply` takes.

        Args:
            since: A time that `look` gave, 0 for what differs from the modules' own code.
            whole: The other side is new: it needs the code of modules whose files changed.
        """
        found: dict[str, Any] = {}
        if not whole:
            found |= {
                f"module {name}": (name, GONE) for name, at in self._gone.items() if at > since
            }
        for name, loaded in self._loaded.items():
            if loaded.ran > since and (not whole or loaded.code != _code_of(loaded.module)):
                found[f"module {name}"] = (name, Ran(loaded.code, FIRST if whole else loaded.how))
            for key, (at, in_place) in loaded.touched.items():
                if at > since:
                    value = loaded.held[key][0] if key in loaded.held else GONE
                    label = ".".join(part for part in key if part)
                    found[label] = (key, Set(value, in_place))
        return found

    def apply(self, changes: dict[str, Any], *, in_place: bool) -> list[str]:
        """Does here what happened in the other process.

        Args:
            changes: Of the other side's `changes`.
            in_place: Whether what changed in place there is written into the object here,
                to which other names may refer, or is bound instead.

        Returns:
            One sentence for each change that could not be made.
        """
        notes: list[str] = []
        sets: dict[str, dict[Key, Set]] = {}
        for key, change in changes.values():
            if isinstance(key, str):
                notes += self._run(key, change)
            else:
                sets.setdefault(key[0], {})[key] = change
        for name, some in sets.items():
            notes += self._apply_sets(name, some, in_place=in_place)
        return notes

    def _run(self, name: str, change: Any) -> list[str]:
        present = sys.modules.get(name)
        if change is not GONE and change.how == FIRST and present is not None:
            return []  # imported here before, or for the objects that came
        self._waiting.pop(name, None)
        on_import.use_code(name, None if change is GONE else change.code)
        if present is None:
            return []
        if change is GONE or change.how != AGAIN:
            del sys.modules[name]  # the next import runs it, as in the other process
            self._loaded.pop(name, None)
            return []
        try:
            exec(change.code, vars(present))
        except Exception as error:
            return [f"module {name} could not be reloaded ({type(error).__name__}: {error})"]
        self._note(present, change.code, AGAIN)
        return []

    def _apply_sets(self, name: str, sets: dict[Key, Set], *, in_place: bool) -> list[str]:
        if name not in self._loaded:
            self._waiting.setdefault(name, {}).update(sets)
            return []
        notes = []
        for key, change in sets.items():
            try:
                self._set(key, change, in_place)
            except Exception as error:
                notes.append(f"{'.'.join(filter(None, key))} could not be set ({error})")
        return notes

    def _set(self, key: Key, change: Set, in_place: bool) -> None:
        module, kind, attribute = key
        owner: Any = sys.modules[module]
        owner = getattr(owner, kind) if kind else owner
        if change.value is GONE:
            delattr(owner, attribute)
            return
        old = vars(owner).get(attribute, GONE)
        if old is change.value:
            return
        if change.in_place and in_place and _overwrite(old, change.value):
            return
        setattr(owner, attribute, change.value)
        if change.in_place and old is not GONE and type(old) not in _ATOMS:
            self._replace(old, change.value)

    def _replace(self, old: Any, new: Any) -> None:
        """What other modules of the user's took over from there with `from … import …`."""
        for loaded in self._loaded.values():
            for (_, kind, attribute), (value, _) in loaded.held.items():
                if value is old:
                    owner = getattr(loaded.module, kind) if kind else loaded.module
                    setattr(owner, attribute, new)


def _attributes(module: ModuleType) -> Iterator[tuple[Key, Any]]:
    """What a module and its own classes hold, without what its code defines as code."""
    name = module.__name__
    classes = []
    for attribute, value in list(vars(module).items()):
        if attribute.startswith("__") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type) and value.__module__ == name:
            classes.append((attribute, value))
        yield (name, "", attribute), value
    for kind, owner in classes:
        for attribute, value in list(vars(owner).items()):
            if not attribute.startswith("_") and not _is_code(value):
                yield (name, kind, attribute), value


def _is_code(value: Any) -> bool:
    return isinstance(value, FunctionType | property | classmethod | staticmethod)


def _below(value: Any) -> list[Any]:
    """References below a container or an instance of one's own class, in a fixed order."""
    if type(value) in _ATOMS or isinstance(value, type | FunctionType):
        return []
    found: list[Any] = []
    todo, seen = [value], {id(value)}
    while todo and len(found) < DEEP:
        inside = _inside(todo.pop())
        found += inside
        for item in inside:
            if type(item) not in _ATOMS and id(item) not in seen:
                seen.add(id(item))
                todo.append(item)
    return found[:DEEP]


def _inside(item: Any) -> list[Any]:
    kind = type(item)
    if kind is dict:
        return list(chain.from_iterable(item.items()))
    if kind in (list, tuple, set, frozenset, deque):
        return list(item)
    source = sys.modules.get(kind.__module__)
    attributes = getattr(item, "__dict__", None)
    if type(attributes) is dict and is_users(kind.__module__, getattr(source, "__file__", None)):
        return list(chain.from_iterable(attributes.items()))
    return []


def _overwrite(old: Any, new: Any) -> bool:
    """Writes one object's content into another of its type, where that is known to be all."""
    if type(old) is not type(new):
        return False
    if type(old) is list:
        old[:] = new
    elif type(old) in (dict, set):
        old.clear()
        old.update(new)
    elif type(old) is deque and old.maxlen == new.maxlen:
        old.clear()
        old.extend(new)
    elif type(getattr(old, "__dict__", None)) is dict and not hasattr(type(old), "__slots__"):
        vars(old).clear()
        vars(old).update(vars(new))
    else:
        return False
    return True


def _code_of(module: ModuleType) -> CodeType | None:
    """The code that an import would run now."""
    get_code = getattr(getattr(module, "__loader__", None), "get_code", None)
    try:
        code: CodeType | None = get_code(module.__name__) if get_code is not None else None
    except Exception:  # the file is gone, or is being edited
        return None
    return code
