"""The way back into the notebook: everything is built first, then written at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

from zerokernel.crossing.buffers import CHUNK, size_of
from zerokernel.crossing.contents import Labels
from zerokernel.crossing.kinds import plan_of
from zerokernel.crossing.pause import without_collector
from zerokernel.crossing.replacing import patches
from zerokernel.crossing.resizing import Resized
from zerokernel.crossing.shipment import (
    CHANGES,
    END,
    EXTRA,
    NAMES,
    apply,
    envelope_ids,
    instance_dicts,
    present,
)
from zerokernel.crossing.undisturbed import undisturbed
from zerokernel.errors import CommitFailed

if TYPE_CHECKING:
    from zerokernel.crossing.kernel_replica import KernelReplica


@dataclass(frozen=True)
class Committed:
    """What a commit did.

    ``changed`` counts the existing objects that were written. ``worker_only`` maps names and
    paths that stayed in the worker to the reason and the remedy. ``conflicts`` are those among
    the ``notes`` that say what the notebook changed while the cell ran, and so kept.
    """

    bound: tuple[str, ...]
    deleted: tuple[str, ...]
    changed: int
    worker_only: dict[str, str]
    notes: tuple[str, ...]
    conflicts: tuple[str, ...]
    byte_count: int


@dataclass
class Write:
    """One write into an object of the notebook, with what undoes it."""

    token: int
    rank: int
    item: Any
    form: str
    state: Any
    undo: tuple[str, Any]


_UNBOUND = object()
_FORGOTTEN = (
    "The worker's end was taken note of before its results were written, so that they cannot be "
    "matched with the notebook's objects, which are as they were before the cell. Run it again."
)

_SHOWN = (
    "cannot get the size that the cell gave it, because an array or a memoryview that the cell "
    "did not use shows its memory"
)


class Staged:
    """The changes of one cell, built but not written."""

    def __init__(
        self,
        replica: KernelReplica,
        loaded: Sequence[tuple[str, Any]],
        tokens: list[int],
        objects: list[Any],
        owners: Sequence[Any],
        byte_count: int,
        resized: Resized,
    ) -> None:
        self._replica = replica
        self._ledger = replica.ledger
        self._tokens, self._objects, self._owners = tokens, objects, owners
        self._byte_count, self._resized = byte_count, resized
        self._names: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self._changes: list[tuple[int, str, Any]] = []
        self._end: dict[str, Any] = {}
        self._notes: list[str] = []
        self._conflicts: list[str] = []
        self._envelopes = [value for _, value in loaded]
        for kind, value in loaded:
            if kind == NAMES:
                self._names.update(value)
            elif kind == EXTRA:
                self.extra.update(value)
            elif kind == CHANGES:
                self._changes.extend(value)
            elif kind == END:
                self._end = value
        self._notes.extend(self._end["notes"])
        # Labelled now, before anybody can write to them.
        self._labels = [
            (owner, hashes or replica.contents.labels(owner))
            for owner, hashes in self._end["buffers"]
        ]

    @without_collector
    def commit(self) -> Committed:
        """Writes everything into the notebook's own objects, or nothing.

        Raises:
            CommitFailed: A write failed, and what had been written was undone; or the worker
                was forgotten meanwhile, and with it which object is which.
            KeyboardInterrupt: It came meanwhile; everything was written. After this or a failure
                do not tell the worker that its shipment was delivered: the next `ship` then
                brings it to the notebook's state.
        """
        try:
            return self._commit()
        finally:
            self._resized.undo()  # nothing, where it was written

    def _commit(self) -> Committed:
        replica = self._replica
        if replica.ledger is not self._ledger:
            raise CommitFailed(_FORGOTTEN)
        with undisturbed():  # until what is written is noted as what the worker has
            with _uninterrupted():
                if self._changes:
                    replica.look()
                    replica.stale -= self._resized.tokens
                writes, replaced = self._writes(replica.stale)
                bound, deleted = self._name_writes()
                self._write(writes, bound, deleted)
            changed = len(writes)
            worker_only = dict(self._end["worker_only"])
            replica.worker_only = set(self._end["only_names"])
            replica.let_go_of_names()
            written = {write.token for write in writes}
            self._note_bytes(writes)
            writes.clear()  # so that what pickle made for them is seen to be nobody's
            self._agree(written, replaced)
        return Committed(
            bound=tuple(sorted(bound)),
            deleted=tuple(sorted(deleted)),
            changed=changed,
            worker_only=worker_only,
            notes=(*self._conflicts, *self._notes),
            conflicts=tuple(self._conflicts),
            byte_count=self._byte_count,
        )

    def _writes(self, behind: set[int]) -> tuple[list[Write], list[int]]:
        """All writes with their undo, in the order of the commit; and what is replaced."""
        writes: list[Write] = []
        replaced: dict[int, Any] = {}
        gone: list[int] = []
        for token, form, state in self._changes:
            item = self._replica.ledger.peek(token)
            if item is None:
                continue
            refused = token in self._resized.refused
            kept = refused or self._resized.keeps_own(token)
            if kept or token in behind or self._overwritten(token, item, form):
                why = _SHOWN if refused else "changed in the notebook while the cell ran"
                told = self._notes if refused else self._conflicts
                told.append(f"a {type(item).__name__} {why}: the notebook's version was kept")
                self._replica.stale.add(token)
                if form == "buffer":  # what the worker has is not known any more: all of it goes
                    self._replica.labels.pop(token, None)
                if form == "replace":  # the worker goes on with the new object under its token
                    gone.append(token)
            elif form == "replace":
                replaced[id(item)] = (item, state)
                gone.append(token)
            else:
                undo = present(item, form, state)
                writes.append(Write(token, plan_of(item).rank, item, form, state, undo))
        if replaced:
            self._replace(writes, replaced)
        writes.sort(key=lambda write: write.rank)
        return writes, gone

    def _overwritten(self, token: int, item: Any, form: str) -> bool:
        if form != "buffer" or token in self._resized.tokens:
            return False
        return self._replica.overwritten(token, item)

    def _replace(self, writes: list[Write], replaced: dict[int, Any]) -> None:
        mapping = {number: new for number, (_, new) in replaced.items()}
        for name, value in self._replica.namespace.items():
            if id(value) in mapping and name not in self._names:
                self._names[name] = mapping[id(value)]
        targets = {id(write.item): write for write in writes}
        for token, item, state in patches(self._replica.ledger.items(), mapping):
            if id(item) in targets:
                continue
            undo = ("parts", plan_of(item).read(item))
            writes.append(Write(token, plan_of(item).rank, item, "parts", state, undo))
        for old, _ in replaced.values():
            self._notes.append(
                f"a {type(old).__name__} was replaced: other references keep the old object"
            )

    def _name_writes(self) -> tuple[dict[str, Any], list[str]]:
        space = self._replica.namespace
        bound: dict[str, Any] = {}
        for name, value in self._names.items():
            if not self._was_bound_here(name):
                bound[name] = value
        deleted = []
        for name in self._end["deleted"]:
            if name in space and not self._was_bound_here(name):
                deleted.append(name)
        return bound, deleted

    def _was_bound_here(self, name: str) -> bool:
        """Whether the notebook bound or deleted a name while the cell ran, which then stays so."""
        space, before = self._replica.namespace, self._replica.names_at_ship
        if space.get(name, _UNBOUND) is before.get(name, _UNBOUND):
            return False
        did, kept = ("bound", "that binding") if name in space else ("deleted", "its absence")
        self._conflicts.append(
            f"`{name}` was {did} in the notebook while the cell ran: {kept} was kept"
        )
        return True

    def _write(self, writes: list[Write], bound: dict[str, Any], deleted: list[str]) -> None:
        undo: list[Callable[[], None]] = []
        space = self._replica.namespace
        try:
            for write in writes:
                self._write_one(write, undo)
            old = {name: space[name] for name in (*bound, *deleted) if name in space}
            undo.append(lambda: _restore_names(space, bound, old))
            for name in (*self._end["moved"], *deleted):
                if name in bound or name in deleted:
                    dict.pop(space, name, None)
            dict.update(space, bound)
            self._resized.done()
        except BaseException as error:
            for step in reversed(undo):
                step()
            raise CommitFailed(
                f"{CommitFailed.__doc__} ({type(error).__name__}: {error})"
            ) from error

    def _write_one(self, write: Write, undo: list[Callable[[], None]]) -> None:
        if write.form != "buffer":  # half a write is undone like a whole one
            undo.append(_undoing(write, self._owners))
        if write.form == "buffer":
            pieces = write.state[1]
            self._replica.contents.writing(write.item, [piece[:2] for piece in pieces])
        apply(write.item, write.form, write.state, self._owners)
        if write.form == "buffer":  # the exchange of bytes undoes itself once it is done
            undo.append(_undoing(write, self._owners))

    def _agree(self, written: set[int], gone: list[int]) -> None:
        """Both sides hold the same again: the tables advance."""
        replica = self._replica
        tokens, objects = self._tokens, self._objects
        numbers = {id(owner): label for owner, label in self._labels}
        if numbers:
            for token, number in zip(tokens, map(id, objects), strict=True):
                if number in numbers:
                    replica.labels[token] = numbers[number]
        self._labels = []
        known: set[int] = self._end["shared_dicts"]
        self._changes, self._names = [], {}
        self._tokens, self._objects, self._end = [], [], {}
        written = written | replica.snapshot.holders(gone) - replica.stale
        replica.ledger.forget(gone)
        replica.ledger.release()
        shared = set(map(id, compress(objects, map(known.__contains__, tokens))))
        skip = envelope_ids(self._envelopes) | instance_dicts(objects, shared)
        replica.take_in(tokens, objects, written, skip)
        del tokens, objects
        self._envelopes = []
        replica.ledger.release()

    def _note_bytes(self, writes: Iterable[Write]) -> None:
        """What was written holds what the worker hashed, unless a thread wrote to it since."""
        for write in writes:
            if write.form == "buffer":
                _, _, hashes = write.state
                known = self._replica.labels[write.token]
                self._replica.labels[write.token] = _with_hashes(write.item, known, hashes)


def _with_hashes(item: Any, known: Labels, hashes: dict[int, int]) -> Labels:
    count = -(-size_of(item) // CHUNK)
    return tuple(hashes[n] if n in hashes else known[n] for n in range(count))


def _undoing(write: Write, owners: Sequence[Any]) -> Callable[[], None]:
    form, state = write.undo
    return lambda: apply(write.item, form, state, owners)


def _restore_names(space: dict[str, Any], bound: dict[str, Any], old: dict[str, Any]) -> None:
    for name in bound:
        if name not in old:
            dict.pop(space, name, None)
    dict.update(space, old)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Defers SIGINT; only the main thread can, and only it gets one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []
    old = signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old if old is not None else signal.SIG_DFL)
        if came and callable(old):
            old(*came[0])
