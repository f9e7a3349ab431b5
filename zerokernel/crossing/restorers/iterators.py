"""Iterators: the position of one in the notebook is moved to where the worker's came."""

from __future__ import annotations

import collections
import gc
import itertools
import operator
from typing import Any

from zerokernel.crossing.adapters.iterators import reduced, set_state
from zerokernel.crossing.positions import place, position
from zerokernel.crossing.restorer import Restorer


def _iterator_state(item: Any) -> Any:
    """How far an iterator is, and how much is left: the other side's may be of another type."""
    return (position(item), _left(item))


def _left(item: Any) -> int:
    """How many items are left; iterators of an OrderedDict do not tell, but list them."""
    if type(item).__name__ == "odict_iterator":
        return len(item.__reduce__()[1][0])
    return operator.length_hint(item)


def _put_iterator(item: Any, state: Any) -> None:
    index, left = state
    if index is not None and "range" not in type(item).__name__ and hasattr(item, "__setstate__"):
        place(item, index)
    elif left:
        _skip(item, max(0, _left(item) - left))
    else:
        _skip(item, None)


def _put_count(item: Any, state: Any) -> None:
    now, *step = reduced(item)[1]
    _skip(item, max(0, int((state[0] - now) // (step[0] if step else 1))))


def _skip(item: Any, steps: int | None) -> None:
    collections.deque(itertools.islice(item, steps), maxlen=0)


def _third(item: Any) -> Any:
    """The state in a reduce value, None where there is none."""
    made = reduced(item)
    return made[2] if len(made) > len(("type", "arguments")) else None


def _set_state(item: Any, state: Any) -> None:
    if state is not None:
        set_state(item, state)


_SEQUENCES = ("list", "tuple", "str", "str_ascii", "bytes", "bytearray", "range", "longrange")
_NAMES = [
    *(f"builtins.{kind}_iterator" for kind in (*_SEQUENCES, "set")),
    *(f"builtins.dict_{part}iterator" for part in ("key", "value", "item")),
    *(f"builtins.dict_reverse{part}iterator" for part in ("key", "value", "item")),
    "builtins.list_reverseiterator",
    "builtins.odict_iterator",
    "array.arrayiterator",
]

RESTORERS: dict[str, Restorer] = {
    **dict.fromkeys(_NAMES, Restorer(_iterator_state, _put_iterator, gc.get_referents)),
    "itertools.count": Restorer(lambda c: reduced(c)[1], _put_count),
    "itertools.groupby": Restorer(_third, _set_state, gc.get_referents),
    "itertools._tee": Restorer(_third, _set_state, gc.get_referents),
}
