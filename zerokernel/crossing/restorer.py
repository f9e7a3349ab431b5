"""What a restorer is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Restorer:
    """How the state of an object is taken out (picklable), and put into its counterpart.

    An object has changed when the pickle of what ``take`` gives has. ``refers`` gives what the
    object refers to for good, which is not in it.
    """

    take: Callable[[Any], Any]
    put: Callable[[Any, Any], None]
    refers: Callable[[Any], Iterable[Any]] = lambda item: ()


def attributes_of(item: Any) -> dict[str, Any] | None:
    """What an instance of a subclass has beside its C state; None where it can have nothing."""
    if not type(item).__dictoffset__:
        return None
    found: dict[str, Any] = object.__getattribute__(item, "__dict__")
    return dict(found)


def put_attributes(item: Any, attributes: dict[str, Any] | None) -> None:
    """Makes these the attributes of the instance."""
    if attributes is None:
        return
    live: dict[str, Any] = object.__getattribute__(item, "__dict__")
    if live.keys() == attributes.keys() and all(live[k] is v for k, v in attributes.items()):
        return
    dict.clear(live)
    dict.update(live, attributes)
