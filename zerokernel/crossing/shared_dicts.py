"""Attributes that have more than one owner: instances with the same ``__dict__``, a kept `vars`.

pickle copies an instance's attributes into the dict that the instance has at the other side. So
a dict that something else refers to as well would be two there.
"""

from __future__ import annotations

import sys
from typing import Any

from zerokernel.crossing.kinds import attribute_getter


def set_dict(item: Any, attributes: dict[str, Any]) -> None:
    """Makes a dict the attributes of an instance, past any ``__setattr__``."""
    object.__setattr__(item, "__dict__", attributes)


class _Sample:
    def __init__(self) -> None:
        self.attribute = 0


def _baseline() -> int:
    sample = _Sample()
    kind: Any = type(sample)
    getter: Any = attribute_getter(kind)
    return sys.getrefcount(getter(sample))


ALONE = _baseline()
"""What `sys.getrefcount` says of an instance's ``__dict__`` that nothing else refers to."""
