"""The notebook's side: ships what a cell uses, and takes back what the cell did."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from zerokernel.crossing import functions, opaque, travel
from zerokernel.crossing.buffers import byte_array, digests
from zerokernel.crossing.hidden import is_hidden
from zerokernel.crossing.parts import Plan
from zerokernel.crossing.pickling import CuttingPacker, Packer, Unpacker
from zerokernel.crossing.shipment import (
    END,
    NAMES,
    Draft,
    Shipment,
    instance_dicts,
    numbered,
    parts_of,
    write_changes,
)
from zerokernel.crossing.snapshot import Snapshot, references
from zerokernel.crossing.staging import Staged
from zerokernel.crossing.tokens import Ledger
from zerokernel.errors import CannotTravel


class KernelReplica:
    """The kernel's view of what its worker holds. The kernel is the master.

    The mutable state: the table of known objects, the snapshot of what they referred to when
    both sides last agreed, the digests of the buffers that the worker holds, and the objects
    that changed here but were not sent since (``_stale``).
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.forget_worker()

    def forget_worker(self) -> None:
        """The worker is gone: the next shipment sends everything by value."""
        self.ledger = Ledger()
        self.snapshot = Snapshot((), self.digest)
        self.digests: dict[int, Any] = {}
        self.stale: set[int] = set()
        self.worker_only: set[str] = set()
        self.names_at_ship: dict[str, int] = {}
        self._number = 0
        self._functions: set[int] = set()

    def prune(self) -> None:
        """After each plain cell: lets go of containers that only this table holds."""
        if not self.ledger.holding:
            self.ledger.prune()

    # -- out ---------------------------------------------------------------------------

    def ship(self, names: Collection[str]) -> Shipment:
        """Captures out, with what the worker must know about earlier ones.

        Names that the namespace does not have are left out. A name whose object cannot
        travel is in ``absent`` of the shipment; the others travel.
        """
        if self.ledger.holding:  # the last cell was never committed: the worker's state is unknown
            self.stale |= self.snapshot.tokens()
            self.digests.clear()
        self.ledger.release()
        self.ledger.prune()
        changed = self._changed()
        self.ledger.hold()
        self.names_at_ship = {name: id(value) for name, value in self.namespace.items()}
        self.worker_only -= self.namespace.keys()
        header = {"gone": self.ledger.take_gone(), "worker_only": sorted(self.worker_only)}
        return self._send(set(names), changed, header)

    def fetch(self, name: str) -> Shipment:
        """One more name, while the cell runs.

        Raises:
            KeyError: The namespace has no such name.
        """
        if name not in self.namespace:
            raise KeyError(name)
        # What changed here during the cell is not sent over what the cell may have done.
        behind = self.changed_since_ship()
        for token in self.stale & self._now.keys():
            self._now[token] = digests(self.ledger.get(token))
        shipment = self._send({name}, set(self.stale), {"gone": [], "worker_only": []})
        self.stale |= behind
        return shipment

    def _send(self, names: set[str], changed: set[int], header: dict[str, Any]) -> Shipment:
        self._number += 2
        header["number"] = self._number
        present = {name for name in names if name in self.namespace and not is_hidden(name)}
        absent: dict[str, str] = {}
        try:
            draft = self._pack(present, changed, header, absent)
        except Exception as error:
            absent = self._offenders(present, changed, error)
            draft = self._pack(present, changed, header, absent)
        shipment = draft.finish(absent)
        self._sent(draft, changed)
        return shipment

    def _pack(
        self, names: Iterable[str], changed: set[int], header: Any, absent: dict[str, str]
    ) -> Draft:
        stream = io.BytesIO()
        pickle.dump(header, stream, 5)
        packer = self._cutting(stream) if len(self.ledger) else self._plain(stream)
        draft = Draft(stream, packer)
        done: set[str] = set()
        seen: set[int] = set()
        todo = set(names) - absent.keys()
        while True:
            if todo:
                draft.put(NAMES, {name: self.namespace[name] for name in sorted(todo)})
                done |= todo
            pending = self._reach(packer, seen, changed)
            if pending:
                self._put_changes(draft, pending)
            wanted = {name for name in packer.wanted if not is_hidden(name)}
            todo = wanted - done - absent.keys()
            if not todo and not pending:
                break
        draft.put(END, {"names": sorted(done), "absent": sorted(absent)})
        return draft

    def _put_changes(self, draft: Draft, tokens: set[int]) -> None:
        write_changes(
            draft,
            sorted(tokens),
            self.ledger,
            self.snapshot.digests,
            self._now,
            self.digests,
            self.digest,
        )

    def _reach(self, packer: Packer, seen: set[int], changed: set[int]) -> set[int]:
        """The changed objects that what was met leads to; adds the names that functions read."""
        if not isinstance(packer, CuttingPacker) or not (changed or self._functions):
            return set()
        reached: set[int] = set()
        frontier = packer.met.keys() - seen
        while frontier:
            seen |= frontier
            reached |= frontier
            frontier = self._below(frontier) - seen
        for token in reached & self._functions:
            function = self.ledger.peek(token)
            if function is not None:
                packer.wanted |= functions.global_names(function.__code__) & self.namespace.keys()
        return reached & changed

    def _below(self, tokens: set[int]) -> set[int]:
        items = [item for token in tokens if (item := self.ledger.peek(token)) is not None]
        below = self.ledger.at(references(items))
        for token in tokens & self.snapshot.digests.keys():
            below |= self.snapshot.digests[token].holds
        return below

    def _offenders(
        self, names: set[str], changed: set[int], error: BaseException
    ) -> dict[str, str]:
        """Which names cannot travel, and why: tried one by one, with what they lead to."""
        absent: dict[str, str] = {}
        todo, done = set(names), set()
        while todo:
            name = min(todo)
            todo.discard(name)
            done.add(name)
            value = self.namespace[name]
            try:
                if travel.stays(type(value)):
                    travel.refuse(value)
                wanted = self._try_one(name, changed)
            except Exception as found:
                absent[name] = travel.explain(name, value, found, self._fits)
            else:
                todo |= wanted - done
        if not absent:
            raise CannotTravel(f"The captured names cannot travel together: {error}") from error
        return absent

    def _try_one(self, name: str, changed: set[int]) -> set[str]:
        stream = io.BytesIO()
        packer = self._cutting(stream)
        draft = Draft(stream, packer)
        draft.put(NAMES, {name: self.namespace[name]})
        seen: set[int] = set()
        while pending := self._reach(packer, seen, changed):
            self._put_changes(draft, pending)
        return {wanted for wanted in packer.wanted if not is_hidden(wanted)}

    def _fits(self, item: Any) -> bool:
        try:
            self._plain(io.BytesIO()).dump(item)
        except Exception:
            return False
        return True

    def _sent(self, draft: Draft, changed: set[int]) -> None:
        """Both sides agree on what was sent; the rest of what changed stays to be sent."""
        self.stale = (self.stale | changed) - draft.sent
        for token in draft.sent:
            if token in self._now:
                self.digests[token] = self._now[token]
        self.ledger.forget(draft.replaced)
        tokens, objects = draft.numbered(self._number)
        draft.packer.clear_memo()
        if tokens:
            self.take_in(tokens, objects, instance_dicts(objects))
        if tokens or changed:
            self.snap()

    def take_in(self, tokens: list[int], objects: list[Any], skip: set[int]) -> None:
        """Adds a shipment's objects to the table."""
        self._functions.update(
            token
            for token, item in zip(tokens, objects, strict=True)
            if type(item) is types.FunctionType and item.__globals__ is self.namespace
        )
        self.ledger.add(tokens, objects, skip)

    def snap(self) -> None:
        """Takes the present state as the one on which both sides agree."""
        self.snapshot = Snapshot(self.ledger.items(), self.digest)
        self.ledger.gone_ids = set()

    # -- what changed ------------------------------------------------------------------

    def _changed(self) -> set[int]:
        self._now: dict[int, Any] = {}
        changed = self.snapshot.changed(self.ledger.peek, self.ledger.gone_ids) | self.stale
        for token in self.snapshot.buffers:
            item = self.ledger.peek(token)
            if item is None:
                continue
            self._now[token] = digests(item)
            if self._now[token] != self.digests.get(token):
                changed.add(token)
        return {token for token in changed if self.ledger.peek(token) is not None}

    def changed_since_ship(self) -> set[int]:
        """The structural objects that changed here while the cell was under way."""
        return self.snapshot.changed(self.ledger.peek, self.ledger.gone_ids)

    def digest(self, item: Any, plan: Plan) -> opaque.Digested:
        """The digest of an opaque object."""
        return opaque.digest(item, plan, self._cutting)

    def _plain(self, stream: io.BytesIO) -> Packer:
        return Packer(stream, self.namespace, in_worker=False)

    def _cutting(self, stream: io.BytesIO) -> CuttingPacker:
        return CuttingPacker(stream, self.namespace, False, self.ledger.find)

    # -- back --------------------------------------------------------------------------

    def stage(self, payload: bytes, buffers: Sequence[Any]) -> Staged:
        """Builds what the worker sent. Touches nothing of the user's.

        Args:
            payload: Of the worker's shipment.
            buffers: The owners that `allocate` gave for its specs, filled.
        """
        header, parts, unpacker = parts_of(
            payload,
            lambda stream: Unpacker(stream, self.namespace, buffers, self.ledger.get),
        )
        loaded = list(parts)
        tokens, objects = numbered(unpacker, header["number"])
        size = len(payload) + sum(byte_array(owner).nbytes for owner in buffers)
        return Staged(self, loaded, tokens, objects, buffers, size)
