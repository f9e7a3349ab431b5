"""Objects whose state is more than their references: changes of it are found by digest."""

from __future__ import annotations

import functools
import io
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xxhash

from zerokernel.crossing.parts import Plan
from zerokernel.crossing.pickling import CuttingPacker
from zerokernel.crossing.restorers import restorer_of


@dataclass(frozen=True)
class Digested:
    """The digest of one object, and the tokens of the known objects that it holds."""

    value: Any
    holds: frozenset[int]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digested) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def digest(item: Any, plan: Plan, make_packer: Callable[[io.BytesIO], CuttingPacker]) -> Digested:
    """Digests the shallow pickle of an object, known objects in it cut to their tokens.

    Where a restorer writes the object, what it takes out is digested instead. An object that
    cannot be pickled has a digest that equals no other, so it is "changed".
    """
    holds: set[int] = set()
    try:
        if plan.content == "getstate":
            values = item.__getstate__()
            if isinstance(values, dict):
                found = {key: _one(value, make_packer, holds) for key, value in values.items()}
                found[_CLASS] = _one(type(item), make_packer, holds)
                return Digested(found, frozenset(holds))
        restorer = restorer_of(item)
        if restorer is not None:
            state = (type(item), restorer.take(item))
            return Digested(_one(state, make_packer, holds), frozenset(holds))
        return Digested(_one(item, make_packer, holds, whole=True), frozenset(holds))
    except Exception:
        return Digested(object(), frozenset(holds))


def _one(
    value: Any,
    make_packer: Callable[[io.BytesIO], CuttingPacker],
    holds: set[int],
    whole: bool = False,
) -> Any:
    stream = io.BytesIO()
    packer = make_packer(stream)
    packer.spell_out(_VALUES)
    if whole:
        packer.dump_whole(value)
    else:
        packer.dump(value)
    holds.update(packer.met)
    made = xxhash.xxh3_128()
    made.update(stream.getbuffer())
    for view in packer.buffers:
        made.update(view)
    return made.intdigest()


_VALUES = frozenset({str, bytes, int, float, complex, tuple, frozenset})
"""Types that are digested by value: whether the other side knows such an object may change while
it does not. What an immutable container holds is cut as anywhere."""

_CLASS = object()
"""The key of the class among the digests of what ``__getstate__`` gives."""


def delta(
    item: Any, before: Digested | None, now: Digested
) -> tuple[type, dict[str, Any], list[str]]:
    """The class, the entries of ``__getstate__()`` that changed, and the names that went."""
    state = item.__getstate__()
    old = before.value if before is not None and isinstance(before.value, dict) else {}
    new = now.value if isinstance(now.value, dict) else {}
    changed = {key: state[key] for key in state if key not in old or old[key] != new.get(key)}
    gone = [key for key in old if key is not _CLASS and key not in state]
    return type(item), changed, gone


@functools.cache
def is_its_dict(kind: Any) -> bool:
    """Whether all that an object of a type has is its ``__dict__``, so that it can be swapped."""
    return bool(kind.__dictoffset__) and all(
        base is object
        or (
            base.__flags__ & _HEAP
            and not any(isinstance(v, types.MemberDescriptorType) for v in vars(base).values())
        )
        for base in kind.__mro__
    )


_HEAP = 1 << 9
