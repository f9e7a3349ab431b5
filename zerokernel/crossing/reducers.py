"""How objects of single types of the standard library are pickled.

Each takes the pickler, which none of them needs, and the object, and gives what ``__reduce__``
may give, or NotImplemented.
"""

from __future__ import annotations

import copyreg
import dataclasses
import gc
import importlib
import marshal
import sys
import types
from typing import Any

from zerokernel.crossing import classes, functions, generators
from zerokernel.crossing.stand_ins import set_methods

Reduced = Any


def attribute(module: str, name: str) -> Any:
    """What a module has under a name on this side: torch's function, or the emulation's for it."""
    return getattr(importlib.import_module(module), name)


def reduce_code(_: object, obj: types.CodeType) -> Reduced:
    """Code as Python itself stores it."""
    return (marshal.loads, (marshal.dumps(obj),))


def reduce_cell(_: object, obj: types.CellType) -> Reduced:
    """A closure's variable, made before what it holds, which may refer to it."""
    contents = (functions.cell_contents(obj),)
    return (functions.make_cell, (), contents, None, None, functions.fill_cell)


def reduce_cached(_: object, obj: Any) -> Reduced:
    """A function with `functools.lru_cache`, whose cache stays here."""
    return (functions.make_cached, functions.cached_recipe(obj))


def reduce_sentinel(_: object, obj: Any) -> Reduced:
    """What a module tests by identity (``dataclasses.MISSING``) stays that object."""
    module = vars(sys.modules[type(obj).__module__])
    return next((name for name, value in module.items() if value is obj), NotImplemented)


def reduce_proxy(_: object, obj: types.MappingProxyType[Any, Any]) -> Reduced:
    """A read-only view of a dict, over that dict."""
    for name, value in vars(dataclasses).items():
        if value is obj:
            return (getattr, (dataclasses, name))
    (mapping,) = gc.get_referents(obj)
    return (types.MappingProxyType, (mapping,))


def reduce_methods(_: object, obj: classes.Methods) -> Reduced:
    """Methods of a class that the other side has, written into it."""
    return (set_methods, (obj.kind, obj.found))


def reduce_instance(_: object, obj: Any) -> Reduced:
    """An instance of a class with a ``__new__`` of its own, which is not called again."""
    made: Any = obj.__reduce_ex__(4)
    return (classes.make_instance, (type(obj),), *made[2:])


def reduce_answering(_: object, obj: Any) -> Reduced:
    """An instance that answers for attributes that it has not, as soon as it has its own."""
    made: Any = object.__reduce_ex__(obj, 4)
    return (classes.make_instance, (type(obj),), made[2], *made[3:5], classes.set_state)


def reduce_module(_: object, obj: types.ModuleType) -> Reduced:
    """A module of a type of its own, such as the notebook's or one that imports lazily."""
    if sys.modules.get(obj.__name__) is not obj:
        return NotImplemented
    return (importlib.import_module, (obj.__name__,))


GENERATORS = {
    ("random", "Random"): ("random", "_inst"),
    ("numpy.random.mtrand", "RandomState"): ("numpy.random.mtrand", "_rand"),
}
"""Types of random generators, and where the one is that a library uses itself."""

TORCH_GENERATORS = frozenset(
    {("torch._C", "Generator"), ("zerokernel.emulation.generators", "EmulatedGenerator")}
)


def reduce_generator(_: object, obj: Any) -> Reduced:
    """A library's own generator by name; its state crosses with what is around the names."""
    module, name = GENERATORS[type(obj).__module__, type(obj).__qualname__]
    if getattr(sys.modules[module], name, None) is obj:
        return (getattr, (sys.modules[module], name))
    return NotImplemented


def reduce_torch_generator(_: object, obj: Any) -> Reduced:
    """The same for those of torch, which are on the CPU or on a device."""
    return generators.reduce(obj)


def reduce_counter(_: object, obj: Any) -> Reduced:
    """Its own way makes a dict of it first, which cannot hold the counter itself."""
    state = vars(obj) or None
    return (copyreg.__newobj__, (type(obj),), state, None, iter(dict.items(obj)))  # type: ignore[attr-defined]  # part of pickle's protocol
