"""The worker's side: holds what the kernel sent, and tells what the cell did to it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, repeat
from typing import Any

from zerokernel.crossing import device_memory, opaque, order, placement, resizing, travel
from zerokernel.crossing.buffers import HASHED_PER_OBJECT, allocate
from zerokernel.crossing.contents import Contents, Labels
from zerokernel.crossing.hidden import is_history, stays
from zerokernel.crossing.kinds import plan_of
from zerokernel.crossing.mapped_files import machine
from zerokernel.crossing.parts import Plan
from zerokernel.crossing.pause import without_collector
from zerokernel.crossing.pickling import CuttingPacker
from zerokernel.crossing.reach import walk
from zerokernel.crossing.replacing import patches
from zerokernel.crossing.shipment import (
    CHANGES,
    END,
    EXTRA,
    NAMES,
    Draft,
    Shipment,
    apply,
    instance_dicts,
    numbered,
    parts_of,
    write_changes,
)
from zerokernel.crossing.sieve import Sieve
from zerokernel.crossing.snapshot import Snapshot
from zerokernel.crossing.tokens import Holdings
from zerokernel.crossing.unpickling import Unpacker


class WorkerReplica:
    """The worker's copy of the session.

    The mutable state: the table of objects that both sides know, the snapshot of what they
    referred to before the cell, the labels of buffers (``_labels``: present ones;
    ``_received``: as the kernel holds them), the names as they were before the cell, and what
    cannot return (``_only``: names; ``_stuck``: tokens of changed objects).

    Args:
        namespace: The worker's, in which cells run.
        detection: How changes of buffers are found; see `Contents`.
    """

    def __init__(self, namespace: dict[str, Any], detection: str = "auto") -> None:
        self._namespace = namespace
        self._detection = detection
        self._own = {n: value for n, value in namespace.items() if n != "__main__"}
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._contents = Contents(self._detection)
        self._holdings = Holdings()
        self._snapshot = Snapshot(self._digest)
        self._labels: dict[int, Labels] = {}
        self._received: dict[int, Labels] = {}
        self._before: dict[str, Any] = {}
        self._moved_earlier: set[str] = set()  # before the last fetch
        self._only: set[str] = set()
        self._rebound: Collection[str] = ()
        self._stuck: set[int] = set()
        self._sizes: dict[int, int] = {}  # of buffers that may have another one now
        self._number = 1
        self._sent: Draft | None = None
        self._owners: list[Any] = []
        self._shares_files = False
        self._shows_devices = False  # whether the notebook has tensors on devices
        self._sees = False  # whether the cell can reach anything that is known

    def forget(self) -> None:
        """Lets go of everything; the kernel does the same, and sends what is needed by value."""
        for name in [name for name in self._namespace if not self._is_shells(name)]:
            del self._namespace[name]
        self._namespace.update(self._own)
        self._begin_anew()

    # -- in ----------------------------------------------------------------------------

    def allocate(self, specs: Sequence[Any]) -> list[memoryview]:
        """Memory for the buffers of the next shipment, to be filled before `receive`."""
        self._owners, views = allocate(specs)
        return views

    @property
    def owners(self) -> list[Any]:
        """What the last `allocate` made: the ``buffers`` of `receive` and `absorb`."""
        return self._owners

    @without_collector
    def receive(self, payload: bytes, buffers: Sequence[Any] | None = None) -> dict[str, Any]:
        """Takes in captures: the namespace then holds exactly these, and worker-only names.

        Args:
            payload: Of the kernel's shipment.
            buffers: The owners that `allocate` made, filled; by default those of its last call.

        Returns:
            The further objects that came with them.
        """
        names, header, extra = self._load(payload, buffers)
        keep = set(header["worker_only"])
        self._only &= keep
        for name in list(self._namespace):
            if name not in names and name not in self._only and not self._is_shells(name):
                del self._namespace[name]
        self._namespace.update(self._own | names)
        order.arrange(self._namespace, names)
        self._moved_earlier = set()
        self._before = dict(self._namespace)
        self._sees = bool(names or extra or self._only)
        return extra

    @without_collector
    def absorb(self, payload: bytes, buffers: Sequence[Any] | None = None) -> dict[str, Any]:
        """Takes in what was fetched while the cell runs; binds it and returns names and values."""
        names, _, _ = self._load(payload, buffers)
        self._sees = True
        self._moved_earlier = set(self._moved())
        fresh = {name: value for name, value in names.items() if name not in self._namespace}
        self._namespace.update(fresh)
        self._before.update(fresh)
        order.mark(self._namespace)
        return names

    def _load(
        self, payload: bytes, buffers: Sequence[Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        owners = self._owners if buffers is None else buffers
        self._owners = []
        self._begin()
        header, parts, unpacker = parts_of(
            payload,
            lambda stream: Unpacker(stream, self._namespace, owners, self._holdings.get, True),
        )
        if "machine" in header:  # it is not in what is fetched
            self._shares_files = header["machine"] == machine() != ""
            self._shows_devices = header["emulates"]
        sizes = header.get("sizes", {})
        if sizes:
            self._unname(header["gone"])
        self._let_go(header["gone"])
        for token, size in sizes.items():  # before what shows their memory is built
            if resizing.size_of(item := self._holdings.get(token)) != size:
                resizing.Resized().resize(token, item, size)
        names: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        written: set[int] = set()
        replaced: dict[int, tuple[int, Any]] = {}
        for kind, value in parts:
            if kind == NAMES:
                names.update(value)
            elif kind == EXTRA:
                extra.update(value)
            elif kind == CHANGES:
                written |= self._apply(value, owners, replaced)
        written |= self._snapshot.holders(token for token, _ in replaced.values())
        written |= self._replace(replaced)
        device_memory.settle()
        names = {name: replaced.get(id(value), (0, value))[1] for name, value in names.items()}
        tokens, objects = numbered(unpacker, header["number"])
        self._holdings.add(tokens, objects)
        self._snap(tokens, objects, written)
        return names, header, extra

    def _apply(
        self, changes: Iterable[Any], owners: Sequence[Any], replaced: dict[int, tuple[int, Any]]
    ) -> set[int]:
        written = set()
        for token, form, state in changes:
            item = self._holdings.get(token)
            if form == "replace":
                replaced[id(item)] = (token, state)
                continue
            if form == "buffer":
                self._contents.writing(item, [piece[:2] for piece in state[1]])
            apply(item, form, state, owners)
            self._stuck.discard(token)
            self._labels.pop(token, None)
            written.add(token)
        return written

    def _replace(self, replaced: dict[int, tuple[int, Any]]) -> set[int]:
        if not replaced:
            return set()
        mapping = {number: new for number, (_, new) in replaced.items()}
        found = list(patches(self._holdings.items(), mapping))
        for _, item, state in found:
            plan_of(item).write(item, state)
        self._drop([token for token, _ in replaced.values()])
        return {token for token, _, _ in found}

    def _let_go(self, tokens: Sequence[int]) -> None:
        """Drops what the kernel lets go of, which is then digested by value where it is held."""
        gone = set(tokens)
        holders = [
            (token, item, plan_of(item))
            for token, before in self._snapshot.digests.items()
            if not before.holds.isdisjoint(gone) and token not in gone
            if (item := self._holdings.peek(token)) is not None
            if self._digest(item, plan_of(item), before)
            == before  # else it changed, and is to be sent
        ]
        self._drop(tokens)
        for token, item, plan in holders:
            self._snapshot.digests[token] = self._digest(item, plan)

    def _unname(self, tokens: Sequence[int]) -> None:
        """Unbinds what the notebook has let go of, so that it shows nobody's memory."""
        gone = set(map(id, self._holdings.at_tokens(tokens)))
        for names in (self._namespace, self._before):
            for name in [name for name, value in names.items() if id(value) in gone]:
                del names[name]

    def _drop(self, tokens: Sequence[int]) -> None:
        if not tokens:
            return
        self._holdings.drop(tokens)
        self._snapshot.forget(tokens)
        self._stuck.difference_update(tokens)
        for table in (self._labels, self._received):
            for token in table.keys() & set(tokens) if table else ():
                del table[token]

    def _is_own(self, name: str, value: Any) -> bool:
        if stays(name) or (is_history(name) and name not in self._rebound):
            return True
        return name in self._own and self._own[name] is value

    def _is_shells(self, name: str) -> bool:
        """Whether a name is what the worker's shell bound, and needs not be bound again."""
        own = name in self._own and self._own[name] is self._namespace.get(name)
        return own or stays(name)

    # -- out ---------------------------------------------------------------------------

    @without_collector
    def returns(
        self,
        extra: Mapping[str, Any],
        hidden: Collection[str] = (),
        rebound: Collection[str] = (),
    ) -> Shipment:
        """What the cell did: names bound and deleted, changed objects, and further roots.

        What cannot return is left out and listed; it never fails a finished cell.

        Args:
            extra: The further roots, by name.
            hidden: Names that are left out.
            rebound: Names of the history, such as ``_``, that are the cell's own now.
        """
        self._rebound = rebound
        skip = set(hidden)
        now = {
            name: value
            for name, value in self._namespace.items()
            if not self._is_own(name, value) and name not in skip
        }
        moved = self._moved()
        bound = {
            name: value
            for name, value in now.items()
            if name not in self._before or self._before[name] is not value or name in moved
        }
        deleted = [
            name
            for name, value in self._before.items()
            if name not in now and not self._is_own(name, value) and name not in skip
        ]
        changed = self._changed([*now.values(), *extra.values()])
        self._number += 2
        worker_only: dict[str, str] = {}
        stuck: set[int] = set()
        roots = dict(extra)
        try:
            draft = self._pack(bound, deleted, roots, changed, worker_only)
        except Exception:
            sieve = Sieve(self._cutting, self._put_changes, self._path_to)
            bound, roots = sieve.roots(bound, worker_only), sieve.roots(roots, worker_only)
            stuck = sieve.changes(changed, self._holdings, worker_only)
            draft = self._pack(bound, deleted, roots, changed - stuck, worker_only)
        if not self._sees and draft.packer.met:  # through something that a library keeps
            self._sees = True
            self._number -= 2
            return self.returns(extra, hidden, rebound)
        self._stuck = stuck
        self._sent = draft
        return draft.finish({})

    def _pack(
        self,
        bound: dict[str, Any],
        deleted: list[str],
        extra: dict[str, Any],
        changed: set[int],
        worker_only: dict[str, str],
    ) -> Draft:
        stream = io.BytesIO()
        pickle.dump({"number": self._number, "sizes": self._sizes}, stream, 5)
        draft = Draft(stream, self._cutting(stream))
        draft.packer.labelled_by(self._contents)
        draft.put_names(bound)
        draft.put(EXTRA, extra)
        self._put_changes(draft, changed)
        # Of a changed object that cannot return the notebook keeps what it has, and its name.
        lost = [name for name in worker_only if name in self._namespace and self._is_bound(name)]
        only = self._only - bound.keys() - set(deleted) | set(lost)
        draft.put(END, self._end(draft, deleted + lost, only, worker_only))
        self._only_next = only
        return draft

    def _is_bound(self, name: str) -> bool:
        """Whether the cell bound a name."""
        return name not in self._before or self._before[name] is not self._namespace[name]

    def _end(
        self, draft: Draft, deleted: list[str], only: set[str], worker_only: dict[str, str]
    ) -> dict[str, Any]:
        return {
            "deleted": deleted,
            "moved": self._moved(),
            "only_names": sorted(only),
            "worker_only": worker_only,
            "notes": self._came_home(draft.packer.placed),
            "buffers": [(owner, self._hashes(draft, owner)) for owner in draft.packer.owners],
            "shared_dicts": draft.shared_dicts(self._number),
        }

    def _came_home(self, storages: Iterable[Any]) -> list[str]:
        """Tells of storages on a device, where the notebook has none."""
        if self._shows_devices:
            return []
        return [
            f"`{self._path_to(storage)}` is on {storage.device} in the worker "
            "and came home as a CPU tensor"
            for storage in storages
            if placement.place_of(storage) != placement.PINNED
        ]

    def _hashes(self, draft: Draft, owner: Any) -> Labels | None:
        """The hashes of a new buffer, where they are known."""
        found = draft.packer.labels[id(owner)]
        return found if all(label >= 0 for label in found) else None

    def _moved(self) -> list[str]:
        """The captured names that were deleted and bound again: they are last now."""
        late = self._moved_earlier | order.after_mark(self._namespace)
        return [name for name in self._before if name in late]

    def _put_changes(self, draft: Draft, tokens: Iterable[int]) -> None:
        write_changes(
            draft,
            sorted(tokens),
            self._holdings,
            self._snapshot.digests,
            self._labels,
            self._received,
            self._digest,
            tell=True,
        )

    def _path_to(self, item: Any) -> str:
        for name, value in self._namespace.items():
            if not self._is_own(name, value):
                path = travel.path_to(name, value, item)
                if path is not None:
                    return path
        return f"<{type(item).__name__}>"

    @without_collector
    def returned(self) -> None:
        """The shipment was delivered and committed: both sides agree on it."""
        draft, self._sent = self._sent, None
        if draft is None:
            return
        renewed = draft.sent | self._snapshot.holders(draft.replaced) | self._stuck
        self._drop(draft.replaced)
        self._labels.update(draft.labels(self._number))
        tokens, objects = draft.numbered(self._number)
        skip = instance_dicts(objects, draft.packer.shared_dicts)
        fresh = [
            number not in skip and find(item) is None
            for number, item, find in zip(
                map(id, objects), objects, repeat(self._holdings.find), strict=False
            )
        ]
        tokens, objects = list(compress(tokens, fresh)), list(compress(objects, fresh))
        self._holdings.add(tokens, objects)
        self._only = self._only_next
        self._snap(tokens, objects, renewed)
        self._before = dict(self._namespace)

    # -- what changed ------------------------------------------------------------------

    def _snap(self, tokens: list[int], objects: list[Any], written: set[int]) -> None:
        """Notes the state of new objects and of known ones that were written."""
        tokens, objects = list(tokens), list(objects)
        for token in written:
            item = self._holdings.peek(token)
            if item is not None:
                tokens.append(token)
                objects.append(item)
        if not tokens:
            return
        self._snapshot.take(tokens, objects)
        for token in self._snapshot.buffers.intersection(tokens):
            if token not in self._labels:
                self._labels[token] = self._contents.labels(self._holdings.get(token))
            self._received[token] = self._labels[token]

    def _changed(self, roots: Iterable[Any]) -> set[int]:
        """The known objects that changed; what the cell cannot reach waits until it can."""
        self._sizes = {}
        if not self._sees:
            return set(self._stuck)
        changed = self._snapshot.changed(self._holdings.at_tokens, set()) | self._stuck
        ordered = list(changed)
        self._sizes = resizing.sizes_of(ordered, self._holdings.at_tokens(ordered))
        self._begin()
        for token in self._reachable_buffers(roots):
            now = self._contents.labels(self._holdings.get(token))
            if now != self._labels.get(token):
                changed.add(token)
                self._labels[token] = now
        return {token for token in changed if self._holdings.peek(token) is not None}

    def _reachable_buffers(self, roots: Iterable[Any]) -> list[int]:
        """Those among roots, unless hashing all is faster than finding them."""
        held = {token: self._holdings.get(token) for token in self._snapshot.buffers}
        if sum(map(self._contents.cost, held.values())) < len(self._holdings) * HASHED_PER_OBJECT:
            return list(held)
        seen: dict[int, Any] = {}
        walk(roots, seen, self._below)
        return [token for token, item in held.items() if id(item) in seen]

    def _below(self, item: Any) -> list[Any]:
        token = self._holdings.find(item)
        found = None if token is None else self._snapshot.digests.get(token)
        return [] if found is None else [self._holdings.peek(token) for token in found.holds]

    def _begin(self) -> None:
        living = map(self._holdings.peek, self._snapshot.buffers)
        self._contents.begin(lambda: set(map(id, living)))

    def _digest(
        self, item: Any, plan: Plan, like: opaque.Digested | None = None
    ) -> opaque.Digested:
        return opaque.Digests(self._cutting, self._holdings).of(item, plan, like)

    def _cutting(self, stream: io.BytesIO) -> CuttingPacker:
        packer = CuttingPacker(stream, self._namespace, True, self._holdings)
        packer.by_file = self._shares_files
        packer.known_buffers = lambda: map(self._holdings.peek, self._snapshot.buffers)
        return packer
