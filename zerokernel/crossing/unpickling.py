"""The unpickler of both sides."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

from zerokernel.crossing import (
    arrays,
    classes,
    functions,
    mappings,
    placement,
    stand_ins,
    tensors,
)


class Receiver:
    """What a payload calls on the receiving side: nobody's object, and it has no state."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        """Does it."""
        return self._call(*arguments)


class Unpacker(pickle.Unpickler):
    """Loads what a `Packer` wrote."""

    def __init__(
        self,
        stream: io.BytesIO,
        namespace: dict[str, Any],
        owners: Any,
        held: Callable[[int], Any],
        in_worker: bool,
    ) -> None:
        super().__init__(stream)
        self._held = held
        # Nothing in here may refer to this object: a cycle would keep its memo, and with it
        # everything that was loaded, until the collector runs.
        bound: dict[str, Callable[..., Any]] = {
            "make_function": functools.partial(functions.make_function, namespace),
            # In the worker, so that a `__setstate__` that runs while loading finds its imports.
            "finish_function": functools.partial(functions.finish_function, bind=in_worker),
            "finish_foreign_function": functools.partial(functions.finish_function, bind=True),
            # The notebook's own class is the notebook's: nothing is written while staging.
            **_class_makers(rewrite=in_worker),
            "take": owners.__getitem__,
            "placed": lambda place, make, *recipe: placement.put(
                make(*recipe), place, in_worker=in_worker
            ),
            "take_storage": lambda index: tensors.storage_of_file(owners[index]),
            "take_mapping": lambda index, position: mappings.made(owners[index], position),
            "put_pieces": lambda item, pieces: mappings.put(item, pieces, owners),
            "take_array": lambda index, *dress: arrays.dress(owners[index], *dress),
            "take_subclass": lambda index, dtype, writeable, shape, order, kind: arrays.make_small(
                owners[index], dtype, shape, order, writeable, kind
            ),
        }
        self._bound = {name: Receiver(call) for name, call in bound.items()}

    def persistent_load(self, token: int) -> Any:
        """The object that a token names."""
        return self._held(token)

    def find_class(self, module: str, name: str) -> Any:
        """Binds the stand-ins to this side's namespace and buffers."""
        if module == stand_ins.__name__:
            return self._bound[name]
        return super().find_class(module, name)


def _class_makers(*, rewrite: bool) -> dict[str, Callable[..., Any]]:
    found: set[type] = set()

    def make(*recipe: Any) -> type:
        made, was_here = classes.make(*recipe)
        if was_here:
            found.add(made)
        return made

    def fill(kind: type, contents: Any) -> None:
        if rewrite or kind not in found:
            classes.fill(kind, contents)

    def set_methods(kind: type, methods: dict[str, Any]) -> object:
        if rewrite or kind not in found:
            classes.set_methods(kind, methods)
        return object()

    return {"make_class": make, "fill_class": fill, "set_methods": set_methods}
