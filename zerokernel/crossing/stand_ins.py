"""What a payload calls by name, and the receiving side does with its namespace and buffers."""

from __future__ import annotations

import types
from typing import Any


def make_function(*recipe: Any) -> Any:
    """Stands in the payload for `functions.make_function` with the receiver's namespace."""
    raise NotImplementedError("bound while unpickling")


def finish_function(function: Any, state: Any) -> None:
    """Stands in the payload for `functions.finish_function` of a notebook function."""
    raise NotImplementedError("bound while unpickling")


def finish_foreign_function(function: Any, state: Any) -> None:
    """Stands in the payload for `functions.finish_function` of any other function."""
    raise NotImplementedError("bound while unpickling")


def make_class(*recipe: Any) -> Any:
    """Stands in the payload for `classes.make`."""
    raise NotImplementedError("bound while unpickling")


def set_methods(kind: Any, methods: Any) -> None:
    """Stands in the payload for `classes.set_methods`."""
    raise NotImplementedError("bound while unpickling")


def fill_class(kind: Any, contents: Any) -> None:
    """Stands in the payload for `classes.fill`."""
    raise NotImplementedError("bound while unpickling")


def take(index: int) -> Any:
    """Stands in the payload for the owner of a buffer."""
    raise NotImplementedError("bound while unpickling")


def placed(place: Any, make: Any, *recipe: Any) -> Any:
    """Stands in the payload for a storage that is somewhere else than in host memory."""
    raise NotImplementedError("bound while unpickling")


def take_array(index: int, dtype: Any, writeable: bool) -> Any:
    """Stands in the payload for an array that owns a buffer."""
    raise NotImplementedError("bound while unpickling")


def take_storage(index: int) -> Any:
    """Stands in the payload for a storage that shows a file."""
    raise NotImplementedError("bound while unpickling")


def take_mapping(index: int, position: int) -> Any:
    """Stands in the payload for a mapped file."""
    raise NotImplementedError("bound while unpickling")


def put_pieces(item: Any, pieces: Any) -> None:
    """Stands in the payload for `mappings.put` with the shipment's buffers."""
    raise NotImplementedError("bound while unpickling")


def take_subclass(*recipe: Any) -> Any:
    """Stands in the payload for an array of a subclass that owns a buffer."""
    raise NotImplementedError("bound while unpickling")


# The other side knows each of these as a Receiver bound to one shipment's buffers: named by a
# token, it would hand out that shipment's buffers again.
IDS = frozenset(
    id(item)
    for item in tuple(globals().values())
    if isinstance(item, types.FunctionType) and item.__module__ == __name__
)
"""Their addresses."""
