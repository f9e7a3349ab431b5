"""What goes over: the shipment, its stream of parts, and the changes in it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import compress, repeat
from operator import is_
from typing import Any

from zerokernel.crossing import contents, exchange, memo, opaque, order
from zerokernel.crossing.buffers import (
    CHUNK,
    byte_array,
    bytes_for,
    dirty_runs,
    size_of,
    write_pieces,
)
from zerokernel.crossing.contents import Labels
from zerokernel.crossing.device_memory import holding
from zerokernel.crossing.kinds import attribute_getter, plan_of
from zerokernel.crossing.parts import InstanceClass
from zerokernel.crossing.pickling import CuttingPacker, Packer
from zerokernel.crossing.restorers import restorer_of
from zerokernel.crossing.tokens import SPACE
from zerokernel.crossing.unpickling import Unpacker

NAMES, EXTRA, CHANGES, END, ARRAYS = "names", "extra", "changes", "end", "arrays"


@dataclass(frozen=True)
class Shipment:
    """One crossing in one direction.

    ``payload`` is everything but the large buffers; ``buffers`` are read-only views of live
    memory ("B" format) that keep their owners alive; ``specs`` say how the receiver allocates
    each. ``absent`` maps captured names that cannot travel to a message with the path and the
    remedy. ``object_count`` and ``byte_count`` are figures for the receipt.
    """

    payload: bytes
    buffers: tuple[memoryview, ...]
    specs: tuple[Any, ...]
    absent: dict[str, str]
    object_count: int
    byte_count: int


Change = tuple[int, str, Any]
"""Token, form and state: "parts", "buffer", "restore", "exchange", "adopt", "replace", "delta"."""


@dataclass
class Draft:
    """A shipment being written."""

    stream: io.BytesIO
    packer: Packer
    sent: set[int] = field(default_factory=set)
    replaced: list[int] = field(default_factory=list)
    envelopes: list[Any] = field(default_factory=list)
    head: int = 0
    late_header: Any = None  # known at the end; it takes the place of the first ``head`` bytes

    def put(self, kind: str, value: Any) -> None:
        """Appends a part."""
        self.envelopes.append(value)
        self.packer.dump((kind, value))

    def put_names(self, values: dict[str, Any]) -> None:
        """Appends names; arrays come before the tensors that may show their memory."""
        if any(type(value).__module__ == "torch" for value in values.values()):
            self.put(ARRAYS, [v for v in values.values() if type(v).__name__ == "ndarray"])
        self.put(NAMES, values)

    def put_whole(
        self, token: int, form: str, item: Any, names: tuple[str, ...] | None = None
    ) -> None:
        """Appends a known object by value, maybe with the names of its attributes."""
        assert isinstance(self.packer, CuttingPacker)
        self.packer.send_whole(item)
        self.packer.dump((CHANGES, [(token, form, item if names is None else (item, names))]))

    def numbered(self, number: int) -> tuple[list[int], list[Any]]:
        """The tokens and the objects that this shipment numbered; can be asked once."""
        # In the order in which they were met, so that each later pass finds them side by side.
        objects = memo.objects(self.packer)
        self.packer.clear_memo()
        base = number * SPACE
        return list(range(base, base + len(objects))), objects

    def labels(self, number: int) -> dict[int, Labels]:
        """The labels of the buffers that this shipment numbered, by token."""
        base, labels = number * SPACE, self.packer.labels
        places = memo.places(self.packer, labels.keys())
        return {base + place: labels[owner] for owner, place in places.items()}

    def shared_dicts(self, number: int) -> set[int]:
        """The tokens of attributes that went as the very dict, and are known as such."""
        base, shared = number * SPACE, self.packer.shared_dicts
        return {base + place for place in memo.places(self.packer, shared).values()}

    def finish(self, absent: dict[str, str]) -> Shipment:
        """The shipment."""
        payload = self.stream.getvalue()
        if self.late_header is not None:
            payload = pickle.dumps(self.late_header, 5) + payload[self.head :]
        views = tuple(self.packer.buffers)
        total = len(payload) + sum(view.nbytes for view in views)
        specs = tuple(self.packer.specs)
        return Shipment(payload, views, specs, absent, memo.count(self.packer), total)


def parts_of(
    payload: bytes, unpacker_of: Any
) -> tuple[dict[str, Any], Iterator[tuple[str, Any]], Unpacker]:
    """Header, parts (an iterator that loads one by one) and the unpickler that has the memo."""
    stream = io.BytesIO(payload)
    header: dict[str, Any] = pickle.load(stream)
    unpacker: Unpacker = unpacker_of(stream)
    return header, _parts(unpacker), unpacker


def _parts(unpacker: Unpacker) -> Iterator[tuple[str, Any]]:
    while True:
        kind, value = unpacker.load()
        yield kind, value
        if kind == END:
            return


def numbered(unpacker: Unpacker, number: int) -> tuple[list[int], list[Any]]:
    """The tokens and objects of a shipment that was loaded."""
    memo = unpacker.memo.copy()
    base = number * SPACE
    return list(map(base.__add__, memo)), list(memo.values())


def write_changes(
    draft: Draft,
    tokens: Iterable[int],
    table: Any,
    before: dict[int, Any],
    now: dict[int, Labels],
    known: dict[int, Labels],
    digest: Any,
    tell: bool,
) -> None:
    """Appends the present state of known objects.

    Args:
        draft: The shipment.
        tokens: Which objects.
        table: Gives the object of a token.
        before: Digests of opaque objects at the last snapshot.
        now: Present labels of buffers.
        known: Labels of the buffers as the other side holds them.
        digest: Digests an opaque object.
        tell: Whether the other side is told the hashes of the bytes that it gets.
    """
    batch: list[Change] = []
    for token in tokens:
        item = table.get(token)
        plan = plan_of(item)
        kind: Any = type(item)
        draft.sent.add(token)
        if plan.content == "buffer":
            draft.packer.windows.check(item)
            runs = dirty_runs(known.get(token), now[token], size_of(item))
            data = bytes_for(item, runs)
            hashes = contents.told(now[token], data, runs) if tell else {}
            pieces = draft.packer.cut(data, runs)
            batch.append((token, "buffer", (plan.read(item), pieces, hashes)))
        elif plan.content == "getstate" and opaque.is_by_attribute(
            present := digest(item, plan, before.get(token))
        ):
            changed = opaque.changed_state(item, before.get(token), present)
            if opaque.is_translated(item, changed) and opaque.is_its_dict(kind):
                draft.put_whole(token, "adopt", item, tuple(_attributes(item)))
            elif opaque.is_translated(item, changed):
                draft.replaced.append(token)
                draft.put_whole(token, "replace", item)
            else:
                batch.append((token, "delta", opaque.delta(item, before.get(token), changed)))
        elif plan.content in ("opaque", "getstate"):
            restorer = restorer_of(item)
            if restorer is None and exchange.fits(item):
                draft.put_whole(token, "exchange", item)
            elif restorer is None and opaque.is_its_dict(kind):
                draft.put_whole(token, "adopt", item, tuple(_attributes(item)))
            elif restorer is None:
                draft.replaced.append(token)
                draft.put_whole(token, "replace", item)
            else:
                batch.append((token, "restore", restorer.take(item)))
        else:
            batch.append((token, "parts", plan.read(item)))
    if batch:
        draft.put(CHANGES, batch)


def apply(item: Any, form: str, state: Any, owners: Sequence[Any]) -> None:
    """Writes a state into a live object."""
    if form == "parts":
        _write_parts(item, state)
    elif form == "buffer":
        geometry, pieces, _ = state
        _write_bytes(item, geometry, pieces, owners)
    elif form == "delta":
        kind, changed, gone, names, own = state
        _write_attributes(item, kind, changed, [*gone, *_taken_away(item, kind, own)])
        if names is not None:
            order.sort_attributes(_attributes(item), names)
    elif form == "exchange":
        exchange.swap(item, state)
    elif form == "adopt":
        made, names = state
        removed = _taken_away(item, type(made), names)
        _write_attributes(item, type(made), _attributes(made), removed)
    elif form == "dict":
        kind, attributes = state
        _write_attributes(item, kind, attributes, _attributes(item).keys() - attributes.keys())
        order.sort_attributes(_attributes(item), list(attributes))
    else:
        restorer = restorer_of(item)
        assert restorer is not None
        restorer.put(item, state)


def _write_parts(item: Any, state: Any) -> None:
    plan = plan_of(item)
    if isinstance(state[0], type):
        InstanceClass().write(item, state[0])
        plan = plan_of(item)  # of the class that it has now
    plan.write(item, state)


def _attributes(item: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(item, "__dict__")
    return found


def _taken_away(item: Any, kind: type, names: Collection[str]) -> list[str]:
    """Which attributes an object must lose that gets a class which has a say in its state.

    Under the class that it has all of them went over: what is not among the names on the other
    side any more was taken away there. With the same class that may only have been kept from
    travelling.
    """
    if type(item) is kind or plan_of(item).content:
        return []
    return [name for name in _attributes(item) if name not in names]


def _write_attributes(
    item: Any, kind: type, changed: dict[str, Any], removed: Iterable[str]
) -> None:
    if type(item) is not kind:
        object.__setattr__(item, "__class__", kind)
    attributes = _attributes(item)
    for key in removed:
        dict.pop(attributes, key, None)
    dict.update(attributes, changed)


def _write_bytes(item: Any, geometry: Any, pieces: Sequence[Any], owners: Sequence[Any]) -> None:
    _thaw(item)
    plan_of(item).write(item, geometry)
    frozen = _thaw(item)
    found = (
        (start, stop, memoryview(data) if index is None else owners[index])
        for start, stop, data, index in pieces
    )
    if pieces and holding(item) is not None:
        write_pieces(item, found)
    elif pieces:
        target = byte_array(item)
        for start, stop, source in found:
            _exchange(target[start:stop], source)
    if frozen:
        item.flags.writeable = False


def _exchange(target: Any, source: Any) -> None:
    """Copies bytes; a source that is writable gets the old ones, which then serve as undo log."""
    if isinstance(source, memoryview):
        memoryview(target)[:] = source
        return
    source = byte_array(source)
    for start in range(0, len(target), CHUNK):
        old = target[start : start + CHUNK].copy()
        target[start : start + CHUNK] = source[start : start + CHUNK]
        source[start : start + CHUNK] = old


def _thaw(item: Any) -> bool:
    flags = getattr(item, "flags", None)
    if flags is not None and not flags.writeable:
        flags.writeable = True
        return True
    return False


def present(item: Any, form: str, state: Any) -> tuple[str, Any]:
    """The form and state that undo an `apply` of the given one."""
    if form == "parts" and plan_of(item).parts:
        return "parts", plan_of(item).read(item)
    if form == "buffer":
        view = byte_array(item)
        size = view.nbytes
        resized = any(stop > size for _, stop, _, _ in state[1])
        pieces = [
            # Writing exchanges the bytes with the buffer that brought them: so it undoes itself.
            (start, min(stop, size), None, index)
            if index is not None and not resized
            else (start, min(stop, size), view[start:stop].tobytes(), None)
            for start, stop, _, index in state[1]
            if start < size
        ]
        return "buffer", (plan_of(item).read(item), pieces, {})
    if form in ("parts", "delta", "adopt"):
        return "dict", (type(item), dict(_attributes(item)))
    if form == "exchange":
        return form, state
    restorer = restorer_of(item)
    assert restorer is not None
    return "restore", restorer.take(item)


def envelope_ids(parts: Iterable[Any]) -> set[int]:
    """The addresses of what only carries a shipment's contents: nobody's objects."""
    found: set[int] = set()
    for part in parts:
        found.add(id(part))
    return found


def instance_dicts(objects: Sequence[Any], shared: AbstractSet[int]) -> set[int]:
    """The addresses of the ``__dict__`` of instances: the receiver's counterpart is a copy.

    Args:
        objects: That were sent.
        shared: The addresses of those that went as the very dict.
    """
    found: set[int] = set()
    kinds: list[Any] = list(map(type, objects))
    for kind in set(kinds):
        if kind.__name__ in ("function", "module") or issubclass(kind, type):
            continue
        if issubclass(kind, io.IOBase):  # asking it for its dict would make one
            continue
        getter = attribute_getter(kind)
        if getter is not None:
            chosen = compress(objects, map(is_, kinds, repeat(kind)))
            found.update(map(id, map(getter, chosen)))
    return found - shared
