"""Objects whose state is more than their references: found by digest, restored from a table."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import io
import itertools
import operator
import random
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xxhash

from zerokernel.crossing import frames
from zerokernel.crossing.parts import Plan
from zerokernel.crossing.pickling import CuttingPacker


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

    An object that cannot be pickled has a digest that equals no other, so it is "changed".
    """
    holds: set[int] = set()
    try:
        if plan.content == "getstate":
            values = item.__getstate__()
            if isinstance(values, dict):
                found = {key: _one(value, make_packer, holds) for key, value in values.items()}
                found[_CLASS] = _one(type(item), make_packer, holds)
                return Digested(found, frozenset(holds))
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


_CLASS = object()
"""The key of the class among the digests of what ``__getstate__`` gives."""


def delta(
    item: Any, before: Digested | None, now: Digested
) -> tuple[type, dict[str, Any], list[str]]:
    """The class, the attributes of ``__getstate__()`` that changed, and the names that went.

    What it adds to the attributes is for a ``__setstate__``, which is not called.
    """
    own = object.__getattribute__(item, "__dict__")
    state = {key: value for key, value in item.__getstate__().items() if key in own}
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


@dataclass(frozen=True)
class Restorer:
    """How the state of an object is taken out (picklable), and put into its counterpart."""

    take: Callable[[Any], Any]
    put: Callable[[Any, Any], None]


def restorer_of(item: Any) -> Restorer | None:
    """The restorer of an object's type; None where the object can only be replaced."""
    kind: Any = type(item)
    return restorer_for(kind)


@functools.cache
def restorer_for(kind: type) -> Restorer | None:
    """The restorer of a type."""
    for base in kind.__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        found = _RESTORERS.get(name)
        if found is not None:
            return found
    return None


def _buffer_state(item: Any) -> Any:
    return (item.getvalue(), item.tell())


def _put_bytesio(item: Any, state: Any) -> None:
    value, position = state
    item.seek(0)
    item.truncate()
    item.write(value)
    item.seek(position)


def _put_generator(item: Any, state: Any) -> None:
    item.bit_generator.state = state


def _frame_state(item: Any) -> Any:
    flags = {key: getattr(item.flags, key) for key in item.flags._keys}
    return (item._mgr, dict(item._attrs), flags, getattr(item, "_name", None))


def _put_frame(item: Any, state: Any) -> None:
    manager, attributes, flags, name = state
    object.__setattr__(item, "_mgr", manager)
    object.__setattr__(item, "_attrs", attributes)
    for key, value in flags.items():
        if getattr(item.flags, key) != value:
            setattr(item.flags, key, value)
    if hasattr(item, "_name"):
        object.__setattr__(item, "_name", name)


def _put_manager(item: Any, state: Any) -> None:
    item.axes, item.blocks = list(state[0]), state[1]
    for name, unknown in _MANAGER_CACHES.items():
        if hasattr(item, name):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(item, name, unknown)


_MANAGER_CACHES = {
    "_blknos": None,
    "_blklocs": None,
    "_known_consolidated": False,
    "_is_consolidated": False,
}


def _array_state(item: Any) -> Any:
    import numpy as np

    return (item.view(np.ndarray).copy(), dict(getattr(item, "__dict__", {})))


def _put_array(item: Any, state: Any) -> None:
    import numpy as np

    data, attributes = state
    live = item.view(np.ndarray)
    if live.shape != data.shape or live.dtype != data.dtype:
        np.ndarray.__setstate__(item, data.__reduce__()[2])
    else:
        np.copyto(live, data)
    if attributes:
        dict.update(item.__dict__, attributes)


def _iterator_state(item: Any) -> Any:
    """How far an iterator is, and how much is left: the other side's may be of another type."""
    made = item.__reduce__()
    return (made[2] if len(made) > len(("iter", "what")) else None, operator.length_hint(item))


def _put_iterator(item: Any, state: Any) -> None:
    index, left = state
    if index is not None and "range" not in type(item).__name__ and hasattr(item, "__setstate__"):
        item.__setstate__(index)
    elif left:
        _skip(item, operator.length_hint(item) - left)
    else:
        _skip(item, None)


def _put_count(item: Any, state: Any) -> None:
    now, *step = item.__reduce__()[1]
    _skip(item, max(0, int((state[0] - now) // (step[0] if step else 1))))


def _skip(item: Any, steps: int | None) -> None:
    collections.deque(itertools.islice(item, steps), maxlen=0)


_SEQUENCES = ("list", "tuple", "str", "str_ascii", "bytes", "bytearray", "range", "longrange")
_ITERATORS = [f"builtins.{kind}_iterator" for kind in (*_SEQUENCES, "set")]
_ITERATORS += [f"builtins.dict_{part}iterator" for part in ("key", "value", "item")]
_ITERATORS += ["builtins.list_reverseiterator"]

_MANAGER = Restorer(lambda m: (list(m.axes), m.blocks), _put_manager)
_BIT_GENERATOR = Restorer(lambda g: g.state, lambda g, state: setattr(g, "state", state))

_RESTORERS: dict[str, Restorer] = {
    f"{random.Random.__module__}.Random": Restorer(
        lambda r: (random.Random.getstate(r), dict(vars(r))),
        lambda r, state: random.Random.setstate(r, state[0]),
    ),
    "functools.partial": Restorer(
        lambda p: (p.func, p.args, p.keywords, vars(p) or None),
        lambda p, state: p.__setstate__(state),
    ),
    "_io.BytesIO": Restorer(_buffer_state, _put_bytesio),
    "_io.StringIO": Restorer(_buffer_state, _put_bytesio),
    "numpy.random._generator.Generator": Restorer(
        lambda g: copy.deepcopy(g.bit_generator.state), _put_generator
    ),
    "numpy.random.bit_generator.BitGenerator": _BIT_GENERATOR,
    "numpy.random.mtrand.RandomState": Restorer(
        lambda r: r.get_state(legacy=False), lambda r, state: r.set_state(state)
    ),
    "numpy.ndarray": Restorer(_array_state, _put_array),
    "torch._C.Generator": Restorer(lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    "pandas.core.frame.DataFrame": Restorer(_frame_state, _put_frame),
    "pandas.core.series.Series": Restorer(_frame_state, _put_frame),
    "pandas._libs.internals.BlockManager": _MANAGER,
    "pandas.core.internals.managers.BaseBlockManager": _MANAGER,
    "pandas._libs.internals.Block": Restorer(frames.block_state, frames.put_block),
    **dict.fromkeys(_ITERATORS, Restorer(_iterator_state, _put_iterator)),
    "itertools.count": Restorer(lambda c: c.__reduce__()[1], _put_count),
    "pandas.DataFrame": Restorer(_frame_state, _put_frame),
    "pandas.Series": Restorer(_frame_state, _put_frame),
}
