"""How the state of an opaque object is put into its counterpart, which stays the same object."""

from __future__ import annotations

import functools
from typing import Any

from zerokernel.crossing.restorers import iterators, libraries, standard
from zerokernel.crossing.restorers.restorer import Restorer

__all__ = ["Restorer", "restorer_for", "restorer_of"]

_RESTORERS: dict[str, Restorer] = {
    **iterators.RESTORERS,
    **standard.RESTORERS,
    **libraries.RESTORERS,
}
"""By module and qualified name, so that no library is imported for it."""


def restorer_of(item: Any) -> Restorer | None:
    """The restorer of an object's type; None where the object can only be replaced."""
    kind: Any = type(item)
    return restorer_for(kind)


@functools.cache
def restorer_for(kind: type) -> Restorer | None:
    """The restorer of a type: its own, or that of a base."""
    for base in kind.__mro__:
        found = _RESTORERS.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
    return None
