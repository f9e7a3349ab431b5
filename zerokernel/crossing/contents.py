"""What the buffers of one process hold, told by labels: equal labels mean equal bytes.

A label is a hash of a chunk's bytes, or where pages are tracked a number (below zero) that
was given to the bytes that were there while nobody wrote. So two labels of a chunk that are
equal prove that it is unchanged, and labels that differ say that it may have changed.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from zerokernel.crossing import pinned
from zerokernel.crossing.buffers import CHUNK, IN_BAND, byte_array, digests, size_of
from zerokernel.crossing.device_memory import holding
from zerokernel.crossing.file_windows import FileWindows, Window, labels_of_file
from zerokernel.crossing.pages import PAGE, Range, inner
from zerokernel.crossing.tracking import Tracking, of_this_process

Labels = tuple[int, ...]

TRACKED_FROM = 1 << 20
"""Below this size (bytes) a buffer's hash costs less than to ask about its pages."""

FAULT = 10
"""The first write to a tracked page costs as much as hashing it so many times."""

CREDIT = 16 << 30
"""Bytes whose hashing may be spent on faults before tracking has to earn them."""

_FASTER_THERE = 8
"""A device sums its memory in so much less time than it takes here to hash it."""

_HOT = 4  # written in more than one part of so many: not tracked next time
_MOST_PATIENCE = 64
_FEW_PAGES = 64 << 10  # bytes; fewer are written faster than released


@dataclass
class Watch:
    """What is known of one buffer's bytes.

    Attributes:
        address: Of its first byte.
        size: In bytes.
        labels: Of the chunks.
        hashes: Of the chunks as labelled, None where nobody has computed it.
        edges: Hashes of the bytes on pages that hold other objects too; these are not tracked.
        tracked: Whether writes to its inner pages are being noted.
        own: Chunks that the crossing itself wrote since the last look.
        beside: Chunks that have a page in common with these.
        quiet: How often in a row it was found unchanged while not tracked.
        patience: How often it must be, to be tracked (again).
    """

    address: int
    size: int
    labels: list[int]
    hashes: list[int | None]
    edges: tuple[int, int] = (0, 0)
    tracked: bool = False
    own: set[int] = field(default_factory=set)
    beside: set[int] = field(default_factory=set)
    quiet: int = 0
    patience: int = 1

    @property
    def pages(self) -> Range:
        """The whole pages of the buffer."""
        return inner(self.address, self.address + self.size)

    def chunks(self, ranges: Iterable[Range]) -> set[int]:
        """The chunks that ranges of addresses lie in."""
        found: set[int] = set()
        for start, stop in ranges:
            first, last = (start - self.address) // CHUNK, (stop - 1 - self.address) // CHUNK
            found.update(range(max(0, first), min(last + 1, len(self.labels))))
        return found


