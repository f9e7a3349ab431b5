"""How objects travel that pickle refuses, or that it would copy wrongly.

Each type is decided here: it is made again on the other side (a file by its path and position),
or refused with what to do about it.
"""

from __future__ import annotations

import functools
from typing import Any

from zerokernel.crossing.adapters import (
    archives,
    databases,
    files,
    foreign,
    frameworks,
    iterators,
    libraries,
    plain,
    streams,
    type_parameters,
    weak,
    widgets,
)
from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.restorer import Restorer
from zerokernel.errors import CannotTravel

__all__ = ["RESTORERS", "Adapter", "adapter_for", "refusal"]

_ADAPTERS: dict[str, Adapter] = {
    **plain.ADAPTERS,
    **type_parameters.ADAPTERS,
    **weak.ADAPTERS,
    **files.ADAPTERS,
    **iterators.ADAPTERS,
    **streams.ADAPTERS,
    **archives.ADAPTERS,
    **databases.ADAPTERS,
    **libraries.ADAPTERS,
    **foreign.ADAPTERS,
    **frameworks.ADAPTERS,
    **widgets.ADAPTERS,
}
"""By module and qualified name, so that no library is imported for it."""

RESTORERS: dict[str, Restorer] = {
    **files.RESTORERS,
    **archives.RESTORERS,
    **databases.RESTORERS,
    **libraries.RESTORERS,
    **foreign.RESTORERS,
    **widgets.RESTORERS,
}
"""How what they have is put into their counterpart."""


@functools.cache
def adapter_for(kind: type) -> Adapter | None:
    """The adapter of a type: its own, or that of a base whose subclasses travel alike."""
    if libraries.is_parametrized(kind):
        return libraries.PARAMETRIZED
    if libraries.is_optimizer(kind):
        return libraries.OPTIMIZER
    for base in kind.__mro__:
        found = _ADAPTERS.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None and (base is kind or found.subclasses):
            return found
    return None


def refusal(item: Any) -> str | None:
    """Why an adapted object cannot travel as it is now; None where it can or has no adapter."""
    kind: Any = type(item)
    adapter = adapter_for(kind)
    if adapter is None:
        return None
    try:
        adapter.reduce(item, False)
    except CannotTravel as error:
        return str(error)
    except Exception:  # the pickler meets it again, and tells it
        return None
    return None
