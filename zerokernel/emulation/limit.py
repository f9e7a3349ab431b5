"""The memory that an emulated device has to give. Importing this imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable


class _Limit:
    """The mutable state: bytes of each device; beyond them it is out of memory.

    Without a limit, as in a notebook, a device has what the machine has.

    Attributes:
        when_set: Called after a change.
    """

    memory: float = math.inf
    when_set: Callable[[], None] | None = None

    def set(self, memory: float) -> None:
        """Sets the limit of each device, in bytes."""
        self.memory = memory
        if self.when_set is not None:
            self.when_set()


limit = _Limit()