class Contents:
    """Labels the chunks of buffers; the state is one `Watch` for each large one, by its address.

    A label is of bytes at a place, whoever owns them: so it does no harm if an owner dies and
    another one gets its memory, and no reference to it is needed (NumPy resizes no array that
    is weakly referenced).

    Args:
        detection: "auto": writes are tracked where that works and pays. "tracking": wherever
            it works. "hash": never.
    """

    def __init__(self, detection: str = "auto") -> None:
        self._always = detection == "tracking"
        self._from = IN_BAND if self._always else TRACKED_FROM
        self._find: Callable[[], Tracking | None] = (
            _nothing if detection == "hash" else of_this_process
        )
        self._watches: dict[int, Watch] = {}
        self._fresh = itertools.count(-1, -1)
        self._credit = CREDIT
        self._by_devices: pinned.Pinned | None = None
        self.windows = FileWindows()
        self._hashes_all = detection == "hash"
        self._by_value: dict[int, tuple[int, int]] = {}  # windows that the other side has as bytes
        weakref.finalize(self, _untrack_all, self._watches, self._find).atexit = False

    def begin(self, living: Callable[[], Container[int]]) -> None:
        """A crossing begins: lets go of buffers that died, and looks at devices anew.

        Args:
            living: Gives the addresses of the owners that are still held; called if needed.
        """
        self._by_devices = None
        self.windows.begin()
        if self._watches or self._by_value:
            held = living()
            for number in [number for number in self._by_value if number not in held]:
                del self._by_value[number]
            for number in [number for number in self._watches if number not in held]:
                self._drop(number)

    def labels(self, owner: Any, expected: Sequence[int] | None = None) -> Labels:
        """The labels of a buffer's chunks, as they are from now on: writes after this are seen.

        Args:
            owner: An array that owns its memory, or a storage.
            expected: Labels to compare with; a chunk whose hash is asked for is hashed.
        """
        memory = holding(owner)
        if memory is not None:
            return memory.labels(owner)
        window = self.windows.find(owner)
        if window is not None:
            return self._labels_of_window(window, owner, expected)
        size = size_of(owner)
        tracking = self._find() if size >= self._from else None
        if tracking is None or not _is_plain_memory(owner):
            return digests(owner, size)
        data = byte_array(owner)
        watch = self._watch_of(owner, data)
        if watch is None:
            watch = self._begin(owner, data, tracking)
        elif not watch.tracked:
            self._hash_again(watch, data, tracking)
        elif not self._look(watch, data, tracking):
            self._untrack(watch, tracking)
            self._hash_again(watch, data, tracking)
        if expected is not None and len(expected) == len(watch.labels):
            self._adopt(watch, data, expected)
        return tuple(watch.labels)

    def labels_by_value(self, owner: Any) -> Labels:
        """The same for a buffer of which the other side gets the bytes, whatever it is here."""
        window = self.windows.find(owner)
        if window is not None:
            self._by_value[id(owner)] = (window.address, window.size)
        return self.labels(owner)

    def labels_by_file(self, owner: Any) -> Labels:
        """The same for a window of a file that the other side maps too."""
        self._by_value.pop(id(owner), None)
        return self.labels(owner)

    def _labels_of_window(
        self, window: Window, owner: Any, expected: Sequence[int] | None
    ) -> Labels:
        """Those of a part of a file: of its own are the chunks that this process wrote to."""
        count = -(-window.size // CHUNK)
        if self.windows.is_cut_short(window):
            return tuple(itertools.islice(self._fresh, count))
        here = (window.address, window.size)
        if self._hashes_all or self._by_value.get(id(owner)) == here:
            return digests(owner)
        labels = list(labels_of_file(window.area.file, window.offset, window.size, CHUNK))
        data = byte_array(owner)
        own = window.own_chunks(CHUNK)
        asked = {n for n, label in enumerate(expected or ()) if label >= 0}
        for index in own | (asked if expected is not None and len(expected) == count else set()):
            found = _hash(data, index)
            if index in own or (expected and expected[index] == found):
                labels[index] = found
        return tuple(labels)

    def writing(self, owner: Any, runs: Iterable[tuple[int, int]]) -> None:
        """The crossing itself is about to write these bytes (start, stop) of a buffer."""
        watch, tracking = self._watches.get(id(owner)), self._find()
        if watch is None or not watch.tracked or tracking is None:
            return
        spans = [(watch.address + start, watch.address + stop) for start, stop in runs]
        around = watch.chunks((start - PAGE, stop + PAGE) for start, stop in spans)
        watch.own |= watch.chunks(spans)
        watch.beside = around - watch.own
        self._know_hashes(watch, byte_array(owner), tracking, watch.beside)
        for start, stop in spans:
            first, last = inner(start, stop)
            first, last = max(first, watch.pages[0]), min(last, watch.pages[1])
            if last - first > _FEW_PAGES:
                tracking.release(first, last)

    def cost(self, owner: Any) -> int:
        """The bytes that must be hashed to label a buffer again, about."""
        if (size := size_of(owner)) < IN_BAND:
            return size
        if holding(owner) is not None:
            return size // _FASTER_THERE
        if self.windows.find(owner) is not None and not self._hashes_all:
            return 0 if id(owner) not in self._by_value else size
        watch = self._watches.get(id(owner))
        return 0 if watch is not None and watch.tracked else size

    # -- one buffer --------------------------------------------------------------------

    def _watch_of(self, owner: Any, data: Any) -> Watch | None:
        """The watch of this very memory; one of memory that was let go of is dropped."""
        watch = self._watches.get(id(owner))
        if watch is None:
            return None
        if _place(data) == (watch.address, watch.size):
            return watch
        self._drop(id(owner))
        return None

    def _begin(self, owner: Any, data: Any, tracking: Tracking) -> Watch:
        address, size = _place(data)
        count = -(-size // CHUNK)
        watch = self._watches[id(owner)] = Watch(address, size, [], [None] * count)
        if (self._always or self._credit > 0) and self._track(watch, data, tracking):
            watch.labels = list(itertools.islice(self._fresh, count))
        else:
            found = digests(data)
            watch.labels, watch.hashes = list(found), list(found)
        return watch

    def _drop(self, number: int) -> None:
        watch, tracking = self._watches.pop(number), self._find()
        if tracking is not None:
            self._untrack(watch, tracking)

    def _track(self, watch: Watch, data: Any, tracking: Tracking) -> bool:
        """Begins to note writes, from before anything is looked at."""
        if not self._may_track(watch) or not tracking.begin(*watch.pages):
            return False
        watch.tracked = True
        watch.edges = _edges(watch, data)
        return True

    def _untrack(self, watch: Watch, tracking: Tracking) -> None:
        if watch.tracked:
            watch.tracked = False
            tracking.end(*watch.pages)
        watch.own, watch.beside = set(), set()

    def _may_track(self, watch: Watch) -> bool:
        if self._by_devices is None:
            self._by_devices = pinned.look()
        return not self._by_devices.may_hold(watch.address, watch.address + watch.size)

    def _look(self, watch: Watch, data: Any, tracking: Tracking) -> bool:
        """Gives new labels to chunks that were written; false where nobody can tell any more."""
        if not self._may_track(watch):
            return False
        written = tracking.take_written(*watch.pages)
        if written is None:
            return False
        changed = watch.chunks(written)
        by_user = sum(stop - start for start, stop in written)
        if watch.own:
            changed -= {n for n in watch.beside & changed if _hash(data, n) == watch.hashes[n]}
            by_user = min(by_user, CHUNK * len(changed - watch.own))
            watch.own, watch.beside = set(), set()
        self._relabel(watch, changed)
        self._look_at_edges(watch, data)
        self._credit = min(CREDIT, self._credit + watch.size - (FAULT + 1) * by_user)
        if by_user * _HOT > watch.size and not self._always:
            self._cool(watch, data, tracking)
        return True

    def _relabel(self, watch: Watch, chunks: Iterable[int]) -> None:
        for index in chunks:
            watch.labels[index] = next(self._fresh)
            watch.hashes[index] = None

    def _look_at_edges(self, watch: Watch, data: Any) -> None:
        now = _edges(watch, data)
        changed = {
            place for place, old, new in zip((0, -1), watch.edges, now, strict=True) if old != new
        }
        self._relabel(watch, changed)
        watch.edges = now

    def _cool(self, watch: Watch, data: Any, tracking: Tracking) -> None:
        """Goes over to hashes for a buffer that is written as a whole."""
        self._know_hashes(watch, data, tracking, range(len(watch.hashes)))
        self._untrack(watch, tracking)
        watch.quiet, watch.patience = 0, min(2 * watch.patience, _MOST_PATIENCE)

    def _know_hashes(
        self, watch: Watch, data: Any, tracking: Tracking, chunks: Iterable[int]
    ) -> None:
        """Computes the hashes of chunks as they are labelled, or gives them new labels."""
        unknown = [index for index in chunks if watch.hashes[index] is None]
        for index in unknown:
            watch.hashes[index] = _hash(data, index)
        # What was written before a hash was computed has not the label that it is noted under.
        meanwhile = tracking.take_written(*watch.pages)
        self._relabel(watch, watch.chunks([watch.pages] if meanwhile is None else meanwhile))
        self._look_at_edges(watch, data)

    def _hash_again(self, watch: Watch, data: Any, tracking: Tracking) -> None:
        """Labels by hash, after tracking was begun where that seems to pay."""
        if self._always or watch.quiet >= watch.patience:
            self._track(watch, data, tracking)
        changed = False
        for index, now in enumerate(digests(data)):
            if now != watch.hashes[index]:
                watch.labels[index] = watch.hashes[index] = now
                changed = True
        watch.quiet = 0 if changed else watch.quiet + 1

    def _adopt(self, watch: Watch, data: Any, expected: Sequence[int]) -> None:
        """Takes over expected hashes for chunks that have them."""
        for index, (label, wanted) in enumerate(zip(watch.labels, expected, strict=True)):
            if label == wanted or wanted < 0:
                continue
            known = watch.hashes[index]
            if known is None:
                known = watch.hashes[index] = _hash(data, index)
            if known == wanted:
                watch.labels[index] = wanted


def _untrack_all(watches: dict[int, Watch], find: Callable[[], Tracking | None]) -> None:
    tracking = find()
    for watch in watches.values():
        if watch.tracked and tracking is not None:
            tracking.end(*watch.pages)


def told(label: Labels, data: Any, runs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The hashes of the chunks in byte ranges (start, stop), for the other side to check.

    Args:
        label: Of the buffer.
        data: Its bytes, of which those in the ranges count.
        runs: The ranges.
    """
    chunks = (n for start, stop in runs for n in range(start // CHUNK, -(-stop // CHUNK)))
    return {n: label[n] if label[n] >= 0 else _hash(data, n) for n in chunks}


def _hash(data: Any, index: int) -> int:
    return xxhash.xxh3_128_intdigest(data[index * CHUNK : (index + 1) * CHUNK])


def _edges(watch: Watch, data: Any) -> tuple[int, int]:
    first, last = watch.pages
    head, tail = first - watch.address, last - watch.address
    return xxhash.xxh3_64_intdigest(data[:head]), xxhash.xxh3_64_intdigest(data[tail:])


def _place(data: Any) -> tuple[int, int]:
    return data.__array_interface__["data"][0], data.nbytes


def _is_plain_memory(owner: Any) -> bool:
    """Whether the bytes of a buffer lie side by side in this process's own memory."""
    flags = getattr(owner, "flags", None)
    return holding(owner) is None if flags is None else bool(flags.forc)


def _nothing() -> None:
    return None
