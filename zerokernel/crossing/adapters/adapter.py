"""What an adapter is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zerokernel.crossing.parts import OPAQUE, Plan


@dataclass(frozen=True)
class Adapter:
    """How objects of one type travel.

    Attributes:
        reduce: Gives what ``__reduce_ex__`` would; told whether this is the worker. Raises
            CannotTravel for an object that cannot go as it is.
        plan: How changes are found; by default by the digest of what travels.
        subclasses: Whether it holds for subclasses as well.
    """

    reduce: Callable[[Any, bool], Any]
    plan: Plan = OPAQUE
    subclasses: bool = False
