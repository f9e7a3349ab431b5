"""Which containers are held by nobody but a table and each other."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import compress, repeat
from operator import is_, sub
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
    group = {id(item): item for item in filter(gc.is_tracked, (*strong.values(), *weak))}
    item: Any = None
    referents: Any = gc.get_referents(*group.values())
    for item in compress(referents, map(is_, map(type, referents), repeat(dict))):
        group.setdefault(id(item), item)  # of an instance, perhaps
    item = referents = None  # they would count as references
    inside = Counter(map(id, gc.get_referents(*group.values())))
    inside.update(map(id, filter(gc.is_tracked, strong.values())))
    outside = map(sub, map(sys.getrefcount, group.values()), map(inside.__getitem__, group))
    level = list(compress(group, map(alone.__lt__, outside)))
    held = set(level)
    while level:
        below = filter(gc.is_tracked, gc.get_referents(*map(group.__getitem__, level)))
        level = [number for number in dict.fromkeys(map(id, below)) if number in group]
        level = [number for number in level if number not in held]
        held.update(level)
    inner = filter(gc.is_tracked, strong.values())
    lost = set(map(id, inner)) - held
    return [token for token, item in strong.items() if id(item) in lost] if lost else []
