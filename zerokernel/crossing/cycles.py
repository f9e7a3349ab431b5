"""Which containers are held by nobody but a table and each other."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any


def unreachable(strong: dict[int, Any], weak: Iterable[Any], alone: int) -> list[int]:
    """The tokens of what would be garbage if ``strong`` did not hold it.

    As Python's collector does: references from inside of the group are taken off the counts,
    and what has others left is held from outside, with all that it leads to.

    Args:
        strong: The table.
        weak: Objects that the table knows and does not hold; cycles lead through them.
        alone: `sys.getrefcount` of an object that only a dict holds.
    """
    group = {id(item): item for item in (*strong.values(), *weak)}
    for item in gc.get_referents(*group.values()):
        if type(item) is dict:  # of an instance, perhaps
            group.setdefault(id(item), item)
    item = None
    inside = Counter(map(id, gc.get_referents(*group.values())))
    inside.update(map(id, strong.values()))
    counts = zip(group, map(sys.getrefcount, group.values()), strict=True)
    level = [number for number, count in counts if count - inside[number] > alone]
    held = set(level)
    while level:
        below = gc.get_referents(*map(group.__getitem__, level))
        level = list((set(map(id, below)) & group.keys()) - held)
        held.update(level)
    return [token for token, item in strong.items() if id(item) not in held]
