"""The notebook's side: ships what a cell uses, and takes back what the cell did."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, repeat
from operator import is_
from types import MappingProxyType
from typing import Any

from zerokernel import emulation
from zerokernel.crossing import functions, opaque, travel
from zerokernel.crossing.buffers import HASHED_PER_OBJECT, OBJECTS_PER_LABEL, byte_array
from zerokernel.crossing.contents import Contents, Labels
from zerokernel.crossing.hidden import stays
from zerokernel.crossing.mapped_files import Mapped, machine
from zerokernel.crossing.parts import Plan
from zerokernel.crossing.pause import without_collector
from zerokernel.crossing.pickling import CuttingPacker, Packer
from zerokernel.crossing.reach import walk
from zerokernel.crossing.resizing import Resized, sizes_of
from zerokernel.crossing.shipment import (
    END,
    EXTRA,
    NAMES,
    Draft,
    Shipment,
    envelope_ids,
    instance_dicts,
    numbered,
    parts_of,
    write_changes,
)
from zerokernel.crossing.snapshot import Snapshot
from zerokernel.crossing.staging import Staged
from zerokernel.crossing.tokens import Ledger
from zerokernel.crossing.undisturbed import others_may_run, undisturbed
from zerokernel.crossing.unpickling import Unpacker
from zerokernel.errors import CannotTravel

_MANY = 500  # objects of a shipment that is noted while the worker loads it


class KernelReplica:
    """The kernel's view of what its worker holds. The kernel is the master.

    The mutable state: the table of known objects, the snapshot of what they referred to when
    both sides last agreed, the labels of the buffers that the worker holds, and the objects
    that changed here but were not sent since (``_stale``); and whether mapped files travel by
    their names (``files_travel``), which a worker that does not see them ends.

    Args:
        namespace: The notebook's.
        own: What the shell itself bound in it (``get_ipython``, ``exit``…), which does not
            cross while it is still that.
        detection: How changes of buffers are found; see `Contents`.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        own: Mapping[str, Any] | None = None,
        detection: str = "auto",
    ) -> None:
        self.namespace = namespace
        self._own = dict(own or {})
        self.contents = Contents(detection)
        self.files_travel = True
        self.forget_worker()

    def forget_worker(self) -> None:
        """The worker is gone: the next shipment sends everything by value."""
        self.ledger = Ledger()
        self.snapshot = Snapshot(self.digest)
        self.labels: dict[int, Labels] = {}
        self.stale: set[int] = set()
        self.worker_only: set[str] = set()
        self.names_at_ship: dict[str, Any] = {}
        self._number = 0
        self._functions: set[int] = set()
        self._unsettled: Draft | None = None
        self._now: dict[int, Labels] = {}
        self._unseen: set[int] | None = None  # buffers not hashed yet; None: nothing looked at

    def _stays(self, name: str) -> bool:
        """Whether a name is the shell's own here, as the worker's shell has its own."""
        return stays(name) or (name in self._own and self.namespace[name] is self._own[name])

    @without_collector
    def prune(self) -> None:
        """After each cell: lets go of containers that only this table holds."""
        self.settle()
        self.let_go_of_names()
        if not self.ledger.holding:
            self.ledger.prune()

    # -- out ---------------------------------------------------------------------------

    @without_collector
    def ship(
        self, names: Collection[str], extra: Mapping[str, Any] = MappingProxyType({})
    ) -> Shipment:
        """Captures out, with what the worker must know about earlier ones.

        Names that the namespace does not have are left out. A name whose object cannot
        travel is in ``absent`` of the shipment; the others travel.

        Args:
            names: What the cell reads.
            extra: Further objects, which `sift` let pass.
        """
        self.settle()
        if self.ledger.holding:  # the last cell was never committed: the worker's state is unknown
            self.stale |= self.snapshot.tokens()
            self.labels.clear()
        self.ledger.release()
        self._now = {}
        self._unseen = None
        self._begin()
        if names or extra:  # else the cell sees nothing of what is known, unless it fetches it
            self.ledger.prune()
            self._look_closely()
        changed = set(self.stale)
        self.ledger.hold()
        self.ledger.bury()  # an object may have died at any time since the last cell
        # Not by address: of what a thread binds anew meanwhile the old value's may be used again.
        self.names_at_ship = dict(self.namespace)
        self.worker_only -= self.namespace.keys()
        gone = self.ledger.take_gone()
        self.snapshot.bury(set(gone))
        for token in gone:
            self.labels.pop(token, None)
        header = {
            "gone": gone,
            "worker_only": sorted(self.worker_only),
            "machine": machine() if self.files_travel else "",
            "emulates": emulation.is_expected(),
        }
        with undisturbed():
            return self._send(set(names), changed, header, extra)

    @without_collector
    def rehearse(self, names: Collection[str]) -> tuple[Draft, dict[str, str], set[str]]:
        """Writes what `ship` would, for nobody.

        Returns:
            The draft, the names that cannot travel with the reason, and all names tried: those
            that were asked for and what functions among them read.
        """
        self.settle()
        self._begin()
        self._look_closely()
        draft, absent = self._pack_what_can(set(names), set(self.stale), {}, {})
        wanted = {name for name in draft.packer.wanted if not self._stays(name)}
        return draft, absent, wanted | absent.keys()

    def packer(self, *, known: bool) -> tuple[Packer, io.BytesIO]:
        """A packer that leaves out what the worker knows, or none, and the stream it writes to."""
        stream = io.BytesIO()
        return (self._cutting(stream) if known else self._plain(stream)), stream

    def sift(self, extra: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Of further objects those that can travel; and of each other one why it cannot."""
        fit, refused = {}, []
        for label, value in extra.items():
            try:
                self._cutting(io.BytesIO()).dump(value)
            except Exception as error:
                refused.append(travel.explain(label, value, error, self._fits))
            else:
                fit[label] = value
        return fit, refused

    @without_collector
    def fetch(self, name: str) -> Shipment:
        """One more name, while the cell runs.

        Raises:
            KeyError: The namespace has no such name.
        """
        self.settle()
        if name not in self.namespace:
            raise KeyError(name)
        self.names_at_ship[name] = self.namespace[name]  # as the cell now sees it
        self.contents.windows.begin()  # the cell may have changed files
        if self._unseen is None:
            self._look_closely()
        # What changed here during the cell is not sent over what the cell may have done.
        for token in self.stale & self._now.keys():
            self._now[token] = self._label(token, self.ledger.get(token))
        with undisturbed():
            return self._send({name}, set(self.stale), {"gone": [], "worker_only": []})

    def _send(
        self,
        names: set[str],
        changed: set[int],
        header: dict[str, Any],
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> Shipment:
        self._number += 2
        header["number"] = self._number
        draft, absent = self._pack_what_can(names, changed, header, extra)
        shipment = draft.finish(absent)
        self._unsettled = draft
        if shipment.object_count < _MANY or others_may_run():
            self.settle()
        return shipment

    def _pack_what_can(
        self, names: set[str], changed: set[int], header: Any, extra: Mapping[str, Any]
    ) -> tuple[Draft, dict[str, str]]:
        """A draft with the names that can travel, and of each other one why it cannot."""
        present = {name for name in names if name in self.namespace and not self._stays(name)}
        try:
            return self._pack(present, changed, header, {}, extra), {}
        except Exception as error:
            absent = self._offenders(present, changed, error)
            return self._pack(present, changed, header, absent, extra), absent

    @without_collector
    def settle(self) -> None:
        """Notes what was sent, which for a large shipment takes longer than making it.

        To be called as soon as the shipment is under way, so that it is done while the worker
        loads; the next call of any other method does it at the latest.
        """
        draft, self._unsettled = self._unsettled, None
        if draft is not None:
            self._sent(draft)

    def _pack(
        self,
        names: Iterable[str],
        changed: set[int],
        header: Any,
        absent: dict[str, str],
        extra: Mapping[str, Any],
    ) -> Draft:
        stream = io.BytesIO()
        pickle.dump(header, stream, 5)
        packer = self._cutting(stream) if len(self.ledger) else self._plain(stream)
        packer.labelled_by(self.contents)
        draft = Draft(stream, packer, head=stream.tell())
        done: set[str] = set()
        seen: dict[int, Any] = {}
        todo = set(names) - absent.keys()
        packer.wanted |= todo
        if extra:
            draft.put(EXTRA, dict(extra))
        while True:
            if todo:
                todo |= self._read_by(todo) - done - absent.keys()
                packer.wanted |= todo
                ordered = [name for name in list(self.namespace) if name in todo]
                draft.put_names({name: self.namespace[name] for name in ordered})
                done |= todo
            pending = self._reach(packer, seen, changed, draft.sent)
            if pending:
                self._put_changes(draft, pending)
            wanted = {name for name in packer.wanted if not self._stays(name)}
            todo = wanted - done - absent.keys()
            if not todo and not pending:
                break
        draft.put(END, {})
        sent = list(draft.sent)
        if sizes := sizes_of(sent, self.ledger.at_tokens(sent)):
            draft.late_header = {**header, "sizes": sizes}
        return draft

    def _read_by(self, names: Iterable[str]) -> set[str]:
        """The names that the functions under these names read, and theirs: found in one step."""
        found, todo = set(names), list(names)
        while todo:
            value = self.namespace[todo.pop()]
            if type(value) is types.FunctionType and functions.lives_in(value, self.namespace):
                read = functions.global_names(value.__code__) & self.namespace.keys() - found
                fresh = {name for name in read if not self._stays(name)}
                found |= fresh
                todo.extend(fresh)
        return found

    def _put_changes(self, draft: Draft, tokens: set[int]) -> None:
        write_changes(
            draft,
            sorted(tokens),
            self.ledger,
            self.snapshot.digests,
            self._now,
            self.labels,
            self.digest,
            tell=False,
        )

    def _reach(
        self, packer: Packer, seen: dict[int, Any], changed: set[int], sent: set[int]
    ) -> set[int]:
        """The changed objects that what was met leads to; adds the names that functions read."""
        if not isinstance(packer, CuttingPacker):
            return set()
        asking = self._asking(packer)
        if self._unseen and self._hashes_fast():
            self._look_at_buffers(changed, None)
        if not changed and not asking and not self._unseen:
            return set()
        walk(packer.met.values(), seen, self._below)
        if self._unseen:
            self._look_at_buffers(changed, seen)
        for token, names in asking.items():
            if id(self.ledger.peek(token)) in seen:
                packer.wanted |= names
        return {token for token in changed - sent if id(self.ledger.peek(token)) in seen}

    def _hashes_fast(self) -> bool:
        """Whether hashing all buffers costs less than finding those that the cell can reach."""
        living = [
            item for token in self._unseen or () if (item := self.ledger.peek(token)) is not None
        ]
        walked = len(self.ledger) - OBJECTS_PER_LABEL * len(living)
        return walked > 0 and sum(map(self.contents.cost, living)) < walked * HASHED_PER_OBJECT

    def _asking(self, packer: Packer) -> dict[int, set[str]]:
        """The known functions that read names which do not travel yet, and these names.

        What is light travels at once: to find out whether the cell can reach the function
        would cost more.
        """
        asking: dict[int, set[str]] = {}
        for token in list(self._functions):
            function = self.ledger.peek(token)
            if function is None:
                self._functions.discard(token)
                continue
            names = functions.global_names(function.__code__) & self.namespace.keys()
            missing = {name for name in names - packer.wanted if not self._stays(name)}
            light = {n for n in missing if functions.travels_by_name(self.namespace[n])}
            packer.wanted |= light
            if missing - light:
                asking[token] = missing - light
        return asking

    def _below(self, item: Any) -> list[Any]:
        token = self.ledger.find(item)
        found = None if token is None else self.snapshot.digests.get(token)
        return [] if found is None else [self.ledger.peek(token) for token in found.holds]

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
        seen: dict[int, Any] = {}
        while pending := self._reach(packer, seen, changed, draft.sent):
            self._put_changes(draft, pending)
        return {wanted for wanted in packer.wanted if not self._stays(wanted)}

    def _fits(self, item: Any) -> bool:
        try:
            self._plain(io.BytesIO()).dump(item)
        except Exception:
            return False
        return True

    def _sent(self, draft: Draft) -> None:
        """Both sides agree on what was sent; the rest of what changed stays to be sent."""
        self.stale -= draft.sent
        for token in draft.sent & self._now.keys():
            self.labels[token] = self._now[token]
        self.labels.update(draft.labels(self._number))
        renewed = draft.sent | self.snapshot.holders(draft.replaced) - self.stale
        renewed -= set(draft.replaced)
        self.ledger.forget(draft.replaced)
        tokens, objects = draft.numbered(self._number)
        skip = envelope_ids(draft.envelopes) | instance_dicts(objects, draft.packer.shared_dicts)
        self.take_in(tokens, objects, renewed, skip)

    def take_in(
        self, tokens: list[int], objects: list[Any], renewed: set[int], skip: set[int]
    ) -> None:
        """Adds a shipment's objects to the table; notes their state, and that of known ones."""
        if tokens:
            if types.FunctionType in set(map(type, objects)):
                self._note_functions(tokens, objects)
            kept = self.ledger.add(tokens, objects, skip)
            tokens, objects = list(compress(tokens, kept)), list(compress(objects, kept))
        for token in renewed:
            item = self.ledger.peek(token)
            if item is not None:
                tokens.append(token)
                objects.append(item)
        if tokens:
            self.snapshot.take(tokens, objects)

    def _note_functions(self, tokens: list[int], objects: list[Any]) -> None:
        chosen = list(map(is_, map(type, objects), repeat(types.FunctionType)))
        found = zip(compress(tokens, chosen), compress(objects, chosen), strict=True)
        self._functions.update(t for t, item in found if item.__globals__ is self.namespace)

    # -- what changed ------------------------------------------------------------------

    def look(self) -> None:
        """Adds to ``stale`` the objects that changed here since both sides agreed on them."""
        self.stale |= self.snapshot.changed(self.ledger.at_tokens, self.ledger.gone_ids)
        self.ledger.gone_ids = set()
        self.stale = {token for token in self.stale if self.ledger.peek(token) is not None}

    def _look_closely(self) -> None:
        self.look()
        self._unseen = set(self.snapshot.buffers)

    def _look_at_buffers(self, changed: set[int], seen: dict[int, Any] | None) -> None:
        """Labels the buffers among what was reached (``seen``; None: all) and not looked at."""
        assert self._unseen is not None
        for token in list(self._unseen):
            item = self.ledger.peek(token)
            if item is None:
                self._unseen.discard(token)
            elif seen is None or id(item) in seen:
                self._unseen.discard(token)
                self._now[token] = self._label(token, item)
                if self._now[token] != self.labels.get(token):
                    self.stale.add(token)
                    changed.add(token)

    def _begin(self) -> None:
        living = (self.ledger.peek(token) for token in self.snapshot.buffers)
        self.contents.begin(lambda: set(map(id, living)))

    def _label(self, token: int, item: Any) -> Labels:
        return self.contents.labels(item, self.labels.get(token))

    def digest(self, item: Any, plan: Plan, like: opaque.Digested | None = None) -> opaque.Digested:
        """The digest of an opaque object, to be compared with an earlier one if that is given."""
        return opaque.Digests(self._cutting, self.ledger).of(item, plan, like)

    def _plain(self, stream: io.BytesIO) -> Packer:
        packer = Packer(stream, self.namespace, in_worker=False)
        packer.by_file = self.files_travel
        return packer

    def _cutting(self, stream: io.BytesIO) -> CuttingPacker:
        packer = CuttingPacker(stream, self.namespace, False, self.ledger)
        packer.by_file = self.files_travel
        packer.known_buffers = lambda: map(self.ledger.peek, self.snapshot.buffers)
        return packer

    # -- back --------------------------------------------------------------------------

    def let_go_of_names(self) -> None:
        """The cell is over: what its names were bound to is not kept any longer."""
        self.names_at_ship = {}

    @without_collector
    def stage(self, payload: bytes, buffers: Sequence[Any]) -> Staged:
        """Builds what the worker sent. Touches nothing of the user's.

        Args:
            payload: Of the worker's shipment.
            buffers: The owners that `allocate` gave for its specs, filled.
        """
        self.settle()
        header, parts, unpacker = parts_of(
            payload,
            lambda stream: Unpacker(stream, self.namespace, buffers, self.ledger.get, False),
        )
        self._begin()
        resized = self._resize(header["sizes"])
        try:
            loaded = list(parts)
        except BaseException:
            resized.undo()
            raise
        tokens, objects = numbered(unpacker, header["number"])
        size = len(payload) + sum(
            byte_array(owner).nbytes for owner in buffers if not isinstance(owner, Mapped)
        )
        return Staged(self, loaded, tokens, objects, buffers, size, resized)

    def _resize(self, sizes: dict[int, int]) -> Resized:
        """Gives buffers the sizes that they have in the worker, where the notebook allows it."""
        resized = Resized()
        tokens = list(sizes)
        now = sizes_of(tokens, self.ledger.at_tokens(tokens))
        others = [token for token, size in now.items() if sizes[token] != size]
        if others:
            self.look()
        for token in others:
            item = self.ledger.get(token)
            if token not in self.stale and not self.overwritten(token, item):
                resized.resize(token, item, sizes[token])
        return resized

    def overwritten(self, token: int, item: Any) -> bool:
        """Whether the bytes of a buffer are not those on which both sides agreed."""
        if token not in self.snapshot.buffers:
            return False
        known = self.labels.get(token)
        return known is None or self.contents.labels(item, known) != known
